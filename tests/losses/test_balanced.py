"""The sigmoid loss: its value for a network that knows nothing, its balance, and a literal form of it."""

import math

import pytest
import torch
import torch.nn.functional as F

from gadkit.losses import balanced_sigmoid


def test_a_network_that_knows_nothing_pays_log_2(generator: torch.Generator) -> None:
    positive = torch.rand(5, 7, generator=generator) < 0.1
    positive[0, 0] = True
    assert balanced_sigmoid(torch.zeros(5, 7), positive).item() == pytest.approx(math.log(2), abs=1e-6)


def test_it_is_the_mean_of_two_means(generator: torch.Generator) -> None:
    logits, positive = torch.randn(6, 4, generator=generator), torch.rand(6, 4, generator=generator) < 0.4
    weight = torch.rand(6, 4, generator=generator)
    terms = [[], []]
    for i in range(6):
        for j in range(4):
            sign = 1 if positive[i, j] else -1
            terms[int(positive[i, j])].append((weight[i, j] * -F.logsigmoid(sign * logits[i, j]), weight[i, j]))
    literal = sum(sum(v for v, _ in side) / sum(w for _, w in side) for side in terms) / 2
    assert balanced_sigmoid(logits, positive, weight).item() == pytest.approx(literal.item(), abs=1e-5)


def test_repeating_the_negatives_changes_nothing(generator: torch.Generator) -> None:
    logits, positive = torch.randn(3, 2, generator=generator), torch.tensor([[True, False]] * 3)
    more = torch.cat([logits, logits[:, 1:]], 1), torch.cat([positive, positive[:, 1:]], 1)
    assert balanced_sigmoid(*more).item() == pytest.approx(balanced_sigmoid(logits, positive).item(), abs=1e-6)


def test_a_class_that_does_not_occur_counts_nothing() -> None:
    positive = torch.zeros(2, 3, dtype=torch.bool)
    for occurs in (positive, ~positive):
        assert balanced_sigmoid(torch.zeros(2, 3), occurs).item() == pytest.approx(math.log(2) / 2)
