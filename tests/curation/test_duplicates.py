"""Near-duplicates go exactly once, and curation as a whole keeps its promises."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from gadkit.curation import curate, twins


def brute_force(x: torch.Tensor, threshold: float) -> list[int]:
    """The first row of each row's connected component, by spreading the smallest number."""
    z = F.normalize(x, dim=1)
    alike = z @ z.T >= threshold - 1e-6
    first = torch.arange(len(x))
    for _ in range(len(x)):
        first = torch.where(alike, first[None], len(x)).amin(1)
    return first.tolist()


@given(st.integers(0, 1000), st.floats(0.3, 0.99))
def test_groups_are_connected_components(seed: int, threshold: float) -> None:
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(seed))
    assert twins(x, threshold).tolist() == brute_force(x, threshold)


def test_every_copy_goes_and_one_stays(generator: torch.Generator) -> None:
    x = torch.randn(50, 16, generator=generator)
    rows = torch.randint(50, (300,), generator=generator)
    many = x[rows] * (0.5 + torch.rand(300, 1, generator=generator))  # length is no difference
    found = twins(many, 0.999)
    assert (rows[found] == rows).all()
    assert len(found.unique()) == len(rows.unique())
    assert (found[found] == found).all()
    for row in range(50):
        where = (rows == row).nonzero()[:, 0]
        if len(where):
            assert (found[where] == where[0]).all(), "the first one stands for all"


def test_more_copies_than_neighbours() -> None:
    x = torch.eye(3).repeat_interleave(40, 0)
    assert twins(x, 0.99, neighbours=2).unique().tolist() == [0, 40, 80]


def test_no_two_of_the_kept_are_alike(generator: torch.Generator) -> None:
    x = F.normalize(torch.randn(400, 3, generator=generator), dim=1)
    kept = twins(x, 0.97, neighbours=3).unique()
    z = x[kept].double()
    assert (z @ z.T).fill_diagonal_(-1).max() < 0.97 + 1e-5


@given(st.integers(0, 1000), st.floats(0.3, 0.99))
def test_the_first_in_order_stands_for_its_group(seed: int, threshold: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    x, order = torch.randn(40, 4, generator=draw), torch.randperm(40, generator=draw)
    rank = order.argsort()
    groups = torch.tensor(brute_force(x, threshold))
    expected = [min((groups == group).nonzero()[:, 0].tolist(), key=lambda row: rank[row]) for group in groups]
    assert twins(x, threshold, order=order).tolist() == expected
    assert torch.equal(twins(x, threshold, order=torch.arange(40)), twins(x, threshold))


def test_the_order_holds_where_there_are_more_copies_than_neighbours() -> None:
    x = torch.eye(3).repeat_interleave(40, 0)
    order = torch.arange(120).flip(0)
    assert twins(x, 0.99, neighbours=2, order=order).unique().tolist() == [39, 79, 119]
    found = curate(x, 3, None, 0.99, order=order)
    assert found.kept.tolist() == [39, 79, 119]


@pytest.mark.parametrize("order", [[0, 1, 1], [0, 1], [0, 1, 3]])
def test_an_order_that_is_none(untyped: None, order: list[int]) -> None:
    with pytest.raises(ValueError, match=r"order: expected (each of the 3 rows once|.* beside x)"):
        twins(torch.eye(3), 0.9, order=torch.tensor(order))


@pytest.mark.parametrize(("threshold", "neighbours"), [(1.1, 8), (-1.0, 8), (0.9, 1)])
def test_bad_thresholds(untyped: None, threshold: float, neighbours: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        twins(torch.randn(9, 2), threshold, neighbours)


def test_curation_as_a_whole(generator: torch.Generator) -> None:
    centres = F.normalize(torch.randn(6, 32, generator=generator), dim=1)
    counts = torch.tensor([400, 100, 40, 20, 20, 20])
    labels = torch.arange(6).repeat_interleave(counts)
    x = centres[labels] + 0.05 * torch.randn(600, 32, generator=generator)
    x[100:200] = x[:100]
    found = curate(x, 60, [40, 6], 0.9999, generator=generator)
    assert torch.equal(found.twin[100:200], torch.arange(100))
    assert len(found.kept) == len(found.kept.unique()) == 60
    assert (found.twin[found.kept] == found.kept).all()
    assert torch.equal(found.clusters, found.clusters[found.twin])
    assert found.clusters.shape == (600, 2)
    assert torch.equal(found.clusters[found.twin.unique(), 1], found.tree.assignment())
    assert labels[found.kept].bincount(minlength=6).max() < 20, "400 of 600 before, a sixth after"


def test_curation_is_reproducible_and_never_asks_for_more_than_there_is() -> None:
    x = torch.randn(80, 8, generator=torch.Generator().manual_seed(2))
    one, two = (curate(x, 30, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one.kept, two.kept)
    assert curate(x, 500, duplicates=None).kept.tolist() == [*range(80)]
    assert curate(x[torch.arange(80) // 2], 500, [80, 50, 3], 1.0).tree.centres[0].shape == (40, 8)


def test_clusters_that_do_not_fall() -> None:
    with pytest.raises(ValueError, match=r"clusters: expected numbers that fall, got \[2, 5\]"):
        curate(torch.eye(4), 2, [2, 5], None)


@pytest.mark.parametrize(("x", "keep"), [(torch.randn(5, 2), 0), (torch.randn(0, 2), 3)])
def test_nothing_to_keep(untyped: None, x: torch.Tensor, keep: int) -> None:
    with pytest.raises(ValueError, match=r"(keep: expected a whole number from 1|x: expected at least 1 row)"):
        curate(x, keep)
