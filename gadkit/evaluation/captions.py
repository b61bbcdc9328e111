"""What captions are measured by: CIDEr-D, and whether they name the right thing in the right state.

CIDEr's own package is 104 MB of Java beside forty lines of Python and was last released in 2020, so those lines are
written anew here and give its numbers.

Source: Vedantam et al., CIDEr: Consensus-based Image Description Evaluation, CVPR 2015, sections 3 and 5.
Book: multimodal/blip
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from gadkit.checks import check_texts, checked
from gadkit.factory import CATEGORIES
from gadkit.factory.captions import ANOMALOUS, BY_DEFECT, NORMAL
from gadkit.factory.scenes.words import COLOURS

LONGEST, WIDTH = 4, 6.0  # words of an n-gram; deviation, in words, of the penalty for another length
DAMAGED = "damaged"  # the state of a caption that names no kind of defect
PLAIN = {"a", "an", "and", "with", "part", "edge", "on", "it"}  # words of the patterns that say nothing of the state


@checked
def cider(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D of every caption with its references, from 0 to 10, mostly printed times 10.

    How rare an n-gram is, is counted over all images' references here, so a caption's value depends on the others.
    Raises ValueError for no captions, another number of references, or an image without one.
    """
    check_texts(captions, "captions", empty=True)
    if len(references) != len(captions):
        raise ValueError(f"references: expected {len(captions)} lists, one a caption, got {len(references)}")
    theirs = [[_counts(text) for text in check_texts(texts, "references", empty=True)] for texts in references]
    seen = Counter(gram for texts in theirs for gram in {gram for counts in texts for gram in counts})
    rarity = {gram: math.log(len(captions)) - math.log(count) for gram, count in seen.items()}
    most = math.log(len(captions))  # of an n-gram that no reference has
    found = []
    for caption, texts in zip(map(_counts, captions), theirs, strict=True):
        pairs = [_alike(caption, text, rarity, most) for text in texts]
        found.append(10 * sum(pairs) / len(pairs))
    return found


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return re.findall(r"[a-z0-9'-]+", text.lower())


def _counts(text: str) -> Counter[tuple[str, ...]]:
    """How often each n-gram of 1 to 4 words stands in a text."""
    held = words(text)
    return Counter(tuple(held[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(held) - n + 1))


def _alike(
    caption: Counter[tuple[str, ...]], text: Counter[tuple[str, ...]], rarity: dict[tuple[str, ...], float], most: float
) -> float:
    """The mean over n of the clipped cosines, times the penalty for another length."""
    total = 0.0
    for n in range(1, LONGEST + 1):
        left, right = (
            {gram: count * rarity.get(gram, most) for gram, count in one.items() if len(gram) == n}
            for one in (caption, text)
        )
        norm = math.hypot(*left.values()) * math.hypot(*right.values())
        shared = sum(min(value, right[gram]) * right[gram] for gram, value in left.items() if gram in right)
        total += shared / norm if norm else 0.0
    apart = sum(c for g, c in caption.items() if len(g) == 1) - sum(c for g, c in text.items() if len(g) == 1)
    return total / LONGEST * math.exp(-(apart**2) / (2 * WIDTH**2))


@dataclass(frozen=True)
class Claim:
    """What a caption claims: the categories that its noun may mean, its first colour word, and its state.

    `state` is "" for a sound part, `DAMAGED` without a kind of defect, the kind's name, or None if it names no state.
    """

    categories: tuple[str, ...]
    colour: str
    state: str | None


@checked
def parse(caption: str) -> Claim:
    """Read a caption in the factory's words.  Its noun is the longest that stands in it."""
    held = words(caption)
    text = f" {' '.join(held)} ".replace("missing part ", " ").replace("misplaced part ", " ")  # no nouns of a thing
    there = [noun for noun in _nouns() if f" {noun} " in text]
    longest = max(there, key=len) if there else None
    colour = next((word for word in held if word in COLOURS), "")
    kinds = [state for word in held if (state := _states().get(word)) not in (None, DAMAGED)]
    if "without" in held:
        state = ""
    elif kinds:
        state = kinds[0]
    else:
        vague = any(_states().get(word) == DAMAGED for word in held)
        state = DAMAGED if vague else "" if {*held} & _sound() else None
    return Claim(_nouns().get(longest, ()), colour, state)


@cache
def _nouns() -> dict[str, tuple[str, ...]]:
    """The categories that a noun may mean."""
    found: dict[str, tuple[str, ...]] = {}
    for category in CATEGORIES.values():
        for noun in category.nouns:
            key = " ".join(words(noun))
            found[key] = (*found.get(key, ()), category.name)
    return found


@cache
def _states() -> dict[str, str]:
    """The state that a word stands for; a kind of defect goes before "damaged"."""
    found = {word: DAMAGED for pattern in ANOMALOUS for word in words(pattern.format("")) if word not in PLAIN}
    for defect, patterns in BY_DEFECT.items():
        found |= dict.fromkeys((w for p in patterns for w in words(p.format("")) if w not in PLAIN), defect)
    return found | {"faulty": DAMAGED, "colour": "discolouration"}


@cache
def _sound() -> set[str]:
    return {word for pattern in NORMAL if "without" not in pattern for word in words(pattern.format(""))}
