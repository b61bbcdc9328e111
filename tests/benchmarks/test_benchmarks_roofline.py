"""The roofline counts what the steps do."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import roofline

CPU = torch.device("cpu")


def test_operations_are_those_that_torch_counts() -> None:
    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape)

    for what, size, flops, moved, run in [*roofline._products(normal, 1), *roofline._attention(normal, 1)]:
        with FlopCounterMode(display=False) as counter:
            run()
        assert what == "sum" or counter.get_total_flops() == flops, (what, size)
        assert moved > 0


def test_bytes_are_each_input_once_and_each_output_once() -> None:
    _, size, flops, moved, run = roofline._product(torch.ones(3, 4), torch.ones(4, 5), "x")
    assert (size, flops, moved) == ("3 x 4 x 5", 2 * 60, 4 * (12 + 20 + 15))
    assert torch.equal(run(), torch.full((3, 5), 4.0))


def test_both_searches_compute_the_same_and_move_different_amounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "BANK", (6, 9, 4))
    drawn = torch.Generator().manual_seed(0)

    def unit(*shape: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(*shape, generator=drawn), dim=1)

    stored, ours = roofline._search(unit)
    assert stored[2] == ours[2] == 2 * 6 * 9 * 4
    assert stored[3] - ours[3] == 2 * 6 * 9 * 4 - 12 * 6
    values, rows = ours[4]()
    assert torch.allclose(values[:, 0], stored[4]()[0], atol=1e-6)
    assert torch.equal(rows[:, 0], stored[4]()[1])


def test_roofs_are_the_best_of_all_steps(untyped: None) -> None:
    steps = [roofline.Step("sum", "", 10, 80, 2.0), roofline.Step("x", "", 90, 9, 3.0)]
    assert roofline.roofs(steps) == (40, 30)
    assert (steps[1].intensity, steps[1].speed) == (10, 30)
    with pytest.raises(ValueError, match="expected a sum among them"):
        roofline.roofs(steps[1:])


def test_rows_end_with_the_roofs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "BANK", (6, 9, 4))
    table = [*roofline.rows(rounds=1)]
    assert [what for what, *_ in table[-2:]] == ["bandwidth", "fastest step"]
    assert table[-1][1] == max(value for _, value, unit in table if unit.startswith("GFLOP/s"))
