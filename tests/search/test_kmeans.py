"""k-means is held to its laws, and to scikit-learn from the same seeds."""

import itertools

import pytest
import torch
from sklearn.cluster import KMeans as Reference

from gadkit.search import neighbors
from gadkit.search.kmeans import _draw, assign, centre_distances, kmeans, lloyd, plus_plus


@pytest.fixture
def x(generator: torch.Generator) -> torch.Tensor:
    """Four clouds that touch, far from zero: (200, 3)."""
    middles = torch.tensor([[0.0, 0, 0], [3, 0, 0], [0, 3, 0], [3, 3, 1]]).repeat(50, 1)
    return middles + torch.randn(200, 3, generator=generator) + 100


def test_an_assignment_is_the_nearest_centre(x: torch.Tensor) -> None:
    far = torch.cdist(x, x[:7], compute_mode="donot_use_mm_for_euclid_dist")
    index = assign(x, x[:7])
    assert torch.equal(index, far.argmin(1))
    torch.testing.assert_close(centre_distances(x, x[:7], index), far.amin(1))
    with pytest.raises(ValueError, match="expected rows of 7 centres, got 0 to 7"):
        centre_distances(x[:2], x[:7], torch.tensor([0, 7]))


def test_the_inertia_never_rises(x: torch.Tensor) -> None:
    inertia = [lloyd(x, x[:5], steps).inertia for steps in range(8)]
    assert all(after <= before for before, after in itertools.pairwise(inertia))
    assert inertia[-1] < 0.9 * inertia[0]


def test_from_the_same_seeds_the_clusters_are_scikit_learn_s(x: torch.Tensor) -> None:
    reference = Reference(5, init=x[:5].numpy(), n_init=1, tol=0, max_iter=300, algorithm="lloyd").fit(x.numpy())
    found = lloyd(x, x[:5], 300)
    assert found.inertia == pytest.approx(reference.inertia_, rel=1e-5)
    torch.testing.assert_close(found.centres, torch.from_numpy(reference.cluster_centers_), rtol=1e-5, atol=1e-4)
    assert found.assignment.tolist() == reference.labels_.tolist()


def test_a_tolerance_ends_it_early(x: torch.Tensor) -> None:
    first, done = lloyd(x, x[:5], 1), lloyd(x, x[:5], 300)
    assert torch.equal(lloyd(x, x[:5], 300, tol=1e6).centres, first.centres)
    assert not torch.equal(first.centres, done.centres)
    with pytest.raises(ValueError, match="tol: expected a distance from 0"):
        lloyd(x, x[:5], tol=-1.0)


def test_a_centre_without_rows_stays(x: torch.Tensor) -> None:
    lonely = torch.full((1, 3), 1e4)
    found = lloyd(x, torch.cat([x[:2], lonely]), 10)
    assert torch.equal(found.centres[2], lonely[0])
    assert not (found.assignment == 2).any()


def test_seeds_are_rows_and_none_twice_while_others_are_left(x: torch.Tensor, generator: torch.Generator) -> None:
    seeds = plus_plus(x, 20, generator)
    far = torch.cdist(seeds, x, compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.equal(far.amin(1), torch.zeros(20))
    assert far.argmin(1).unique().numel() == 20
    copies = torch.ones(4, 2)
    assert torch.equal(plus_plus(copies, 3, generator), copies[:3]), "of rows that all coincide any will do"


def test_a_row_is_drawn_by_its_squared_distance(generator: torch.Generator) -> None:
    line = torch.tensor([[0.0], [0.0], [0.0], [1.0], [3.0]])
    seconds = [plus_plus(line, 2, generator) for _ in range(2000)]
    away = [float(pair[1]) for pair in seconds if pair[0] == 0]
    assert set(away) == {1.0, 3.0}
    assert away.count(3.0) / len(away) == pytest.approx(0.9, abs=0.03)  # 9 to 1, and not 3 to 1


def test_the_whole_is_seeds_and_steps(x: torch.Tensor) -> None:
    draws = [torch.Generator().manual_seed(3) for _ in range(2)]
    found, expected = kmeans(x, 4, draws[0], 7), lloyd(x, plus_plus(x, 4, draws[1]), 7)
    assert torch.equal(found.centres, expected.centres)
    with pytest.raises(ValueError, match="k: expected from 1 to the number of rows, 200, got 201"):
        kmeans(x, 201)


def test_parts_change_nothing(x: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    index, whole = assign(x, x[:7]), lloyd(x, x[:5], 3)
    far = centre_distances(x, x[:7], index)
    monkeypatch.setattr(neighbors, "CHUNK", 8 * 7 * 33)  # 33 rows at once, of 200
    assert torch.equal(assign(x, x[:7]), index)
    torch.testing.assert_close(centre_distances(x, x[:7], index), far)
    parts = lloyd(x, x[:5], 3)
    torch.testing.assert_close(parts.centres, whole.centres)
    assert torch.equal(parts.assignment, whole.assignment)


def test_centres_and_rows_that_do_not_fit_are_named(x: torch.Tensor, untyped: None) -> None:
    with pytest.raises(ValueError, match="expected rows of 7 centres, got -1 to 3"):
        centre_distances(x[:2], x[:7], torch.tensor([-1, 3]))
    assert centre_distances(x[:0], x[:7], torch.zeros(0).long()).shape == (0,)
    with pytest.raises(ValueError, match=r"centres: expected shape \(k, 3\), k at least 1, got \(0, 3\)"):
        assign(x, x[:0])
    with pytest.raises(ValueError, match="centres: expected"):
        assign(x, x[:2, :2])
    for k in (0, 201):
        with pytest.raises(ValueError, match=f"k: expected from 1 to the number of rows, 200, got {k}"):
            plus_plus(x, k)
    assert len(plus_plus(x[:3], 3).unique(dim=0)) == 3
    assert torch.equal(plus_plus(x[:1], 1), x[:1])


@pytest.mark.parametrize(("dice", "row"), [(0.0, 1), (0.24, 1), (0.25, 3), (0.9999999, 3)])
def test_a_row_is_drawn_from_where_its_weight_begins(dice: float, row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows without weight are never drawn, not even where the dice show 0."""
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: torch.full(shape, dice, dtype=options["dtype"]))
    x, weights = torch.arange(5.0)[:, None], torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0], dtype=torch.float64)
    assert _draw(x, weights, None, False).tolist() == [row]


def test_it_ends_where_no_centre_moves_further_than_the_tolerance() -> None:
    rows, centres = torch.tensor([[0.0], [2.0], [4.0], [12.0]]), torch.tensor([[0.0], [2.0]])
    assert lloyd(rows, centres, tol=4.0).centres.tolist() == [[0], [6]]  # which moved by 4
    assert lloyd(rows, centres, tol=3.9).centres.tolist() == [[1], [8]]  # which moved by 2 at most
    assert lloyd(rows, centres).centres.tolist() == [[2], [12]]
    found = lloyd(rows, centres, 0)
    assert (found.centres.tolist(), found.assignment.tolist(), found.inertia) == ([[0], [2]], [0, 1, 1, 1], 104)
    with pytest.raises(ValueError, match="iterations: expected a whole number from 0"):
        lloyd(rows, centres, -1)


def test_centres_far_from_zero_are_told_apart() -> None:
    centres = 3e4 + torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [9.0, 9.0]])
    rows = centres[[3, 0, 4, 2, 1]] + 0.25
    assert assign(rows, centres).tolist() == [3, 0, 4, 2, 1]


def test_seeds_of_one_process_are_those_of_a_group_of_one():
    """Rows of one process are drawn in numbers, shared rows by the way that several processes go: the same rows."""
    spread = torch.randn(500, 6, generator=torch.Generator().manual_seed(5))
    copies = torch.ones(9, 6)  # all coincide with the first seed, so dice are thrown twice
    for x, k in ((spread, 200), (spread.double(), 50), (copies, 4)):
        draws = [torch.Generator().manual_seed(8) for _ in range(2)]
        alone, shared = (plus_plus(x, k, draw, way) for draw, way in zip(draws, (False, True), strict=True))
        assert torch.equal(alone, shared)
        assert torch.equal(draws[0].get_state(), draws[1].get_state()), "as many dice"
