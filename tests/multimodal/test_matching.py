"""Contrast, hard negatives and matching, each beside a literal form."""

import math

import pytest
import torch

from gadkit.multimodal.matching import contrast, hard_negatives, match_loss

LOGITS = torch.tensor([[2.0, 1.0, -1.0], [0.5, 3.0, 0.0], [1.0, 0.2, 0.7]])
TRUE = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.bool)


def test_contrast_is_two_cross_entropies_with_shared_targets() -> None:
    def one(logits: list[list[float]], true: list[list[bool]]) -> float:
        total = 0.0
        for row, targets in zip(logits, true, strict=True):
            z = math.log(sum(math.exp(value) for value in row))
            picked = [value - z for value, hit in zip(row, targets, strict=True) if hit]
            total -= sum(picked) / len(picked)
        return total / len(logits)

    rows, columns = one(LOGITS.tolist(), TRUE.tolist()), one(LOGITS.T.tolist(), TRUE.T.tolist())
    assert contrast(LOGITS, TRUE).item() == pytest.approx((rows + columns) / 2, abs=1e-6)


def test_hard_negatives_are_false_and_the_likelier_the_more_similar() -> None:
    torch.manual_seed(0)
    drawn = [hard_negatives(LOGITS, TRUE) for _ in range(400)]
    texts, images = (torch.stack(column) for column in zip(*drawn, strict=True))
    rows = torch.arange(3)
    assert not TRUE[rows, texts].any()
    assert not TRUE[images, rows].any()
    share = (texts[:, 1] == 0).float().mean().item()  # of 0.5 and 0
    assert share == pytest.approx(1 / (1 + math.exp(-0.5)), abs=0.08)
    assert len(hard_negatives(torch.zeros(2, 2), torch.ones(2, 2, dtype=torch.bool))) == 2


def test_matching_weighs_both_answers_alike_and_passes_over_pairs() -> None:
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    matches, counts = torch.tensor([True, False, False, False]), torch.tensor([True, True, False, True])
    fits = math.log(1 + math.exp(-1))
    not_fits = (math.log(1 + math.exp(-2)) + math.log(2)) / 2
    assert match_loss(logits, matches, counts).item() == pytest.approx((fits + not_fits) / 2, abs=1e-6)
    assert match_loss(logits, matches, torch.zeros(4, dtype=torch.bool)).item() == 0
