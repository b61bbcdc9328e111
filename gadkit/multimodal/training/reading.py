"""What BLIP and BLIP-2 learn from: photographs, and for each some true captions, false ones, questions and answers.

Everything is drawn, put into tokens and encoded by frozen layers before the first step; a step only picks from it.

Book: multimodal/blip
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from gadkit import runtime
from gadkit.checks import checked
from gadkit.factory import CATEGORIES, descriptions, split
from gadkit.factory.captions import GENERIC
from gadkit.factory.catalogue import lookup
from gadkit.factory.descriptions import Fact
from gadkit.factory.scenes.words import COLOURS

COUNTS = {"seen": 6144, "randomised": 3072}  # photographs of a split; all take about a minute of one thread
CAPTIONS, FALSE, QUESTIONS = 6, 4, 8  # of each photograph
VAGUE = 0.2  # share of captions that only call a defective part damaged
UNNAMED = 0.3  # share of questions that say "part" or "material" in place of the noun
VIEWS = 2  # the photograph and its mirror image


@dataclass(frozen=True)
class Texts:
    """The texts of n photographs: `CAPTIONS` true and `FALSE` false ones, and `QUESTIONS` with their answers each.

    `vague` says of every true caption whether it names no kind of defect.
    """

    captions: tuple[tuple[str, ...], ...]
    vague: tuple[tuple[bool, ...], ...]
    false: tuple[tuple[str, ...], ...]
    questions: tuple[tuple[str, ...], ...]
    answers: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Claims:
    """What is true of photographs, in numbers; `open` are parts that do not exist, whose nouns fit any part."""

    category: Int[Tensor, "n"]
    texture: Bool[Tensor, "n"]
    open: Bool[Tensor, "n"]
    colour: Int[Tensor, "n"]
    defect: Int[Tensor, "n"]  # 0 if sound

    def true(self, images: Int[Tensor, "b"], texts: Int[Tensor, "t"], vague: Bool[Tensor, "t"]) -> Bool[Tensor, "b t"]:
        """Whether captions of the photographs `texts` are true of the photographs `images`; accents are left out."""
        kind = self.category[images, None] == self.category[texts]
        kind |= self.open[texts] & (self.texture[images, None] == self.texture[texts])
        colour = (self.colour[images, None] == self.colour[texts]) | (self.colour[texts] == 0)
        worse = (self.defect[images, None] > 0) & (self.defect[texts] > 0) & vague
        return kind & colour & ((self.defect[images, None] == self.defect[texts]) | worse)

    def to(self, where: torch.device) -> "Claims":
        """The same on a device."""
        return Claims(*(value.to(where) for value in vars(self).values()))


def photographs(counts: dict[str, int] | None = None, seed: int = 0) -> tuple[UInt8[Tensor, "n 3 s s"], list[Fact]]:
    """Training photographs of the splits, and what they show."""
    some = [descriptions.render(count, seed, split=name) for name, count in (counts or COUNTS).items()]
    return torch.cat([one.images for one in some]), [fact for one in some for fact in one.facts]


@checked
def write(facts: Sequence[Fact], seed: int = 0) -> Texts:
    """The texts of photographs, drawn by the seed.  Raises ValueError for no facts."""
    if not facts:
        raise ValueError("facts: expected those of at least one photograph, got none")
    rng, rows = random.Random(f"{seed}/texts"), []
    for fact in facts:
        vague = [bool(fact.defect) and rng.random() < VAGUE for _ in range(CAPTIONS)]
        captions = [descriptions.caption(fact, rng, vague=float(flag)) for flag in vague]
        false = [descriptions.caption(other(fact, rng), rng, vague=0.0) for _ in range(FALSE)]
        rows.append((captions, vague, false, *zip(*ask(fact, rng), strict=True)))
    return Texts(*(tuple(map(tuple, column)) for column in zip(*rows, strict=True)))


def other(fact: Fact, rng: random.Random) -> Fact:
    """A fact that is false of the photograph: in its state, its colour or its noun.

    A part that does not exist keeps its noun, which fits any part; one without a plain colour differs in its state.
    """
    what = rng.choices(("state", "colour", "noun"), (2, 1, 1))[0]
    made_up = lookup(fact.category).split == "randomised"
    if what == "noun" and not made_up:
        names = [n for n in split("seen") if lookup(n).kind == fact.kind and not _alike(n, fact.category)]
        name = rng.choice(names)
        return replace(fact, category=name, noun=lookup(name).nouns[0])
    if what == "colour" and fact.colour:
        return replace(fact, colour=rng.choice([c for c in COLOURS if c not in (fact.colour, fact.accent)]), accent="")
    states = [d for d in lookup(fact.category).defects if d != fact.defect]
    sound = fact.defect and (not states or rng.random() < 0.7)
    return replace(fact, defect="" if sound else rng.choice(states), severity=0.0 if sound else 0.5)


def _alike(first: str, second: str) -> bool:
    return bool({*lookup(first).nouns} & {*lookup(second).nouns})


def ask(fact: Fact, rng: random.Random) -> list[tuple[str, str]]:
    """`QUESTIONS` questions and answers; those about the state, which come first, may come twice.

    The noun is at times a general one.  A part that does not exist is called by any noun of the factory's, so that
    questions about nouns that no photograph shows are understood.
    """
    pairs = descriptions.questions(fact)
    pairs = [pairs[i % len(pairs)] for i in range(QUESTIONS)]
    made_up = lookup(fact.category).split == "randomised"
    nouns = [noun for c in CATEGORIES.values() if c.kind == fact.kind for noun in c.nouns]
    found = []
    for question, answer in pairs:
        general = GENERIC[fact.kind] if rng.random() < UNNAMED else nouns if made_up else (fact.noun,)
        found.append((question.replace(f"the {fact.noun}", f"the {rng.choice(general)}"), answer))
    return found


def claims(facts: Sequence[Fact]) -> Claims:
    """The facts in numbers."""
    names, defects = [*CATEGORIES], sorted({d for c in CATEGORIES.values() for d in c.defects})
    return Claims(
        torch.tensor([names.index(fact.category) for fact in facts]),
        torch.tensor([fact.kind == "texture" for fact in facts]),
        torch.tensor([lookup(fact.category).split == "randomised" for fact in facts]),
        torch.tensor([1 + COLOURS.index(fact.colour) if fact.colour else 0 for fact in facts]),
        torch.tensor([1 + defects.index(fact.defect) if fact.defect else 0 for fact in facts]),
    )


@torch.no_grad()
def encode(
    images: UInt8[Tensor, "n 3 s s"],
    prepare: Callable[[Tensor], Tensor],
    front: Callable[[Tensor], Tensor],
    chunk: int = 64,
) -> Float[Tensor, "v n ..."]:
    """What frozen layers make of the images and of their mirror images, in half precision, where the layers lie."""
    found = [[] for _ in range(VIEWS)]
    for some in runtime.progress(images.split(chunk), "encoding"):
        for view, shown in enumerate((some, some.flip(-1))):
            found[view].append(front(prepare(shown)).half())
    return torch.stack([torch.cat(view) for view in found])


@dataclass(frozen=True)
class Picks:
    """The rows of a step, a view of each, and which of its texts; on a device."""

    rows: Int[Tensor, "b"]
    views: Int[Tensor, "b"]
    captions: Int[Tensor, "b"]
    false: Int[Tensor, "b"]
    questions: Int[Tensor, "b"]


def pick(rows: Int[Tensor, "b"], generator: torch.Generator, where: torch.device) -> Picks:
    """Draw a view and texts for the rows."""
    ends = (VIEWS, CAPTIONS, FALSE, QUESTIONS)
    drawn = torch.stack([rows, *(torch.randint(end, rows.shape, generator=generator) for end in ends)])
    return Picks(*drawn.to(where).unbind())
