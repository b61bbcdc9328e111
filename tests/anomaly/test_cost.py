"""The bytes that a call holds at its worst moment: by hand."""

import torch
from torch.nn import functional as F

from gadkit.anomaly.cost import peak


def test_what_lives_together_counts_together() -> None:
    kept = torch.zeros(1000)  # was there before

    def call() -> torch.Tensor:
        a = kept + 1  # 4,000 bytes
        b = a.double()  # 8,000, beside it
        del a
        c = b[:500] * 2  # a view costs nothing, its product 4,000
        del b
        return c

    found, most = peak(call)
    assert most == 12_000
    assert found.tolist() == [2.0] * 500
    assert peak(lambda: kept.view(10, 100)[2:])[1] == 0
    assert peak(lambda: kept.add_(1))[1] == 0


def test_a_loop_that_lets_go_costs_one_turn() -> None:
    x = torch.ones(100, 10)
    assert peak(lambda: sum(float((x * i).sum()) for i in range(5)))[1] <= 4_000 + 4 * 4
    assert peak(lambda: [x * i for i in range(5)])[1] == 5 * 4_000


def test_several_results_of_one_operation() -> None:
    x = torch.rand(4, 256)
    (values, places), most = peak(lambda: x.topk(3, dim=1))
    assert most == 12 * 4 + 12 * 8
    assert (values.shape, places.shape) == ((4, 3), (4, 3))
    assert peak(lambda: F.linear(x, torch.ones(8, 256)))[1] == 8 * 256 * 4 + 4 * 8 * 4


def test_a_layout_without_storage_counts_too() -> None:
    x = torch.rand(1, 8, 16, 16)
    kept = x.to_mkldnn()
    assert peak(lambda: kept.to_dense())[1] == 8 * 256 * 4
    assert peak(lambda: torch.relu(x.to_mkldnn()).to_dense())[1] >= 2 * 8 * 256 * 4
