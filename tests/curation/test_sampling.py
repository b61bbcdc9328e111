"""A budget, poured down a tree: brute force, and laws."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gadkit.curation import Tree, hierarchical_kmeans, quotas, sample, waterfall
from gadkit.search.kmeans import centre_distances

vessels = st.lists(st.integers(0, 60), min_size=1, max_size=12)


def by_hand(sizes: list[int], target: int) -> int:
    """The highest level at which the vessels do not give more than asked for."""
    return max(level for level in range(max(sizes) + 1) if sum(min(s, level) for s in sizes) <= target)


@given(vessels, st.integers(0, 400))
def test_the_budget_is_met_exactly_and_as_evenly_as_can_be(sizes: list[int], target: int) -> None:
    shares = waterfall(torch.tensor(sizes), target, torch.Generator().manual_seed(0)).tolist()
    assert sum(shares) == min(target, sum(sizes))
    level = by_hand(sizes, target)
    for size, share in zip(sizes, shares, strict=True):
        assert min(size, level) <= share <= min(size, level + 1)


@given(vessels, st.integers(0, 400))
def test_more_to_give_never_means_less_for_anybody(sizes: list[int], target: int) -> None:
    def draw(budget: int) -> torch.Tensor:
        return waterfall(torch.tensor(sizes), budget, torch.Generator().manual_seed(0))

    assert (draw(target + len(sizes)) >= draw(target)).all()
    order = torch.tensor(sizes).argsort()
    assert (draw(target)[order].diff() >= -1).all(), "a larger vessel gives as much as a smaller one, but for the lot"


@pytest.mark.parametrize(
    ("target", "shares"), [(7, [1, 2, 2, 2]), (20, [1, 5, 7, 7]), (0, [0] * 4), (99, [1, 5, 9, 22])]
)
def test_known_answers(target: int, shares: list[int]) -> None:
    assert waterfall(torch.tensor([1, 5, 9, 22]), target).tolist() == shares


def test_what_is_left_is_drawn_by_lot() -> None:
    drawn = {tuple(waterfall(torch.tensor([5, 5, 5]), 4).tolist()) for _ in range(40)}
    assert drawn == {(2, 1, 1), (1, 2, 1), (1, 1, 2)}


@pytest.mark.parametrize(("sizes", "target"), [([-1, 2], 1), ([1.5], 1), ([], 1), ([1, 2], -1)])
def test_bad_vessels(untyped: None, sizes: list, target: int) -> None:
    with pytest.raises(ValueError, match=r"(waterfall|sizes): expected"):
        waterfall(torch.tensor(sizes), target)


def small() -> Tree:
    """Two clusters of three and one leaves, which hold 8, 1, 3 and 20 rows."""
    leaf = torch.arange(4).repeat_interleave(torch.tensor([8, 1, 3, 20]))
    upper = torch.tensor([0, 0, 0, 1])
    return Tree(
        (torch.zeros(4, 2), torch.zeros(2, 2)), (leaf, upper), (torch.tensor([8, 1, 3, 20]), torch.tensor([12, 20]))
    )


def test_a_budget_runs_from_the_top_to_the_leaves() -> None:
    leaves, top = quotas(small(), 16)
    assert top.tolist() == [8, 8]
    assert (leaves[1], leaves[2], leaves[3]) == (1, 3, 8)
    assert leaves[0] == 4, "small leaves give all, and the rest is made up for by the large one"
    assert [int(level.sum()) for level in quotas(small(), 500)] == [32, 32]


@given(st.integers(0, 40), st.integers(0, 3))
def test_rows_are_those_of_the_quotas(target: int, seed: int) -> None:
    tree = small()
    rows = sample(tree, target, generator=torch.Generator().manual_seed(seed))
    assert len(rows) == len(rows.unique()) == min(target, 32)
    assert (rows.diff() > 0).all()
    shares = quotas(tree, target, torch.Generator().manual_seed(seed))[0]
    assert torch.equal(tree.parents[0][rows].bincount(minlength=4), shares)


def test_closest_and_furthest(generator: torch.Generator) -> None:
    x = torch.randn(200, 3, generator=generator)
    tree = hierarchical_kmeans(x, [10, 3], generator=generator)
    away = centre_distances(x, tree.centres[0], tree.parents[0])
    for choice, sign in (("closest", 1), ("furthest", -1)):
        rows = sample(tree, 40, choice, x, torch.Generator().manual_seed(1))
        taken = torch.zeros(200, dtype=torch.bool).index_fill(0, rows, True)
        for leaf in tree.parents[0].unique():
            inside = tree.parents[0] == leaf
            if (inside & taken).any() and (inside & ~taken).any():
                assert (sign * away[inside & taken]).max() <= (sign * away[inside & ~taken]).min()


def test_bad_choices(untyped: None) -> None:
    with pytest.raises(ValueError, match="choice: expected one of random, closest, furthest, got 'best'"):
        sample(small(), 3, "best")
    with pytest.raises(ValueError, match="x: expected the 32 rows"):
        sample(small(), 3, "closest")
    with pytest.raises(ValueError, match="generator: expected one of the same seed"):
        sample(small(), 3, shared=True)
