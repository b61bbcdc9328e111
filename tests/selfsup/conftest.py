"""Photographs for the self-supervised methods to work on, and a network small enough to learn in a second."""

from collections.abc import Callable

import pytest
import torch

from gadkit.factory.pool import unlabelled


@pytest.fixture(scope="session")
def photographs() -> torch.Tensor:
    """Some of everything in the factory: uint8, (64, 3, 48, 48)."""
    return unlabelled(64, size=48).images


@pytest.fixture
def small() -> Callable:
    """A function that makes a small encoder, always the same."""
    from gadkit.nn import ViT

    def make(**options) -> ViT:
        torch.manual_seed(0)
        return ViT(**{"image_size": 32, "width": 32, "depth": 2, "heads": 2, **options})

    return make
