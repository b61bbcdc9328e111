"""A bank within a bound: what is left out lies near to what is kept, and without a bound nothing is left out."""

import pytest
import torch
from torch import Tensor

from gadkit.anomaly.detectors.bank import WIDTH, Bank

BYTES = 4 * 8  # of a row


def rows(count: int, seed: int = 0, width: int = 8) -> Tensor:
    """Unit vectors in groups, as patches of good parts come."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(20, width, generator=draw)
    which = torch.randint(20, (count,), generator=draw)
    return torch.nn.functional.normalize(centres[which] + 0.2 * torch.randn(count, width, generator=draw), dim=1)


def filled(bank: Bank, x: Tensor, at_once: int = 37) -> Bank:
    for some in x.split(at_once):
        bank.add(some)
    return bank


def test_without_a_bound_everything_stays_in_order() -> None:
    x = rows(200)
    assert torch.equal(filled(Bank(), x).rows(), x)
    assert torch.equal(filled(Bank(200 * BYTES), x).rows(), x), "nor with a bound that is not reached"


@pytest.mark.parametrize("room", [5, 40, 150])
def test_what_was_seen_is_near_to_what_is_kept(room: int) -> None:
    x, bank = rows(2000), Bank(room * BYTES + BYTES - 1)
    kept = filled(bank, x).rows()
    assert len(kept) == room
    distances = torch.cdist(x, kept)
    assert (distances.amin(0) < 1e-3).all(), "every row that is kept was seen"
    assert float(distances.amin(1).max()) <= bank.radius + 1e-3


def test_it_covers_better_than_chance() -> None:
    x = rows(3000)
    kept = filled(Bank(100 * BYTES), x).rows()
    draw = torch.Generator().manual_seed(1)
    by_chance = [x[torch.randperm(3000, generator=draw)[:100]] for _ in range(5)]
    radius = [float(torch.cdist(x, some).amin(1).max()) for some in (kept, *by_chance)]
    assert radius[0] < min(radius[1:])


def test_wide_rows_are_chosen_by_projections_and_kept_whole() -> None:
    x = rows(900, width=4 * WIDTH)
    kept = filled(Bank(60 * 4 * 4 * WIDTH), x).rows()
    assert kept.shape == (60, 4 * WIDTH)
    assert (torch.cdist(kept, x).amin(1) < 1e-3).all()
    assert torch.equal(kept, filled(Bank(60 * 4 * 4 * WIDTH), x).rows()), "the same again"


def test_a_share_is_taken_of_all_that_was_seen() -> None:
    x = rows(500)
    assert len(filled(Bank(thin=0.13), x).rows()) == 65
    assert len(filled(Bank(100 * BYTES, 0.13), x).rows()) == 65
    assert len(filled(Bank(100 * BYTES, 0.5), x).rows()) == 100


def test_rows_that_come_again_add_nothing() -> None:
    bank = filled(Bank(50 * BYTES), rows(400))
    before = bank.rows()
    bank.add(before)
    assert torch.equal(bank.rows(), before)


def test_too_small_a_bound_is_named() -> None:
    with pytest.raises(ValueError, match=r"bank: .*expected a whole number from 1"):
        Bank(BYTES - 1).add(rows(3))
    with pytest.raises(ValueError, match="expected at least one row, got none"):
        Bank().rows()
