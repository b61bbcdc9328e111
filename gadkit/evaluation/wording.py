"""Whether words matter: pairs of a true and a false text of one picture, which differ in one respect.

A model that reads prefers the true text; one that does not is right half of the time.  A bag of words is right half of
the time, too, wherever both texts have the same words: in both kinds of binding, in word order and in relations.

Source: Thrush et al. 2022, Winoground; Yuksekgonul et al. 2023, When and why vision-language models behave like bags
of words.
Book: multimodal/contrastive
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit import factory
from gadkit.checks import checked, whole
from gadkit.factory import descriptions, scenes
from gadkit.factory.captions import BY_DEFECT
from gadkit.factory.descriptions import Fact
from gadkit.factory.descriptions.words import article, phrase
from gadkit.factory.scenes.words import COLOURS
from gadkit.multimodal.captioned import distinct, named, relations

Similarity = Callable[[UInt8[Tensor, "b 3 h w"], Sequence[str]], Float[Tensor, "b t"]]
KINDS = ("noun", "colour", "state", "defect", "negation", "accent", "binding", "relation", "shuffled")
SAME_WORDS = ("accent", "binding", "relation", "shuffled")  # where a bag of words cannot be right


@dataclass(frozen=True)
class Choices:
    """n pictures, each with a true text and a false one."""

    images: UInt8[Tensor, "n 3 s s"]
    true: tuple[str, ...]
    false: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.true)


@checked
def choices(
    kind: str, count: int = 200, split: str = "held-out", seed: int = 0, size: int = 96, purpose: str | None = None
) -> Choices:
    """At most `count` choices of one of `KINDS`, of photographs that allow them; the same every time.

    `purpose` is the range of seeds, as in `factory.descriptions.render`.  Raises ValueError for an unknown kind or
    split, a count below 1, or where no photograph allows such a choice.
    """
    whole("count", count)
    rng = random.Random(f"{seed}/{kind}/{split}")
    if kind in ("binding", "relation"):
        shown = scenes.render(5 * count, seed, size, split, (2, 2), 0.0, purpose)
        asked = [_of_two(kind, things, size, rng) if distinct(things) else None for things in shown.things]
        images = shown.images
    elif kind in KINDS:
        sound = {"negation": 0.5, "defect": 1.0}.get(kind, 0.5)
        held = descriptions.render(3 * count, seed, size, split, sound, purpose)
        asked = [ASK[kind](fact, split, rng) for fact in held.facts]
        images = held.images
    else:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    use = [i for i, texts in enumerate(asked) if texts is not None][:count]
    if not use:
        raise ValueError(f"choices: expected photographs of {split} for {kind}, got none")
    return Choices(images[use], *zip(*(asked[i] for i in use), strict=True))


def _caption(fact: Fact, state: str = "{}", colour: str | None = None, accent: str = "", noun: str = "") -> str:
    colour = fact.colour if colour is None else colour
    words = phrase(state, f"{colour} {noun or fact.noun}".strip(), accent)
    return words if fact.kind == "texture" else f"{article(words)} {words}"


Texts = tuple[str, str] | None


def _noun(fact: Fact, split: str, rng: random.Random) -> Texts:
    others = [factory.CATEGORIES[name] for name in factory.split(split) if name != fact.category]
    nouns = [c.nouns[0] for c in others if c.kind == fact.kind]
    return (_caption(fact), _caption(fact, noun=rng.choice(nouns))) if nouns else None


def _colour(fact: Fact, split: str, rng: random.Random) -> Texts:
    others = [c for c in COLOURS if c not in (fact.colour, fact.accent)]
    return (_caption(fact), _caption(fact, colour=rng.choice(others))) if fact.colour else None


def _state(fact: Fact, split: str, rng: random.Random) -> Texts:
    texts = _caption(fact, "flawless {}"), _caption(fact, "damaged {}")
    return texts[::-1] if fact.defect else texts


def _defect(fact: Fact, split: str, rng: random.Random) -> Texts:
    if not fact.defect:
        return None
    others = [d for d in factory.CATEGORIES[fact.category].defects if d != fact.defect]
    return _caption(fact, BY_DEFECT[fact.defect][0]), _caption(fact, BY_DEFECT[rng.choice(others)][0])


def _negation(fact: Fact, split: str, rng: random.Random) -> Texts:
    texts = _caption(fact, "{} with damage"), _caption(fact, "{} without damage")
    return texts if fact.defect else texts[::-1]


def _accent(fact: Fact, split: str, rng: random.Random) -> Texts:
    if not fact.accent:
        return None
    return _caption(fact, accent=fact.accent), _caption(fact, colour=fact.accent, accent=fact.colour)


def _shuffled(fact: Fact, split: str, rng: random.Random) -> Texts:
    true = _caption(fact, rng.choice(BY_DEFECT[fact.defect]) if fact.defect else "{} without flaw", accent=fact.accent)
    words = true.split()
    while len({*words}) > 1 and " ".join(words) == true:
        rng.shuffle(words)
    return true, " ".join(words)


ASK = {
    "noun": _noun,
    "colour": _colour,
    "state": _state,
    "defect": _defect,
    "negation": _negation,
    "accent": _accent,
    "shuffled": _shuffled,
}


def _of_two(kind: str, things: Sequence[scenes.Thing], size: int, rng: random.Random) -> Texts:
    first, second = rng.sample([*things], 2)
    if kind == "binding":
        swapped = named(first, second.colour), named(second, first.colour)
        return f"{named(first)} and {named(second)}", f"{swapped[0]} and {swapped[1]}"
    known = relations(first, second, size)
    word = rng.choice(known) if known else ""
    return (f"{named(first)} {word} {named(second)}", f"{named(second)} {word} {named(first)}") if word else None


@checked
def preference(similarity: Similarity, asked: Choices, chunk: int = 50) -> float:
    """The share of pictures that are more similar to their true text than to their false one; a tie counts half.

    Chance, and a model that does not read, have a half.
    """
    found = []
    for some in torch.arange(len(asked)).split(chunk):
        rows = some.tolist()
        texts = [asked.true[i] for i in rows] + [asked.false[i] for i in rows]
        grid = similarity(asked.images[some], texts)  # (c, 2 c)
        own = torch.arange(len(rows), device=grid.device)
        margin = grid[own, own] - grid[own, own + len(rows)]
        found.append(((margin > 0).double() + (margin == 0).double() / 2).cpu())
    return float(torch.cat(found).mean())
