"""The defect finder's card says what its weights do, and its measures are what they are called."""

import re

import pytest
import torch

from cards import defect_finder
from gadkit import weights
from gadkit.objects.protocols import Boxes
from gadkit.protocols import TestSet


def test_measures_of_known_boxes() -> None:
    masks = torch.zeros(3, 20, 20, dtype=torch.bool)
    masks[1:, 4:8, 4:12] = True
    images = torch.zeros(3, 3, 20, 20, dtype=torch.uint8)
    data = TestSet("nut", images[:0], images, masks, ("good", "hole", "hole"))
    exact, off = torch.tensor([[3.0, 3, 13, 9]]), torch.tensor([[3.0, 3, 20, 20]])
    scores = torch.tensor([0.2]), torch.tensor([0.9]), torch.tensor([0.1])
    answers = [Boxes(b, s, torch.tensor([0])) for b, s in zip((off, exact, off), scores, strict=True)]
    found = defect_finder.measure(lambda _: answers, [data])
    assert found == {"IoU 0.5": 0.5, "IoU 0.1": 1.0, "middle on it": 0.5, "image AUROC": 0.5}
    none = [Boxes(exact[:0], exact[:0, 0], torch.tensor([], dtype=torch.long))] * 3
    assert defect_finder.measure(lambda _: none, [data])["IoU 0.1"] == 0
    assert defect_finder.measure(defect_finder.in_the_middle, [data])["IoU 0.1"] == 1.0


def test_the_cards_small_sample_comes_out_again() -> None:
    card = (weights.ASSETS / "defect-finder.md").read_text(encoding="utf-8")
    line = next(line for line in card.split("\n\n") if line.startswith("The small sample"))
    told = {name: float(value) for name, value in re.findall(r"(IoU 0\.\d|middle on it|image AUROC) (\d\.\d+)",
                                                             line.replace("\n", " "))}  # fmt: skip
    assert told == pytest.approx(defect_finder.spot_check(), abs=0.02)
    assert len(told) == 4
