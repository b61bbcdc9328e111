"""What the search assumes where nothing is said."""

from collections.abc import Callable

import pytest
import torch

from gadkit.search import kmeans, neighbors

DEFAULTS = [
    (neighbors.topk, {"metric": "cosine"}),
    (neighbors.knn_vote, {"k": 20, "temperature": 0.07, "weights": "softmax"}),  # Wu et al. 2018; DINO's k
    (neighbors.k_centre, {"first": 0, "quiet": True}),
    (kmeans.plus_plus, {"shared": False}),
    (kmeans.lloyd, {"iterations": 50, "tol": 0.0, "shared": False}),  # until nothing moves
    (kmeans.kmeans, {"iterations": 50, "shared": False}),
]


@pytest.mark.parametrize(("call", "expected"), DEFAULTS, ids=[call.__name__ for call, _ in DEFAULTS])
def test_the_defaults_are_what_is_written(call: Callable, expected: dict, defaults: Callable) -> None:
    assert defaults(call) == expected


@pytest.mark.parametrize(("keys", "cpu", "gpu"), [(1 << 20, 4, 128), (3 << 20, 1, 42), (1 << 40, 1, 1)])
def test_four_million_similarities_are_held_at_once_and_more_on_a_gpu(keys: int, cpu: int, gpu: int) -> None:
    assert neighbors.rows_at_once(keys, torch.device("cpu")) == cpu
    assert neighbors.rows_at_once(keys, torch.device("cuda")) == gpu
