"""Photographs with true captions, for models that learn from pairs: single parts, and two parts side by side.

Two parts make order and binding matter: "a red gear and a blue bolt" has the words of "a blue gear and a red bolt",
and "a gear left of a bolt" those of "a bolt left of a gear".

Book: multimodal/contrastive
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from gadkit.checks import checked, whole
from gadkit.factory import descriptions, scenes
from gadkit.factory.descriptions.words import article
from gadkit.factory.scenes import Thing
from gadkit.factory.scenes.words import APART, same_kind

SIZE = 96  # side of a photograph in pixels
WORDINGS = 6  # captions of each photograph
RELATIONS = (("left of", 0, 1), ("right of", 0, -1), ("above", 1, 1), ("below", 1, -1))
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


@dataclass(frozen=True)
class Captioned:
    """n photographs, each with as many captions as any other."""

    images: UInt8[Tensor, "n 3 s s"]
    captions: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.images)


@checked
def captioned(
    counts: Mapping[str, int], pairs: int = 0, seed: int = 0, wordings: int = WORDINGS, size: int = SIZE
) -> Captioned:
    """`counts[split]` photographs of single parts of each split, and what is of use of `pairs` scenes of two parts.

    Scenes come from the first split, and those are of use whose parts differ in name and colour.  Each photograph has
    `wordings` captions.  The same arguments give the same.  Raises ValueError for no split, no photograph of one,
    `wordings` below 1, and as `factory.descriptions.render` does.
    """
    if not counts:
        raise ValueError("counts: expected photographs of at least one split, got none")
    whole("pairs", pairs, 0), whole("wordings", wordings)
    rng, images, texts = random.Random(f"{seed}/captions"), [], []
    for split, count in counts.items():
        some = descriptions.render(count, seed, size, split)
        images.append(some.images)
        texts += [tuple(descriptions.caption(fact, rng) for _ in range(wordings)) for fact in some.facts]
    if pairs:
        shown = scenes.render(pairs, seed, size, next(iter(counts)), (2, 2), 0.0)
        use = [i for i, things in enumerate(shown.things) if distinct(things)]
        images.append(shown.images[use])
        texts += [tuple(beside(shown.things[i], rng, size) for _ in range(wordings)) for i in use]
    return Captioned(torch.cat(images), tuple(texts))


def distinct(things: Sequence[Thing]) -> bool:
    """Whether there are two things, of two names and two colours."""
    return (
        len(things) == 2
        and not same_kind(things[0].category, things[1].category)
        and "" not in (things[0].colour, things[1].colour)
        and things[0].colour != things[1].colour
    )


@checked
def beside(things: Sequence[Thing], rng: random.Random, size: int = SIZE) -> str:
    """A true sentence of two things: "a red gear and a blue bolt", or where they lie, where that is plain."""
    first, second = rng.sample([*things], 2)
    known = relations(first, second, size)
    word = rng.choice(known) if known and rng.random() < 0.5 else "and"
    return rng.choice(("{}", "{}", "a photo of {}")).format(f"{named(first)} {word} {named(second)}")


def named(thing: Thing, colour: str | None = None) -> str:
    """A thing with its colour, or another one: "a red gear"."""
    words = f"{thing.colour if colour is None else colour} {thing.noun}".strip()
    return f"{article(words)} {words}"


def relations(first: Thing, second: Thing, size: int) -> list[str]:
    """Which of left of, right of, above and below are plainly true of where the first lies beside the second."""
    centres = [((t.box[0] + t.box[2]) / 2, (t.box[1] + t.box[3]) / 2) for t in (first, second)]
    return [word for word, axis, sign in RELATIONS if sign * (centres[1][axis] - centres[0][axis]) > APART * size]
