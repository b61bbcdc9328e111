"""The card of SEEM: every kind of prompt is asked with, and what two bring together is compared part by part."""

import json
from pathlib import Path

import pytest
import torch

from cards import universal as card
from gadkit import weights
from gadkit.objects import seem
from gadkit.objects.seem_network import Config, Network

RESULTS = Path(__file__).parents[2] / "book" / "results" / "seem.json"


def test_all_prompts_are_asked_with() -> None:
    torch.manual_seed(0)
    config = Config(width=16, mask_width=8, layers=1, heads=2, text_layers=1, size=64)
    model = seem.SEEM(Network(config), seem.eyes.build("efficientnet-random"))
    some = card.held_out(3, "development")
    ious = card.asked(model, some)
    count = sum(bool(thing.expressions) for things in some.things for thing in things)
    for name in ("click", "text", card.BOTH, "box", "scribble"):
        assert len(ious[name]) == count
        assert all(0 <= iou <= 1 for _, iou in ious[name])
    assert card.means(ious)["click"] == pytest.approx(sum(iou for _, iou in ious["click"]) / count)


def test_a_gain_is_paired_and_counted_by_scenes() -> None:
    ious = {"a": [(0, 0.5), (0, 0.7), (3, 0.9)], "b": [(0, 0.4), (0, 0.4), (3, 0.5)]}
    gain, error = card.gain(ious, "a", "b")  # 0.2 in scene 0, 0.4 in scene 3
    assert gain == pytest.approx(0.3)
    assert error == pytest.approx(0.1)


def test_the_card_of_seem_has_the_figures_of_its_file() -> None:
    row = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]["seem"]
    written = (weights.ASSETS / "seem.md").read_text(encoding="utf-8")
    names = ("click", "text", card.BOTH, "box", "scribble", "region")
    assert "| trained | " + " | ".join(f"{row[name]:.3f}" for name in names) + " |" in written
    gain, error = row["both above click"]
    assert f"{gain:.3f} ± {error:.3f}" in written
