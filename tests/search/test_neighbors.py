"""The search takes features as they come: of two precisions, from numpy, or from a network that is learning."""

from itertools import combinations

import pytest
import torch

from gadkit.search.neighbors import check_features, distances_to, k_centre, knn_vote, topk


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


def test_features_are_compared_in_single_precision_at_least(untyped: None) -> None:
    x = torch.tensor([[1.0, 2.0]])
    kinds = {torch.float16: torch.float32, torch.float32: torch.float32, torch.float64: torch.float64}
    assert {kind: check_features(x.to(kind)).dtype for kind in kinds} == kinds
    for wrong in (x.long(), x[0], x[None], x[:, :0], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match=r"features: expected floats of shape \(n, d\)"):
            check_features(wrong)
    with pytest.raises(ValueError, match="keys: expected finite numbers, got 1"):
        topk(x, x.where(x > 1, torch.nan), 1)


def test_the_ends_of_the_search(untyped: None) -> None:
    x = torch.eye(4)
    assert topk(x, x, 4)[1].shape == (4, 4)
    assert topk(x[:1], x[:1], 1)[0].tolist() == [[1]]
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"k: expected from 1 to the number of keys, 4, got {k}"):
            topk(x, x, k)
    with pytest.raises(ValueError, match="expected"):
        topk(x, x[:, :3], 1)
    with pytest.raises(ValueError, match="chunk: expected a whole number from 1"):
        topk(x, x, 1, chunk=0)
    with pytest.raises(ValueError, match="metric: expected one of cosine, l2"):
        topk(x, x, 1, "manhattan")


def test_of_keys_that_are_alike_the_first_is_the_nearest() -> None:
    keys = torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 1.0]])
    far, rows = topk(torch.zeros(1, 2), keys, 3, "l2")
    assert far.tolist() == [[1, 1, 5]]
    assert sorted(rows[0, :2].tolist()) == [1, 2]


def test_of_rows_that_coincide_none_is_chosen_twice() -> None:
    rows, radii = k_centre(torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]), 3)
    assert sorted(rows.tolist()) == [0, 1, 2]
    assert radii.tolist() == [0, 0, 0]
    line = torch.tensor([[0.0], [1.0], [5.0]])
    rows, radii = k_centre(line, 3, first=1)
    assert (rows.tolist(), radii.tolist()) == ([1, 2, 0], [4, 1, 0])
    assert k_centre(line, 1, first=2)[1].tolist() == [5]
    assert distances_to(line, line[2]).tolist() == [5, 4, 0]


def test_a_vote_for_what_coincides_outweighs_all_others() -> None:
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = knn_vote(keys[:1], keys, torch.tensor([0, 1]), k=2, weights="distance")
    torch.testing.assert_close(found, torch.tensor([[1e7, 1.0]]) / (1e7 + 1))


def test_keys_far_from_zero_are_told_apart() -> None:
    keys = 3e4 + torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [9.0, 9.0]])
    far, rows = topk(keys[3:4] + 0.25, keys, 2, "l2")
    assert rows.tolist() == [[3, 1]]
    torch.testing.assert_close(far, torch.tensor([[0.125**0.5, (0.25**2 + 1.25**2) ** 0.5]]))
