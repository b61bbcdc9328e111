"""Single parts and what is said of them: the same in any batch, and every word true."""

import random

import pytest
import torch

from gadkit import factory
from gadkit.factory import descriptions
from gadkit.factory.captions import ANOMALOUS, BY_DEFECT, NORMAL
from gadkit.factory.catalogue import lookup
from gadkit.factory.descriptions import Described, Fact, _named
from gadkit.factory.descriptions.words import phrase
from gadkit.factory.scenes.words import COLOURS
from gadkit.factory.seeds import FIRST_DESCRIBED, FIRST_SCENES, FIRST_TEST, POOLS, SCENES
from gadkit.factory.sets import LEAST_PIXELS

GEAR = Fact("gear", "gear", "object", "red", "white", "scratch", 0.6)
FELT = Fact("felt", "felt", "texture", "orange", "", "", 0.0)


@pytest.fixture(scope="module")
def drawn() -> Described:
    """Sixty photographs of the development split."""
    return descriptions.render(60, size=32, split="development")


def test_fewer_photographs_are_the_first_ones_and_another_seed_gives_others(drawn: Described) -> None:
    few, other = (descriptions.render(7, seed, 32, "development") for seed in (0, 1))
    assert torch.equal(few.images, drawn.images[:7])
    assert torch.equal(few.masks, drawn[:7].masks)
    assert few.facts == drawn[:7].facts
    assert len(torch.cat([drawn.images, other.images]).unique(dim=0)) == 67


def test_facts_are_those_of_their_photographs(drawn: Described) -> None:
    """Each photograph is the factory's own of what its fact says, from its own seed."""
    assert {f.category for f in drawn.facts} == {*factory.split("development")}
    assert {bool(f.defect) for f in drawn.facts} == {True, False}
    for i, fact in enumerate(drawn.facts):
        key = torch.tensor([FIRST_DESCRIBED["development"] + i])
        shots = factory.render(fact.category, key, key, fact.defect or None, fact.severity, 32)
        assert torch.equal(shots.images[0], drawn.images[i])
        assert torch.equal(shots.masks[0], drawn.masks[i])
        assert bool(fact.defect) == (float(drawn.masks[i].float().mean()) >= LEAST_PIXELS) == (fact.severity > 0)
        assert fact.noun == lookup(fact.category).nouns[0]
        assert fact.kind == lookup(fact.category).kind


@pytest.mark.parametrize(("defective", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_none_or_nearly_all_may_be_defective(defective: float, share: float) -> None:
    some = descriptions.render(12, size=32, defective=defective)
    assert abs(sum(bool(f.defect) for f in some.facts) / 12 - share) <= 0.25 * share  # a small scratch is left out


def test_a_colour_has_two_fifths_of_the_part_and_an_accent_a_seventh() -> None:
    red, white, green = ([220, 20, 20], [250, 250, 250], [20, 220, 20])
    rows = [(red, 10, white, 0), (red, 8, white, 2), (red, 9, white, 1), (red, 5, white, 3)]
    images = torch.tensor(green, dtype=torch.uint8)[None, :, None, None].repeat(4, 1, 10, 10)
    own = torch.zeros(4, 10, 10, dtype=torch.bool)
    for i, (first, n, second, m) in enumerate(rows):
        images[i, :, 0, :n] = torch.tensor(first, dtype=torch.uint8)[:, None]
        images[i, :, 0, n : n + m] = torch.tensor(second, dtype=torch.uint8)[:, None]
        own[i, 0] = True  # the table is green, and counts for nothing
    assert _named(images, own) == [("red", ""), ("red", "white"), ("red", ""), ("red", "white")]
    third = own.clone()
    third[:, 1:] = True
    assert _named(images, third)[3] == ("green", "")
    assert _named(images, torch.zeros_like(own)) == [("", "")] * 4


@pytest.mark.parametrize(
    ("state", "accent", "said"),
    [
        ("{} with a scratch", "", "red gear with a scratch"),
        ("{} with a scratch", "white", "red gear with white details and a scratch"),
        ("{} without flaw", "white", "red gear with white details, without flaw"),
        ("scratched {}", "white", "scratched red gear with white details"),
        ("flawless {}", "", "flawless red gear"),
    ],
)
def test_phrases(state: str, accent: str, said: str) -> None:
    assert phrase(state, "red gear", accent) == said


def test_captions_say_colour_noun_and_state() -> None:
    rng = random.Random(0)
    said = {descriptions.caption(GEAR, rng) for _ in range(400)}
    assert "an image of a red gear with white details and a scratch" in said
    assert all("red" in s and ("gear" in s or "cog wheel" in s) for s in said)
    flaws = [state.replace("{}", "").strip() for state in (*BY_DEFECT["scratch"], *ANOMALOUS)]
    assert all(any(word.removeprefix("with ") in s for word in flaws) for s in said)
    assert 0.3 < sum("white details" in descriptions.caption(GEAR, rng) for _ in range(400)) / 400 < 0.7
    sound = {descriptions.caption(FELT, rng) for _ in range(400)}
    assert any(s.startswith("orange felt") for s in sound)  # no article before a material
    assert "a photo of flawless orange felt" in sound
    assert not any(word in s.split() for s in sound for word in ("scratch", "damaged", "defective"))


def test_articles_follow_the_sound() -> None:
    said = [descriptions.caption(GEAR, random.Random(i), accented=0.0, vague=1.0) for i in range(200)]
    assert any("an abnormal red gear" in s for s in said)
    assert not any(f"a {vowel}" in s for s in said for vowel in "aeiou")


def test_questions_have_true_answers() -> None:
    asked = dict(descriptions.questions(GEAR))
    assert asked == {
        "what is this?": "gear",
        "is the gear damaged?": "yes",
        "is the gear flawless?": "no",
        "what is wrong with the gear?": "scratch",
        "what is missing from the gear?": "nothing",
        "what colour is the gear?": "red",
        "what colour are the details of the gear?": "white",
        "how bad is the damage of the gear?": "moderate",
    }
    sound = dict(descriptions.questions(FELT))
    assert sound["is the felt damaged?"] == "no"
    assert sound["what is wrong with the felt?"] == "nothing"
    assert "how bad is the damage of the felt?" not in sound
    gone = Fact("gear", "gear", "object", "", "", "missing", 0.9)
    assert dict(descriptions.questions(gone))["what is missing from the gear?"] == "part"
    assert "what colour is the gear?" not in dict(descriptions.questions(gone))


def test_the_vocabulary_has_every_word_that_captions_and_questions_use(drawn: Described) -> None:
    words = {word for text in descriptions.vocabulary() for word in text.split()}
    rng = random.Random(0)
    texts = [descriptions.caption(f, rng) for f in drawn.facts]
    texts += [text for f in drawn.facts for pair in descriptions.questions(f) for text in pair]
    plain = {word.strip(",?") for word in words}
    assert {word.strip(",?") for text in texts for word in text.split()} <= plain
    assert {*COLOURS} <= plain
    assert {w for c in factory.CATEGORIES.values() for noun in c.nouns for w in noun.split()} <= plain
    assert len(descriptions.vocabulary()) == len({*descriptions.vocabulary()})
    patterns = (*NORMAL, *ANOMALOUS, *(p for some in BY_DEFECT.values() for p in some))
    assert {w for p in patterns for w in p.replace("{}", "").split()} <= plain


def test_its_seeds_are_nobody_elses() -> None:
    upto = POOLS * SCENES
    for purpose, first in FIRST_DESCRIBED.items():
        assert first >= FIRST_SCENES[purpose] + 16 * upto  # after the scenes
    assert FIRST_DESCRIBED["training"] + upto <= FIRST_TEST
    assert FIRST_DESCRIBED["development"] + upto <= FIRST_SCENES["test"]


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("order", "message"),
    [
        ({"count": 0}, "count: expected a whole number from 1 to 262144, got int 0"),
        ({"seed": 4096}, "seed: expected a whole number from 0 to 4095, got int 4096"),
        ({"size": 8}, "size: expected a whole number from 16 to 2048, got int 8"),
        ({"split": "unseen"}, "split: expected one of .*, got 'unseen'"),
        ({"defective": 1.5}, r"defective: expected a share in \[0, 1\], got float 1.5"),
        ({"purpose": "fun"}, "purpose: expected one of training, development, test, got 'fun'"),
    ],
)
def test_bad_orders_are_refused(order: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        descriptions.render(**({"count": 2, "size": 32} | order))


@pytest.mark.usefixtures("untyped")
def test_photographs_are_taken_by_slices(drawn: Described) -> None:
    assert len(drawn[3:8]) == 5
    with pytest.raises(ValueError, match="expected a slice"):
        drawn[3]
