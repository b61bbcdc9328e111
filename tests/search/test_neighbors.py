"""The search takes features as they come: of two precisions, from numpy, or from a network that is learning."""

import pytest
import torch

from gadkit.search.neighbors import topk


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
