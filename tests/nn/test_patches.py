"""Patches: transformers' order, and back without a loss."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gadkit.nn import patchify, unpatchify


@pytest.fixture
def pictures() -> torch.Tensor:
    """Noise that is not square: (2, 3, 24, 40)."""
    return torch.rand(2, 3, 24, 40)


def test_patches_are_those_of_transformers_vitmae() -> None:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    decoder = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    reference = ViTMAEForPreTraining(ViTMAEConfig(**tiny, **decoder, image_size=32, patch_size=8))
    pictures = torch.rand(2, 3, 32, 32)
    assert torch.equal(patchify(pictures, 8), reference.patchify(pictures))
    assert torch.equal(unpatchify(patchify(pictures, 8), 8, (4, 4)), reference.unpatchify(patchify(pictures, 8)))


def test_a_patch_is_a_square_of_the_image_rows_first(pictures: torch.Tensor) -> None:
    patches = patchify(pictures, 8)
    assert patches.shape == (2, 3 * 5, 8 * 8 * 3)
    assert torch.equal(patches[1, 5 + 3], pictures[1, :, 8:16, 24:32].permute(1, 2, 0).flatten())


@given(rows=st.integers(1, 5), columns=st.integers(1, 5), patch=st.sampled_from([1, 2, 4]))
def test_unpatchify_undoes_patchify(rows: int, columns: int, patch: int) -> None:
    pictures = torch.rand(2, 3, rows * patch, columns * patch)
    assert torch.equal(unpatchify(patchify(pictures, patch), patch, (rows, columns)), pictures)


@pytest.mark.usefixtures("untyped")
def test_what_does_not_fit_is_refused(pictures: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"multiples of 16, got \(24, 40\)"):
        patchify(pictures, 16)
    with pytest.raises(ValueError, match=r"expected shape \(b, 16, 192\), got \(2, 15, 192\)"):
        unpatchify(patchify(pictures, 8), 8, (4, 4))
