"""A real backbone that is small enough to encode thousands of images in a test, and a linear layer by hand."""

from collections.abc import Callable

import pytest
import torch


@pytest.fixture(scope="session")
def small(tiny_clip: Callable) -> "gadkit.backbones.OpenCLIP":
    """The tiny CLIP's architecture, smaller still and untrained: 4 x 4 patches of 32 dimensions, 2 blocks."""
    return tiny_clip(image_size=32, width=32, layers=2, head_width=16, embed=24)


@pytest.fixture
def plain_head() -> Callable:
    """A function that makes a head of weights (k, d) and k offsets, for features that are not standardised."""
    from gadkit.evaluation.probes import Linear

    def make(weight: list[list[float]], bias: list[float]) -> Linear:
        width = len(weight[0])
        return Linear(torch.zeros(width), torch.ones(width), torch.tensor(weight), torch.tensor(bias))

    return make
