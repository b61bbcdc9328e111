"""A long-tailed collection, as a web crawl in small: few categories are common, most are rare, and much is there twice.

Popular products were photographed again and again, and a share of the photographs shows things that are of no use.

Book: selfsup/curation
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from gadkit import factory
from gadkit.checks import checked, describe, share, whole
from gadkit.factory.pool import RANDOMISED, Pool
from gadkit.factory.seeds import FIRST_COLLECTION

AGAIN = (0.985, 0.97, 0.955, 0.94)  # nuisance of a repeat: the same pose and light, very slightly less of both
COLLECTIONS = ("uncurated", "random subset", "curated", "by labels")  # that are compared


@checked
@dataclass(frozen=True)
class Setting:
    """The size of things.  Raises ValueError for counts below 1 and shares outside [0, 1]."""

    photographs: int = 4096  # in the uncurated collection
    keep: int = 1024  # in each subset
    steps: int = 128  # of 128 photographs, for every collection alike
    made_up: float = 0.2  # share of parts that do not exist
    again: float = 0.3  # share of a category's photographs that repeat another
    exponent: float = 1.0  # of Zipf's law: the r-th category has 1 / r^exponent of the first one's photographs
    products: tuple[int, int] = (24, 8)  # a category to learn from and to be tested on, two photographs each
    method: str = "simclr"
    eyes: str = "simclr"  # the representation that the curation sees with

    def __post_init__(self) -> None:
        for name in ("photographs", "keep", "steps"):
            whole(name, getattr(self, name))
        share("made_up", self.made_up, zero=True), share("again", self.again, zero=True)
        whole("products to learn from", self.products[0]), whole("products to be tested on", self.products[1])
        if not abs(self.exponent) <= 8:
            raise ValueError(f"exponent: expected one from -8 to 8, got {self.exponent}")


@checked
def long_tail(setting: Setting = Setting(), seed: int = 0, size: int = 96) -> tuple[Pool, Int[Tensor, "n"]]:
    """The uncurated collection, shuffled, and a number for every product; its classes are in falling order of count.

    The same seed gives the same photographs.  Raises ValueError for another seed than 0 to 4095.
    """
    whole("seed", seed, 0, 4095)  # those of the collections end where the seeds of the tests begin
    counts = _counts(setting, seed)
    images, labels, products = [], [], []
    for label, (category, count) in enumerate(counts.items()):
        first = FIRST_COLLECTION + (seed << 24) + (label << 18)
        known = category not in RANDOMISED
        originals = min(count, max(1, round(count * (1 - setting.again)))) if known else count
        draw = torch.Generator().manual_seed(first)
        repeats = torch.randint(max(1, originals), (count - originals,), generator=draw)
        shots = [(1.0, torch.arange(originals)), *((n, repeats[i :: len(AGAIN)]) for i, n in enumerate(AGAIN))]
        for nuisance, numbers in shots:
            if len(numbers):
                seeds = first + numbers
                images.append(factory.render(category, seeds, seeds, size=size, nuisance=nuisance).images)
                products.append(seeds - FIRST_COLLECTION)
        labels.append(torch.full((count,), label))
    order = torch.randperm(sum(counts.values()), generator=torch.Generator().manual_seed(seed))
    every = Pool(torch.cat(images)[order], torch.cat(labels)[order], torch.full_like(order, -1), tuple(counts))
    return every, torch.cat(products)[order]


def _counts(setting: Setting, seed: int) -> dict[str, int]:
    """Photographs of each category; which ones are common is drawn by the seed."""
    names = factory.split("seen")
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    weights = (1 + torch.arange(len(names), dtype=torch.float64)) ** -setting.exponent
    odd = round(setting.made_up * setting.photographs)
    borders = (weights.cumsum(0) / weights.sum() * (setting.photographs - odd)).round().long()
    shares = sorted(borders.diff(prepend=borders.new_zeros(1)).tolist(), reverse=True)  # rounding may have swapped some
    thirds = [odd * (i + 1) // len(RANDOMISED) - odd * i // len(RANDOMISED) for i in range(len(RANDOMISED))]
    return {names[i]: share for i, share in zip(order, shares, strict=True)} | dict(
        zip(RANDOMISED, thirds, strict=True)
    )


@checked
def statistics(pool: Pool, products: Int[Tensor, "n"], rows: Int[Tensor, "_"]) -> dict[str, Any]:
    """The content of a collection, by the labels, which no curation is given.

    Raises ValueError for no rows, or some that the pool does not have.
    """
    if not len(rows) or not 0 <= int(rows.min()) <= int(rows.max()) < len(pool.labels):
        raise ValueError(f"rows: expected some from 0 to {len(pool.labels) - 1}, got {describe(rows)}")
    counts = pool.labels[rows].bincount(minlength=len(pool.classes)).tolist()
    known = torch.tensor([n for c, n in zip(pool.classes, counts, strict=True) if c not in RANDOMISED]).double()
    shares = known / known.sum()
    return {
        "photographs": len(rows),
        "products": len(products[rows].unique()),
        "counts": dict(zip(pool.classes, counts, strict=True)),
        "entropy": float(-(shares * shares.clamp(min=1e-12).log()).sum()),
        "most": len(known) * float(shares.max()),  # the commonest category, against an equal share
    }
