"""Windows, their aggregation and associations, against loops."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from gadkit.anomaly.maps import association, harmonic_mean, spread_windows, upsample, window_indices

grids = st.tuples(st.integers(1, 6), st.integers(1, 6))


def corners(grid: tuple[int, int], scale: int) -> list[tuple[int, int]]:
    return [(r, c) for r in range(grid[0] - scale + 1) for c in range(grid[1] - scale + 1)]


@given(grid=grids, scale=st.integers(1, 6))
def test_windows_are_where_they_should_be(grid: tuple[int, int], scale: int) -> None:
    if scale > min(grid):
        with pytest.raises(ValueError, match="scale: expected"):
            window_indices(grid, scale)
        return
    square = range(scale)
    expected = [[(r + i) * grid[1] + c + j for i in square for j in square] for r, c in corners(grid, scale)]
    assert window_indices(grid, scale).tolist() == expected


def test_the_papers_counts() -> None:
    assert window_indices((15, 15), 2).shape == (196, 4)
    assert window_indices((15, 15), 3).shape == (169, 9)
    with pytest.raises(ValueError, match="1 to 15 patches, got 0"):
        window_indices((15, 15), 0)


@given(grid=grids, scale=st.integers(1, 4), seed=st.integers(0, 99))
def test_a_patch_gets_the_harmonic_mean_of_its_windows(grid: tuple[int, int], scale: int, seed: int) -> None:
    scale = min(scale, *grid)
    where = corners(grid, scale)
    scores = torch.rand(2, len(where), generator=torch.Generator().manual_seed(seed)) + 0.01
    ours = spread_windows(scores, grid, scale)
    for b in range(2):
        for y in range(grid[0]):
            for x in range(grid[1]):
                own = [
                    1 / scores[b, i].item()
                    for i, (r, c) in enumerate(where)
                    if r <= y < r + scale and c <= x < c + scale
                ]
                assert ours[b, y, x].item() == pytest.approx(len(own) / sum(own), rel=1e-5)


def test_a_window_without_any_anomaly_clears_its_patches() -> None:
    scores = torch.ones(1, 4)
    scores[0, 0] = 0
    assert spread_windows(scores, (3, 3), 2)[0].tolist() == [[0, 0, 1], [0, 0, 1], [1, 1, 1]]
    with pytest.raises(ValueError, match=r"expected shape \(b, 4\), got \(1, 9\)"):
        spread_windows(torch.ones(1, 9), (3, 3), 2)


def test_harmonic_mean() -> None:
    means = harmonic_mean([torch.tensor([1.0, 0.0, 0.5]), torch.tensor([1.0, 1.0, 0.25])])
    torch.testing.assert_close(means, torch.tensor([1, 0, 1 / 3]))
    with pytest.raises(ValueError, match="at least one"):
        harmonic_mean([])


def test_upsampling_interpolates_between_patch_centres() -> None:
    maps = upsample(torch.tensor([[[0.0, 1.0]]]), (2, 8))
    torch.testing.assert_close(maps[0, 0], torch.tensor([0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]))
    assert torch.equal(maps[0, 0], maps[0, 1])
    with pytest.raises(ValueError, match="one pixel"):
        upsample(maps, (0, 8))
    with pytest.raises(ValueError, match=r"maps: expected at least one pixel, got shape \(1, 0, 8\)"):
        upsample(maps[:, :0], (2, 8))


def unit(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_association_is_half_the_distance_to_the_nearest(chunk: int, generator: torch.Generator) -> None:
    queries, references = unit(2, 5, 8, generator=generator), unit(7, 8, generator=generator)
    ours = association(queries, references, chunk)
    for b in range(2):
        for n in range(5):
            nearest = max(float(queries[b, n] @ r) for r in references)
            assert ours[b, n].item() == pytest.approx((1 - nearest) / 2, abs=1e-6)


def test_association_of_members_and_opposites(generator: torch.Generator) -> None:
    references = unit(50, 640, generator=generator)
    assert association(references[None], references).max() < 1e-6
    assert association(references[None], references).min() >= 0  # whatever the rounding
    torch.testing.assert_close(association(-references[None, :1], references[:1]), torch.ones(1, 1))


def test_a_reference_more_never_raises_a_score(untyped: None, generator: torch.Generator) -> None:
    queries, references = unit(1, 20, 4, generator=generator), unit(9, 4, generator=generator)
    assert (association(queries, references) <= association(queries, references[:5]) + 1e-6).all()  # but for rounding
    for wrong in (references[:0], references[:, :3]):
        with pytest.raises(ValueError, match="references: expected"):
            association(queries, wrong)
    with pytest.raises(ValueError, match="chunk size"):
        association(queries, references, 0)


def test_one_pixel_is_the_least_of_a_map() -> None:
    assert upsample(torch.full((1, 2, 2), 0.5), (1, 1)).tolist() == [[[0.5]]]
    for size in ((0, 8), (8, 0)):
        with pytest.raises(ValueError, match="at least one pixel a side"):
            upsample(torch.zeros(1, 2, 2), size)
    with pytest.raises(ValueError, match="maps: expected finite numbers, got 1"):
        upsample(torch.tensor([[[0.0, torch.nan]]]), (2, 2))


def test_windows_of_grids_that_are_not_square() -> None:
    assert window_indices((1, 3), 1).tolist() == [[0], [1], [2]]
    assert window_indices((2, 3), 2).tolist() == [[0, 1, 3, 4], [1, 2, 4, 5]]
    assert spread_windows(torch.tensor([[1.0, 0.5]]), (2, 3), 2)[0, 0].tolist() == pytest.approx([1, 2 / 3, 0.5])
    for grid in ((1, 3), (3, 1)):
        with pytest.raises(ValueError, match="a window of 1 to 1 patches, got 2"):
            window_indices(grid, 2)


def test_association_needs_both_sides() -> None:
    x = torch.eye(2)
    with pytest.raises(ValueError, match="references: expected some, and queries"):
        association(x[None], x[:0])
    with pytest.raises(ValueError, match="references: expected some, and queries"):
        association(torch.zeros(1, 0, 2), x)
    assert association(x[None], x[:1]).tolist() == [[0, 0.5]]
