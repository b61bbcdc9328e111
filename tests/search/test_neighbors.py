"""The search takes features as they come: of two precisions, from numpy, or from a network that is learning."""

from itertools import combinations

import pytest
import torch

from gadkit.search.neighbors import k_centre, knn_vote, topk


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


@pytest.mark.parametrize("chunk", [None, 1, 3])
def test_the_nearest_are_those_of_a_full_table(generator: torch.Generator, chunk: int | None) -> None:
    queries, keys = torch.randn(10, 6, generator=generator) + 50, torch.randn(30, 6, generator=generator) + 50
    far = torch.cdist(queries, keys, compute_mode="donot_use_mm_for_euclid_dist")
    cosines = torch.nn.functional.cosine_similarity(queries[:, None], keys[None], dim=2)
    for metric, table, largest in (("l2", far, False), ("cosine", cosines, True)):
        values, rows = topk(queries, keys, 4, metric, chunk)
        expected = table.topk(4, largest=largest)
        torch.testing.assert_close(values, expected.values, rtol=1e-4, atol=1e-5)
        assert torch.equal(rows, expected.indices)
    with pytest.raises(ValueError, match="k: expected from 1 to the number of keys, 30, got 31"):
        topk(queries, keys, 31)


def test_votes_by_hand() -> None:
    keys, labels = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]]), torch.tensor([2, 0, 1])
    query = torch.tensor([[2.0, 0.0]])  # cosines 1, 0.6 and -1
    share = torch.tensor([1.0, 0.6]).div(0.5).softmax(0)
    found = knn_vote(query, keys, labels, k=2, temperature=0.5)
    torch.testing.assert_close(found, torch.tensor([[share[1], 0.0, share[0]]]))
    assert knn_vote(query, keys, labels, k=2, weights="uniform").tolist() == [[0.5, 0.0, 0.5]]
    near = knn_vote(torch.tensor([[0.6, -0.8]]), keys, labels, k=2, weights="distance")  # cosines 0.6 and -0.28
    votes = torch.tensor([1 / 0.4, 1 / 1.28])
    torch.testing.assert_close(near, torch.tensor([[votes[1], 0.0, votes[0]]]) / votes.sum())
    for bad in ({"weights": "linear"}, {"temperature": 0.0}, {"k": 4}):
        with pytest.raises(ValueError, match="expected"):
            knn_vote(query, keys, labels, **{"k": 2, **bad})
    with pytest.raises(ValueError, match="labels: expected numbers of classes from 0, got -1"):
        knn_vote(query, keys, labels - 1, k=2)
