"""Encoded once, in chunks that change nothing."""

import pytest
import torch

from gadkit.backbones import OpenCLIP, Timm
from gadkit.backbones.timm_models import TINY
from gadkit.evaluation.features import Features, encode
from gadkit.nn.baselines import tiny_model


def test_chunks_change_nothing_and_blocks_are_means_of_patches(small: OpenCLIP, images: torch.Tensor) -> None:
    whole, pieces = (encode(small, images, blocks=True, patches=True, chunk=n) for n in (99, 3))
    tokens = small.encode_image(small.preprocess(images), (0, 1))
    torch.testing.assert_close(whole.pooled, tokens.pooled)
    torch.testing.assert_close(whole.patches, tokens.patches[1])
    torch.testing.assert_close(whole.blocks, tuple(p.mean(1) for p in tokens.patches))
    for a, b in (
        (whole.pooled, pieces.pooled),
        (whole.patches, pieces.patches),
        *zip(whole.blocks, pieces.blocks, strict=True),
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    assert whole.grid == small.grid
    plain = encode(small, images)
    assert plain.blocks == ()
    assert plain.patches is None


def test_a_set_is_encoded_once(small: OpenCLIP, images: torch.Tensor) -> None:
    see = Features(small)
    first = see("a", images, patches=True)
    assert see("a", images, patches=True) is first
    assert see("b", images.flip(0), patches=True) is not first
    assert see("a", images).patches is None
    assert see.once("sum", lambda: 1) == see.once("sum", lambda: 2) == 1


@pytest.mark.usefixtures("untyped")
def test_what_is_no_image_is_named(small: OpenCLIP) -> None:
    assert small.depth == 2
    with pytest.raises(ValueError, match="uint8"):
        encode(small, torch.rand(2, 3, 8, 8))


@pytest.mark.parametrize("architecture", ["vit", "convnext", "swin"])
def test_stages_of_any_network_will_do(architecture: str, images: torch.Tensor) -> None:
    backbone = Timm(tiny_model(architecture), TINY, patch_size=8)
    seen = encode(backbone, images, blocks=True, patches=True)
    assert len(seen.blocks) == backbone.depth == {"vit": 6, "convnext": 4, "swin": 4}[architecture]
    assert seen.patches.shape[:2] == (4, seen.grid[0] * seen.grid[1])
    torch.testing.assert_close(seen.blocks[-1], seen.patches.mean(1))
