"""Photographs of parts for pretext tasks to work on, and a network small enough to learn in a second."""

from collections.abc import Callable

import pytest
import torch

from gadkit import factory
from gadkit.factory import geometry


@pytest.fixture(scope="session")
def surveyed() -> geometry.Geometry:
    """Eight products of each of eight kinds, with their geometry: (64, 3, 96, 96)."""
    kinds = ("washer", "gear", "key", "coin", "chip", "bottle", "leaf", "mosaic")
    found = [
        geometry.geometry_of(factory.survey(kind, torch.arange(8) + 8 * i, torch.arange(8) + 8 * i))
        for i, kind in enumerate(kinds)
    ]
    return geometry.Geometry(*(torch.cat([getattr(g, f) for g in found]) for f in ("images", "height", "materials")))


@pytest.fixture(scope="session")
def parts(surveyed: geometry.Geometry) -> torch.Tensor:
    """The photographs alone: uint8, (64, 3, 96, 96)."""
    return surveyed.images


@pytest.fixture
def small() -> Callable:
    """A function that makes a small encoder."""
    from gadkit.nn.vit import ViT

    return lambda: ViT(width=64, depth=1, heads=2)


@pytest.fixture
def learn() -> Callable:
    """A function that trains a method for a few steps and returns (its first loss, the mean of its last five)."""

    def run(method, data, steps: int = 30, batch: int = 32) -> tuple[float, float]:
        torch.manual_seed(0)
        optimiser = torch.optim.AdamW(method.parameters(), lr=2e-3)
        losses = []
        for step in range(steps):
            data = {"images": data} if isinstance(data, torch.Tensor) else data
            rows = torch.randint(len(data["images"]), (batch,))
            loss = method.loss(method.views({k: v[rows] for k, v in data.items()}))
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
            optimiser.step()
            method.after_step((step + 1) / steps)
            losses.append(loss.item())
        return losses[0], sum(losses[-5:]) / 5

    return run
