"""Captions: CIDEr-D by its equations and by its own package's numbers, and what a caption claims."""

import math
import random
from collections import Counter

import pytest

from gadkit.evaluation.captions import cider, parse
from gadkit.factory import CATEGORIES, descriptions
from gadkit.factory.descriptions import Fact

CAPTIONS = ["a red gear with a scratch", "a flawless nut", "a nut"]
REFERENCES = [
    ["a scratched red gear", "a photo of a red gear with a scratch"],
    ["a nut without flaw", "a perfect nut"],
    ["a bent nut", "a blue bent nut"],
]


def literal(caption: str, references: list[str], documents: list[list[str]]) -> float:
    """The equations of section 5, n-gram by n-gram."""

    def grams(text: str, n: int) -> Counter:
        words = text.split()
        return Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))

    total = 0.0
    for n in (1, 2, 3, 4):

        def g(text: str, n: int = n) -> dict[str, float]:
            held = {}
            for gram, count in grams(text, n).items():
                among = sum(any(gram in grams(ref, n) for ref in refs) for refs in documents)
                held[gram] = count * math.log(len(documents) / max(1, among))
            return held

        for reference in references:
            c, s = g(caption), g(reference)
            dot = sum(min(c[gram], s.get(gram, 0.0)) * s.get(gram, 0.0) for gram in c)
            norm = math.sqrt(sum(v * v for v in c.values())) * math.sqrt(sum(v * v for v in s.values()))
            far = len(caption.split()) - len(reference.split())
            total += (10 * math.exp(-(far**2) / (2 * 6**2)) * dot / norm if norm else 0.0) / len(references) / 4
    return total


def test_cider_is_that_of_its_own_package_and_of_the_equations() -> None:
    """pycocoevalcap 1.2 gives these numbers."""
    found = cider(CAPTIONS, REFERENCES)
    assert found == pytest.approx([4.374688624943435, 0.2576354871633802, 0.7254182684143423], abs=1e-9)
    assert found == pytest.approx([literal(c, r, REFERENCES) for c, r in zip(CAPTIONS, REFERENCES, strict=True)])


def test_the_same_words_have_the_most() -> None:
    texts = ["a red gear with a scratch", "one perfect blue nut here"]
    assert cider(texts, [[text] for text in texts]) == pytest.approx([10, 10])
    assert cider(["soup", "salad"], [[text] for text in texts]) == [0, 0]


@pytest.mark.parametrize("vague", [0.0, 1.0])
def test_every_caption_of_the_factory_is_read_as_it_is_meant(vague: float) -> None:
    rng = random.Random(0)
    for category in CATEGORIES.values():
        for defect in ("", *category.defects):
            fact = Fact(category.name, category.nouns[0], category.kind, "red", "blue", defect, 0.5)
            text = descriptions.caption(fact, rng, vague=vague)
            said = parse(text)
            assert category.name in said.categories, text
            assert said.colour == "red"
            assert said.state == ("damaged" if defect and vague else defect), text


def test_what_a_caption_does_not_say_is_not_read() -> None:
    said = parse("a photo of something")
    assert (said.categories, said.colour, said.state) == ((), "", None)


@pytest.mark.usefixtures("untyped")
def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="captions: expected a list of at least one text"):
        cider([], [])
    with pytest.raises(ValueError, match="references: expected 1 lists, one a caption, got 2"):
        cider(["a"], [["a"], ["b"]])
    with pytest.raises(ValueError, match="references: expected a list of at least one text"):
        cider(["a"], [[]])
