"""Blocks of hidden patches: as many as asked for, in one piece more often than not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gadkit.nn.masks import block_masks


@given(
    grid=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_every_image_hides_exactly_what_was_asked_for(grid: tuple[int, int], shares: list[float], seed: int) -> None:
    n = grid[0] * grid[1]
    counts = [int(share * n) for share in shares]
    masks = block_masks(counts, grid, torch.Generator().manual_seed(seed))
    assert masks.shape == (len(counts), n)
    assert masks.sum(1).tolist() == counts


def test_hidden_patches_lie_in_blocks() -> None:
    """Of the neighbours of a hidden patch many more are hidden than of patches that are drawn one by one."""
    masks = block_masks([28] * 200, (14, 14)).view(200, 14, 14)
    beside = masks[:, :, 1:][masks[:, :, :-1]].float().mean()
    alone = torch.rand(200, 196).argsort(1).argsort(1).lt(28).view(200, 14, 14)
    assert alone[:, :, 1:][alone[:, :, :-1]].float().mean() < 0.2
    assert beside > 0.6


def test_every_place_is_hidden_at_times() -> None:
    often = block_masks([16] * 1000, (8, 8)).float().mean(0).view(8, 8)
    assert often.min() > 0.02  # a corner belongs to few rectangles
    assert often.mean().item() == pytest.approx(0.25)
    torch.testing.assert_close(often, often.flip(0), rtol=0, atol=0.08)


@pytest.mark.parametrize("counts", [[10], [-1, 3]])
def test_what_the_grid_does_not_hold_is_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="counts: expected 0 to 9 patches an image"):
        block_masks(counts, (3, 3))
