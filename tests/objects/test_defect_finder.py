"""The defect finder's lessons: boxes around what was drawn, texts that each box belongs to, and a step of training."""

import random
from pathlib import Path

import pytest
import torch

from gadkit import factory
from gadkit.factory import CATEGORIES
from gadkit.objects.training import defect_finder
from gadkit.weights import header


@pytest.fixture(scope="module")
def shown() -> defect_finder.Photographs:
    return defect_finder.photographs(54)


def test_boxes_lie_around_parts_and_defects(shown: defect_finder.Photographs) -> None:
    assert shown.images.shape == (54, 3, 96, 96)
    assert {*shown.categories} == {*factory.split("seen")}
    parts = [box for boxes in shown.boxes for defect, box in boxes if defect == defect_finder.PART]
    assert len(parts) == sum(CATEGORIES[name].kind == "object" for name in shown.categories)
    every = [box for boxes in shown.boxes for _, box in boxes]
    assert all(0 <= a < c <= 96 and 0 <= b < d <= 96 for a, b, c, d in every)
    assert 0.5 < sum(any(defect for defect, _ in boxes) for boxes in shown.boxes) / 54 < 0.95
    assert {defect for boxes in shown.boxes for defect, _ in boxes if defect} <= {*defect_finder.WORDS}


def test_pieces_of_a_defect() -> None:
    mask = torch.zeros(30, 30, dtype=torch.bool)
    mask[2:5, 3:6] = mask[20:24, 10:20] = True
    mask[10, 25] = True  # a pixel is no piece
    assert defect_finder.pieces(mask) == [(9, 19, 21, 25), (2, 1, 7, 6)]
    assert defect_finder.pieces(torch.zeros(9, 9, dtype=torch.bool)) == []


def test_every_box_has_a_text() -> None:
    for seed in range(20):
        texts, places = defect_finder.ask(["gear", "felt", "gear"], random.Random(seed))
        assert len(set(texts)) == len(texts)
        assert places[defect_finder.PART, "gear"] == 1
        assert any(noun in texts[1] for noun in CATEGORIES["gear"].nouns)
        for defect, words in defect_finder.WORDS.items():
            for name in ("gear", "felt"):
                text = texts[places[defect, name]]
                assert any(word in text for word in (*words, *defect_finder.GENERAL))
                own = [noun for noun in CATEGORIES[name].nouns if text.endswith(f"on {noun}")]
                assert not any(word in text for word in words) or not own


@pytest.mark.slow
def test_a_step_of_training(tmp_path: Path) -> None:
    path = defect_finder.train(tmp_path, steps=1, count=27)
    assert path == tmp_path / "defect-finder.safetensors"
    assert '"steps": 1' in header(path)["facts"]
