"""k-means, neighbours and a GPU's arithmetic: the contestants agree, and what is counted is what there is."""

import math
from collections.abc import Callable

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import kmeans, neighbors, peak
from gadkit.nn import ViT
from gadkit.search.kmeans import lloyd
from gadkit.search.neighbors import CHUNK, topk

CPU = torch.device("cpu")


def test_both_k_means_find_the_same_clusters() -> None:
    x, seeds = kmeans.clusters(600, 16, 12)
    ours, theirs = lloyd(x, seeds, 5), kmeans.sklearn_lloyd(x, seeds, 5)
    torch.testing.assert_close(ours.centres, theirs.centres, rtol=1e-4, atol=1e-4)
    assert torch.equal(ours.assignment, theirs.assignment)
    assert ours.inertia == pytest.approx(theirs.inertia, rel=1e-5)
    assert lloyd(x, seeds, 6).inertia < ours.inertia  # so neither had stopped before


def test_rows_of_k_means() -> None:
    table = {what: value for what, value, _ in kmeans.rows(300, 8, 5, iterations=3, rounds=1)}
    ratio = table["scikit-learn, Lloyd"] / table["gadkit, Lloyd"]
    assert table["gadkit / scikit-learn"] == pytest.approx(ratio)
    assert math.isfinite(ratio)
    assert ratio > 0
    assert table["gadkit, inertia"] == pytest.approx(table["scikit-learn, inertia"], rel=1e-4)


def test_both_searches_find_the_same_neighbours() -> None:
    queries, keys = torch.randn(40, 16), torch.randn(300, 16)
    for one, two in zip(topk(queries, keys, 7, chunk=9), neighbors.plain(queries, keys, 7), strict=True):
        torch.testing.assert_close(one, two)


def test_rows_of_neighbours() -> None:
    table = {what: value for what, value, _ in neighbors.rows(50, 200, 8, k=5, rounds=1)}
    ratio = table["plain, search"] / table["gadkit, search"]
    assert table["gadkit / plain"] == pytest.approx(ratio)
    assert math.isfinite(ratio)
    assert ratio > 0


def test_what_is_measured_runs_once_and_the_measure_is_a_number_or_nothing() -> None:
    runs = []
    most = neighbors.peak(lambda: runs.append(1), CPU)
    assert runs == [1]
    assert isinstance(most, float)


class Largest(TorchDispatchMode):
    """Notes the most numbers that any operation's result holds."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None):
        found = function(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else (found,):
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.numel())
        return found


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_search_never_holds_more_similarities_than_a_chunk(metric: str) -> None:
    queries, keys = torch.randn(2000, 8), torch.randn(20_000, 8)
    with Largest() as seen:
        topk(queries, keys, 20, metric)
    assert 20_000 * 8 < seen.numbers <= CHUNK < 2000 * 20_000
    with Largest() as seen:
        topk(queries, keys, 20, metric, chunk=30)
    assert seen.numbers == 30 * 20_000


def test_operations_of_a_step_are_those_that_torch_counts() -> None:
    encoder = ViT(32, 8, 24, 3, 2, registers=2)
    optimiser = torch.optim.AdamW(encoder.parameters())
    with FlopCounterMode(display=False) as counter:
        peak.train_step(encoder, torch.randn(5, 3, 32, 32), optimiser)
    assert counter.get_total_flops() == 5 * peak.training_flops(encoder, 32)


def test_a_vit_s16_has_22_million_parameters_and_the_known_operations() -> None:
    with torch.device("meta"):
        encoder = ViT(**peak.VIT_S16)
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(22e6, rel=0.03)
    assert peak.training_flops(encoder, 224) == pytest.approx(3 * 2 * 4.6e9, rel=0.02)  # 4.6 GMAC forward


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ((_, value, unit),) = peak.rows()
    assert math.isnan(value)
    assert unit == "no CUDA GPU here: not measured"


def test_the_share_is_reached_over_measured() -> None:
    config = {"image_size": 32, "patch_size": 16, "width": 16, "depth": 1, "heads": 2}
    table = list(peak._measure(CPU, config, sides=(64,), batches=(2, 3), rounds=1, repeats=1))
    values = [value for _, value, _ in table]
    assert len(values) == 4
    assert all(math.isfinite(value) and value > 0 for value in values)
    assert values[3] == pytest.approx(values[2] / values[0])
    flops = peak.training_flops(ViT(**config), 32)
    assert values[2] == pytest.approx(values[1] * flops / 1e12)
