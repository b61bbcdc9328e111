"""Scenes: masks, boxes and words agree with the pixels, and the same order is the same scene."""

import re
from dataclasses import replace

import pytest
import torch

from gadkit import factory
from gadkit.factory import scenes
from gadkit.factory.scenes.words import COLOURS, colours
from gadkit.factory.seeds import FIRST_LESSON, FIRST_POOL, FIRST_SCENES, FIRST_TEST, POOLS, SCENES

SENTENCE = re.compile(
    r"the (?:(largest|smallest|leftmost|rightmost|topmost|bottommost|" + "|".join(COLOURS) + r") )?(.+?)"
    r"(?: (left of|right of|above|below|on) the (.+))?"
)
WAYS = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}


@pytest.fixture(scope="module")
def some() -> scenes.Scenes:
    return scenes.render(24, seed=3, size=96, parts=(2, 7))


def _called(things, noun: str) -> list[int]:
    return [n for n, thing in enumerate(things) if noun in factory.CATEGORIES[thing.category].nouns]


def _meant(things, masks, expression: str) -> list[int]:
    """The things that an expression is true of, read word by word from the masks, without any margin."""
    word, noun, relation, other = SENTENCE.fullmatch(expression).groups()
    where = [torch.stack([m.any(0).nonzero().float()[[0, -1]].mean(), m.any(1).nonzero().float()[[0, -1]].mean()])
             for m in masks]  # fmt: skip
    found = _called(things, noun)
    if word in COLOURS:
        found = [n for n in found if things[n].colour == word]
    elif word in ("largest", "smallest"):
        found = [(max if word == "largest" else min)(found, key=lambda n: int(masks[n].sum()))]
    elif word:
        axis = 0 if word in ("leftmost", "rightmost") else 1
        first = min if word in ("leftmost", "topmost") else max
        found = [first(found, key=lambda n: float(where[n][axis]))]
    if relation:
        (anchor,) = _called(things, other)
        if relation == "on":
            return [n for n in found if anchor in things[n].over]
        axis, sign = WAYS[relation]
        found = [n for n in found if n != anchor and sign * (where[n][axis] - where[anchor][axis]) > 0]
    return found


def test_masks_boxes_and_instances_agree(some) -> None:
    for i, things in enumerate(some.things):
        masks = some.masks(i)
        assert masks.shape == (len(things), 96, 96)
        assert len(things) >= 1
        assert torch.equal(masks.any(0), some.instances[i] > 0), "no number that names nothing"
        assert (masks.sum(0) <= 1).all()
        for mask, thing in zip(masks, things, strict=True):
            rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
            assert thing.box == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            assert 0.25 <= thing.visible <= 1
            assert mask.sum() >= 0.004 * 96**2
            assert thing.noun in factory.CATEGORIES[thing.category].nouns
            assert thing.defect in ("", *factory.CATEGORIES[thing.category].defects)


def test_a_thing_on_top_is_whole_and_order_is_bottom_to_top(some) -> None:
    piles = 0
    for things in some.things:
        assert things[-1].visible == 1
        assert not any(len(things) - 1 in thing.over for thing in things)
        for place, thing in enumerate(things):
            assert all(below < place for below in thing.over)
            covered = any(place in other.over for other in things)
            assert thing.visible == 1 or covered or thing.visible > 0.9
            piles += covered
    assert piles > 10


def test_every_expression_is_true_of_its_thing_alone(some) -> None:
    kinds = set()
    for i, things in enumerate(some.things):
        masks = some.masks(i)
        for place, thing in enumerate(things):
            assert len(set(thing.expressions)) == len(thing.expressions)
            for expression in thing.expressions:
                assert _meant(things, masks, expression) == [place], (i, expression)
                word, _, relation, _ = SENTENCE.fullmatch(expression).groups()
                kinds |= {word in COLOURS and "colour", relation, word in ("largest", "leftmost") and word}
    assert kinds >= {"colour", "largest", "leftmost", "on", *WAYS}, "each kind was tried"


def test_hand_made_words() -> None:
    from gadkit.factory.scenes.words import Thing, expressions

    gear = Thing("gear", "gear", "red", (0.0, 40.0, 20.0, 60.0), 1.0, "", (), ())
    screw = Thing("screw", "screw", "", (40.0, 40.0, 60.0, 60.0), 0.8, "", (), ())
    other = replace(gear, colour="blue", box=(70.0, 40.0, 100.0, 70.0), over=(1,))
    things = [gear, screw, other]
    assert expressions(things, [400, 300, 900], 100, 0) == (
        "the red gear", "the smallest gear", "the leftmost gear", "the gear left of the screw",
    )  # fmt: skip
    assert expressions(things, [400, 300, 900], 100, 1) == ("the screw",), "two gears are no anchor"
    assert "the gear on the screw" in expressions(things, [400, 300, 900], 100, 2)
    plain = [replace(thing, colour="") for thing in things]
    assert not any("red" in words for words in expressions(plain, [400, 300, 900], 100, 0))


@pytest.mark.parametrize(("rgb", "word"), [
    ((200, 30, 30), "red"), ((240, 140, 20), "orange"), ((120, 70, 20), "brown"), ((230, 220, 40), "yellow"),
    ((40, 160, 60), "green"), ((30, 60, 200), "blue"), ((130, 40, 190), "purple"), ((230, 80, 170), "pink"),
    ((20, 20, 20), "black"), ((240, 240, 240), "white"), ((130, 130, 135), "grey"),
])  # fmt: skip
def test_plain_colours(rgb, word) -> None:
    pixel = torch.tensor(rgb, dtype=torch.uint8).view(1, 3, 1, 1)
    assert COLOURS[colours(pixel)] == word


def test_a_scene_is_the_same_alone_and_among_others(some) -> None:
    few = scenes.render(3, seed=3, size=96, parts=(2, 7))
    assert torch.equal(few.images, some.images[:3])
    assert torch.equal(few.instances, some.instances[:3])
    assert few.things == some.things[:3] == some[:3].things
    assert len(some[5:9]) == 4
    assert not torch.equal(scenes.render(1, seed=4, size=96, parts=(2, 7)).images, few.images[:1])


def test_splits_and_seeds_keep_to_themselves() -> None:
    for split in ("seen", "development", "held-out", "randomised"):
        held = scenes.render(4, size=48, split=split)
        assert held.classes == tuple(c for c in factory.split(split) if factory.CATEGORIES[c].kind == "object")
        assert {thing.category for things in held.things for thing in things} <= set(held.classes)
    room = POOLS * SCENES * 16
    assert FIRST_POOL + (1 << 38) <= FIRST_LESSON < FIRST_SCENES["training"] <= FIRST_TEST - room
    assert FIRST_TEST + (1 << 32) * 4096 + 4096 <= FIRST_SCENES["development"] <= FIRST_SCENES["test"] - room
    one, other = scenes.render(1, size=48), scenes.render(1, size=48, purpose="test")
    assert not torch.equal(one.images, other.images)


def test_shares_of_defects() -> None:
    held = [scenes.render(4, size=48, defective=share).things for share in (0.0, 1.0)]
    assert [{bool(t.defect) for things in some for t in things} for some in held] == [{False}, {True}]


@pytest.mark.parametrize(("bad", "says"), [
    ({"count": 0}, "count: expected a whole number from 1"),
    ({"seed": -1}, "seed: expected"),
    ({"size": 8}, "size: expected"),
    ({"split": "all"}, "split: expected one of seen"),
    ({"parts": (3, 2)}, "smaller number first"),
    ({"parts": (1, 13)}, "parts: expected"),
    ({"parts": (2,)}, "parts: expected tuple"),
    ({"defective": 1.5}, "defective"),
    ({"purpose": "fun"}, "purpose: expected one of training"),
])  # fmt: skip
def test_bad_orders(bad, says, untyped) -> None:
    with pytest.raises(ValueError, match=says):
        scenes.render(**{"count": 1} | bad)


def test_a_scene_by_number_is_refused(some, untyped) -> None:
    with pytest.raises(ValueError, match="expected a slice"):
        some[3]
    with pytest.raises(ValueError, match="scene: expected"):
        some.masks(24)
