"""Single photographs of one part or material each, with all that can be said of them: name, colours, state.

    >>> import random
    >>> from gadkit.factory import descriptions
    >>> some = descriptions.render(2, size=32, split="development")
    >>> tuple(some.images.shape), len(some.facts), type(descriptions.caption(some.facts[0], random.Random(0)))
    ((2, 3, 32, 32), 2, <class 'str'>)

Photographs of each category and state are rendered in whole batches.  A photograph is the same in any batch: all
of its numbers are drawn by name (`factory.draw`).

Book: intro/factory
"""

from collections import defaultdict
from dataclasses import dataclass

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from gadkit import factory
from gadkit.checks import checked, one_of, share, whole
from gadkit.factory.catalogue import lookup
from gadkit.factory.descriptions.words import Fact, caption, questions, vocabulary
from gadkit.factory.draw import Draw
from gadkit.factory.scenes import PURPOSES
from gadkit.factory.scenes.words import COLOURS, colours
from gadkit.factory.seeds import FIRST_DESCRIBED, POOLS, SCENES
from gadkit.factory.sets import LEAST_PIXELS

__all__ = ["Described", "Fact", "caption", "questions", "render", "vocabulary"]

PLAIN, ACCENT = 0.4, 0.15  # shares of a part's pixels that its colour and a second colour have to have
_CHUNK = 256  # photographs whose colours are named together


@dataclass(frozen=True)
class Described:
    """A batch of photographs.  `masks` are True on the defect, `facts` say what each photograph shows."""

    images: UInt8[Tensor, "b 3 s s"]
    masks: Bool[Tensor, "b s s"]
    facts: tuple[Fact, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, some: slice) -> "Described":
        if not isinstance(some, slice):
            raise ValueError(f"described: expected a slice such as described[2:5], got {some!r}")
        return Described(self.images[some], self.masks[some], self.facts[some])


@checked
@torch.no_grad()
def render(
    count: int,
    seed: int = 0,
    size: int = 96,
    split: str = "seen",
    defective: float = 0.5,
    purpose: str | None = None,
) -> Described:
    """`count` photographs of different products of the categories in a split, about a share of them `defective`.

    A defect that would show on fewer than 8 pixels of a 96-pixel image is left out, and the photograph counts as
    sound.  `size` is the side in pixels.  `purpose` chooses the range of seeds: "training", "development" or "test",
    by default what the split is for.  The same arguments give the same photographs, and fewer of them the first ones.

    Raises ValueError for a count outside 1 to 262,144, another seed than 0 to 4095, a side outside 16 to 2048, an
    unknown split or purpose, or a share outside [0, 1].
    """
    whole("count", count, 1, SCENES), whole("seed", seed, 0, POOLS - 1), whole("size", size, 16, 2048)
    one_of("split", split, PURPOSES), share("defective", defective, zero=True)
    purpose = PURPOSES[split] if purpose is None else one_of("purpose", purpose, FIRST_DESCRIBED)
    keys = FIRST_DESCRIBED[purpose] + seed * SCENES + torch.arange(count)
    images = torch.empty(count, 3, size, size, dtype=torch.uint8)
    masks, covers = torch.empty(2, count, size, size, dtype=torch.bool)
    kinds, defects, severities = _orders(keys, factory.split(split), defective)
    groups = defaultdict(list)
    for i, order in enumerate(zip(kinds, defects, strict=True)):
        groups[order].append(i)
    for (kind, defect), rows in groups.items():
        seeds, severity = keys[rows], torch.tensor([severities[i] for i in rows])
        shots = factory.render(kind, seeds, seeds, defect or None, severity, size)
        shown = shots.masks.flatten(1).float().mean(1) >= LEAST_PIXELS
        images[rows] = torch.where(shown[:, None, None, None], shots.images, shots.twins)
        masks[rows], covers[rows] = shots.masks & shown[:, None, None], shots.cover
    states = [d if hit else "" for d, hit in zip(defects, masks.flatten(1).any(1).tolist(), strict=True)]
    facts = tuple(
        Fact(kind, lookup(kind).nouns[0], lookup(kind).kind, *named, state, severity if state else 0.0)
        for kind, named, state, severity in zip(kinds, _named(images, covers & ~masks), states, severities, strict=True)
    )
    return Described(images, masks, facts)


def _orders(keys: Tensor, names: tuple[str, ...], defective: float) -> tuple[list[str], list[str], list[float]]:
    """A category, a defect or "", and a severity for every key."""
    draw = Draw(keys)
    which, flaw, flawed, severity = (
        draw.uniform(f"described {name}", *ends).flatten().tolist()
        for name, ends in (("kind", (0, 1)), ("defect", (0, 1)), ("flawed", (0, 1)), ("severity", (0.3, 1.0)))
    )
    kinds = [names[int(u * len(names))] for u in which]
    fits = [lookup(kind).defects for kind in kinds]
    drawn = [some[int(u * len(some))] if f < defective else "" for some, u, f in zip(fits, flaw, flawed, strict=True)]
    return kinds, drawn, severity


def _named(images: UInt8[Tensor, "b 3 s s"], parts: Bool[Tensor, "b s s"]) -> list[tuple[str, str]]:
    """The colour of every part, and its second colour, over the part's own undamaged pixels."""
    found = []
    for some, own in zip(images.split(_CHUNK), parts.split(_CHUNK), strict=True):
        places = torch.where(own, colours(some), len(COLOURS)).flatten(1)
        counts = torch.zeros(len(some), len(COLOURS) + 1).scatter_add_(1, places, torch.ones(1, 1).expand_as(places))
        shares, order = (counts[:, :-1] / own.flatten(1).sum(1, keepdim=True).clamp(min=1)).topk(2)
        for (first, second), (plain, other) in zip(shares.tolist(), order.tolist(), strict=True):
            colour = COLOURS[plain] if first >= PLAIN else ""
            found.append((colour, COLOURS[other] if colour and second >= ACCENT else ""))
    return found
