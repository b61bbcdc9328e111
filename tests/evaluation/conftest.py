"""A real backbone that is small enough to encode thousands of images in a test."""

import pytest
import torch

from gadkit.backbones import OpenCLIP
from gadkit.backbones.tiny import TinyConfig, build_tiny_clip, tokenizer


@pytest.fixture(scope="session")
def small() -> OpenCLIP:
    """The tiny CLIP's architecture, smaller still and untrained: 4 x 4 patches of 32 dimensions, 2 blocks."""
    torch.manual_seed(1)
    return OpenCLIP(
        build_tiny_clip(TinyConfig(image_size=32, width=32, layers=2, head_width=16, embed=24)), tokenizer()
    )
