"""The smallest CLIP that the tests of detectors share."""

from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def small(tiny_clip: Callable) -> Callable[..., "gadkit.backbones.OpenCLIP"]:
    """A function of a seed and a device (None: the run's) that makes an untrained CLIP: 5 x 5 patches, 3 blocks."""
    from gadkit import runtime

    sizes = {"image_size": 40, "width": 32, "layers": 3, "head_width": 16, "text_layers": 1}
    return lambda seed=1, device=None: tiny_clip(seed, device or runtime.device(), **sizes)


@pytest.fixture(scope="session")
def backbone(small: Callable) -> "gadkit.backbones.OpenCLIP":
    """One of them, on the CPU."""
    return small(device="cpu")


@pytest.fixture(scope="session")
def placed(small: Callable) -> "gadkit.backbones.OpenCLIP":
    """The same one, on the device that the tests run on."""
    return small()
