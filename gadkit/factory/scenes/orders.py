"""What lies where in a scene, before anything is drawn: categories, products, defects, places and sizes.

Book: intro/factory
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gadkit.factory.catalogue import CATEGORIES, lookup
from gadkit.factory.draw import Draw

MOST_PARTS = 12
SMALLEST, LARGEST = 0.2, 0.6  # side of a part's photograph, as a share of the scene's side


def object_categories(split: str) -> tuple[str, ...]:
    """The categories of a split that are things, not materials."""
    return tuple(c.name for c in CATEGORIES.values() if c.split == split and c.kind == "object")


@dataclass(frozen=True)
class Orders:
    """b scenes with up to k parts each, bottom to top; where `wanted` is False there is no part.

    `seeds` choose piece and product, `kinds` and `defects` are names ("" for a sound part), `nouns` what the part is
    called.  `centres` run from -1 to 1, `sizes` are shares of the side, `angles` radians.
    """

    keys: Int[Tensor, "b"]
    split: str
    wanted: Bool[Tensor, "b k"]
    seeds: Int[Tensor, "b k"]
    kinds: tuple[tuple[str, ...], ...]
    nouns: tuple[tuple[str, ...], ...]
    defects: tuple[tuple[str, ...], ...]
    severities: Float[Tensor, "b k"]
    centres: Float[Tensor, "b k 2"]
    sizes: Float[Tensor, "b k"]
    angles: Float[Tensor, "b k"]


def orders(keys: Int[Tensor, "b"], split: str, parts: tuple[int, int], defective: float) -> Orders:
    """Draw b scenes from their keys, every number by its name."""
    draw, most, names = Draw(keys), parts[1], object_categories(split)
    column = {
        what: torch.stack([draw.uniform(f"{what} {j}").flatten() for j in range(most)], 1)
        for what in ("kind", "noun", "flawed", "defect", "severity", "size", "angle")
    }
    wanted = torch.arange(most) < draw.integer("count", *parts).view(-1, 1)
    sizes = SMALLEST + (LARGEST - SMALLEST) * column["size"]
    kinds = [[names[int(u * len(names))] for u in row] for row in column["kind"].tolist()]
    nouns = [
        [_pick(lookup(kind).nouns, 0.0 if u < 0.6 else (u - 0.6) / 0.4) for kind, u in zip(*pair, strict=True)]
        for pair in zip(kinds, column["noun"].tolist(), strict=True)
    ]
    defects = [
        [_pick(lookup(kind).defects, u) if flaw < defective else "" for kind, u, flaw in zip(*row, strict=True)]
        for row in zip(kinds, column["defect"].tolist(), column["flawed"].tolist(), strict=True)
    ]
    return Orders(
        keys,
        split,
        wanted,
        keys[:, None] + torch.arange(most),
        *(tuple(tuple(row) for row in rows) for rows in (kinds, nouns, defects)),
        0.3 + 0.7 * column["severity"],
        _centres(draw, sizes),
        sizes,
        math.tau * column["angle"],
    )


def _pick(words: tuple[str, ...], u: float) -> str:
    return words[int(u * len(words))]


def _centres(draw: Draw, sizes: Float[Tensor, "b k"]) -> Float[Tensor, "b k 2"]:
    """Where the parts lie: the best of six places each, half of them well apart, half leaning on another part."""
    rows, placed = torch.arange(len(sizes)), []
    for j in range(sizes.shape[1]):
        room = 1 - 0.6 * sizes[:, j, None, None]  # a part is cut by the frame at times, but not by half
        places = draw.lattice(f"place {j}", 6, 2) * room
        if placed:
            gaps = (places[:, :, None] - torch.stack(placed, 1)[:, None]).norm(dim=3)  # (b, 6, j)
            gaps = gaps / (sizes[:, None, :j] + sizes[:, j, None, None])
            leaning = draw.chance(f"leaning {j}", 0.5).view(-1, 1)
            value = torch.where(leaning > 0, -(gaps.amin(2) - 0.6).abs(), gaps.amin(2))
            places = places[rows, value.argmax(1), None]
        placed.append(places[:, 0])
    return torch.stack(placed, 1)
