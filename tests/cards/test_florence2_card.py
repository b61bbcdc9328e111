"""The shipped Florence-2 still gives the figures on its card, and the measures are what they say."""

import json
import random
from pathlib import Path

import pytest
import torch

from cards import florence2 as card
from gadkit import weights, zoo
from gadkit.factory import descriptions
from gadkit.multimodal.florence import Named
from gadkit.multimodal.training.florence_lessons import described, noun


def test_the_target_is_one_of_held_out_categories() -> None:
    assert "categories, by name: 0.000, not reached.  On categories of the training it is\n0.705." in card.text()


class Knowing:
    """Answers with the truth, or with a wrong noun."""

    def __init__(self, right: bool) -> None:
        self.shown, self.alone = card.rendered("development", "development", 4)
        self.things = [(i, thing) for i, things in enumerate(self.shown.things) for thing in things]
        self.right = right

    def objects(self, images):
        found = []
        for things in self.shown.things:
            names = tuple(noun(thing) if self.right else "part" for thing in things)
            found.append(Named(torch.tensor([thing.box for thing in things]), torch.ones(len(things)), names))
        return found

    def outline(self, images, texts):
        masks = [
            self.shown.masks(i)[k] for i, t in enumerate(self.shown.things) for k, x in enumerate(t) if x.expressions
        ]
        return masks if self.right else [~mask for mask in masks]

    def describe(self, images, boxes):
        return [described(thing) if self.right else "a part" for _, thing in self.things]

    def caption(self, images):
        return [descriptions.caption(fact, random.Random(0), vague=0.0) for fact in self.alone.facts]


def test_measures_reach_from_nothing_to_all() -> None:
    best = card.measure(Knowing(True), "development", 4)
    for name in ("AP50", "AP50, boxes alone", "mIoU", "region's noun", "region's words", "caption's state"):
        assert best[name] == pytest.approx(1.0), name
    worst = card.measure(Knowing(False), "development", 4)
    assert worst["AP50, boxes alone"] == pytest.approx(1.0)
    for name in ("AP50", "mIoU", "region's noun", "region's words"):
        assert worst[name] == pytest.approx(0.0, abs=1e-6), name


@pytest.mark.skipif("florence2" not in zoo.list(preset="tiny"), reason="no weights are shipped yet")
def test_the_card_is_what_the_files_say() -> None:
    held = json.loads((Path(__file__).parents[2] / card.RESULTS).read_text(encoding="utf-8"))
    assert card.CARD.read_text(encoding="utf-8") == card.text(Path(__file__).parents[2] / card.RESULTS)
    found = card.spot_check()
    for name, value in held["sample"].items():
        assert found[name] == pytest.approx(value, abs=0.05 if name != "boxes an image" else 0.3), name
    assert (weights.ASSETS / "florence2.safetensors").stat().st_size < 5e6
