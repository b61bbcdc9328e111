"""The search takes features as they come: of two precisions, from numpy, or from a network that is learning."""

from itertools import combinations

import pytest
import torch

from gadkit.search.neighbors import k_centre, topk


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_features_of_two_precisions(metric: str, generator: torch.Generator) -> None:
    queries, keys = torch.rand(10, 8, generator=generator), torch.rand(20, 8, generator=generator)
    values, rows = topk(queries.double(), keys.double(), 3, metric)
    for mixed in ((queries.double(), keys), (queries, keys.double())):
        found = topk(*mixed, 3, metric)
        assert torch.equal(found[1], rows)
        torch.testing.assert_close(found[0], values)


def test_features_that_a_network_is_learning(generator: torch.Generator) -> None:
    x = torch.rand(10, 8, generator=generator)
    values, rows = topk(x.clone().requires_grad_(), x, 2)
    assert not values.requires_grad
    assert torch.equal(rows[:, 0], torch.arange(10))


@pytest.mark.usefixtures("untyped")
def test_features_of_nothing() -> None:
    with pytest.raises(ValueError, match=r"queries: expected floats of shape \(n, d\)"):
        topk(torch.rand(3, 0), torch.rand(3, 0), 1)


def test_k_centre_is_at_most_twice_the_best(generator: torch.Generator) -> None:
    x = torch.rand(12, 2, generator=generator)
    far = torch.cdist(x, x)
    rows, radii = k_centre(x, 3, first=5)
    assert rows[0] == 5
    for count in (1, 2, 3):
        nearest = far[:, rows[:count]].amin(1)  # of each row to what was chosen by then
        assert radii[count - 1] == pytest.approx(float(nearest.max()), rel=1e-5)
        if count < 3:
            assert rows[count] == nearest.argmax()
    best = min(float(far[:, list(some)].amin(1).max()) for some in combinations(range(12), 3))
    assert radii[-1] <= 2 * best
    everything, radii = k_centre(x, 12)
    assert sorted(everything.tolist()) == list(range(12))
    assert radii[-1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("count", "first"), [(0, 0), (5, 0), (2, 4), (2, -1)])
def test_k_centre_needs_rows_that_exist(count: int, first: int) -> None:
    with pytest.raises(ValueError, match=f"got count {count} and first {first}"):
        k_centre(torch.eye(4), count, first)
