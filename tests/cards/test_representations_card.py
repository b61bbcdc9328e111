"""The model card of the shipped representations is true of them."""

import json
import re

import pytest
from safetensors import safe_open

from cards import representations as card
from gadkit import methods, weights, zoo

TEXT = card.CARD.read_text(encoding="utf-8")
ONE_A_KIND = ("dinov2", "mae", "swin")  # class token and registers, mean of patches, a network of timm's


def test_it_lists_what_is_shipped() -> None:
    assert re.findall(r"^\| `([\w-]+)` +\|", TEXT, re.M) == card.shipped()


def cells_of(name: str) -> list[str]:
    """A checkpoint's line on the card, without its name."""
    return re.split(r" +\| *", re.search(rf"^\| `{name}` +\| (.*?) *\|$", TEXT, re.M)[1])


@pytest.mark.parametrize("name", card.shipped())
def test_it_repeats_the_header(name: str) -> None:
    facts = zoo.facts(name)
    assert cells_of(name)[:2] == [f"{facts['photographs']:,}", str(facts["steps"])]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ONE_A_KIND else pytest.mark.slow) for name in card.shipped()]
)
def test_it_repeats_the_sample(name: str) -> None:
    assert card.spot_check(name) == pytest.approx(float(cells_of(name)[-1]), abs=0.011)  # one of 108 may change sides


@pytest.mark.parametrize("name", card.shipped())
def test_a_checkpoint_holds_no_teacher_and_no_optimiser(name: str) -> None:
    with safe_open(weights.ASSETS / f"{name}.safetensors", "pt") as file:
        keys = list(file.keys())
        assert json.loads(file.metadata()["options"]) == dict(methods.TRAININGS[name].options)
    transient = tuple(methods.build(name).transient)
    assert not any(key.startswith(transient) for key in keys if transient)
