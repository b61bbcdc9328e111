"""The unlabelled pool: the photographs that every method of Parts I and II learns from.

No two photographs show the same product.  The labels are kept beside the images, for the supervised baselines and for
measuring what a curation did; the self-supervised methods are given `images` and nothing else.

Book: selfsup/representations
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from gadkit import factory
from gadkit.checks import checked, share, whole
from gadkit.factory.catalogue import lookup
from gadkit.factory.seeds import FIRST_POOL, POOL_SIZE, POOLS

RANDOMISED = ("random_part", "random_bar", "random_texture")
MADE_UP = 0.4  # share of the standard pool that shows parts which do not exist


@dataclass(frozen=True)
class Pool:
    """Photographs, shuffled, with what they show: numbers of `classes`, and of a kind of defect or -1 for none."""

    images: UInt8[Tensor, "n 3 s s"]
    labels: Int[Tensor, "n"]
    defects: Int[Tensor, "n"]
    classes: tuple[str, ...]


@checked
def pool(counts: Mapping[str, int], seed: int = 0, size: int = 96, defective: float = 0.25) -> Pool:
    """`counts[category]` photographs of each category, a share of them `defective`, all of different products.

    The same seed gives the same photographs.  Raises ValueError for no photographs at all, a negative count, a share
    outside [0, 1], an unknown category, or another seed than 0 to 4095.
    """
    if not counts or min(counts.values()) < 0 or not sum(counts.values()):
        raise ValueError(f"counts: expected some photographs of some category, got {dict(counts)}")
    share("defective", defective, zero=True)
    whole("seed", seed, 0, POOLS - 1), whole("size", size, 16, 2048)  # before room is made for them
    if sum(counts.values()) > POOL_SIZE:
        raise ValueError(f"counts: expected at most {POOL_SIZE} photographs, got {sum(counts.values())}")
    orders, first = [], FIRST_POOL + seed * POOL_SIZE
    for number, (category, count) in enumerate(counts.items()):
        for kind, some in _shares(lookup(category).defects, count, defective, seed + number).items():
            orders.append((category, kind, torch.arange(first, first + some)))
            first += some
    order = torch.randperm(sum(counts.values()), generator=torch.Generator().manual_seed(seed))
    images, places = torch.empty(len(order), 3, size, size, dtype=torch.uint8), order.argsort()
    for (category, kind, seeds), rows in zip(orders, places.split([len(s) for *_, s in orders]), strict=True):
        shots = factory.render(category, seeds, seeds, kind, _severity(seeds), size)
        images[rows] = shots.images  # straight to their places: a large pool is held once
    classes, kinds = tuple(counts), sorted({d for c in factory.CATEGORIES.values() for d in c.defects})
    labels = [classes.index(category) for category, _, seeds in orders for _ in seeds]
    defects = [-1 if kind is None else kinds.index(kind) for _, kind, seeds in orders for _ in seeds]
    return Pool(images, torch.tensor(labels)[order], torch.tensor(defects)[order], classes)


def _severity(seeds: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """From slight to severe, by the seeds."""
    draws = [torch.rand(len(s), generator=torch.Generator().manual_seed(int(s[0]))) for s in seeds.split(64)]
    return 0.3 + 0.7 * torch.cat(draws)


def _shares(kinds: tuple[str, ...], count: int, defective: float, seed: int) -> dict[str | None, int]:
    """How many sound ones and how many of each kind of defect."""
    bad = round(count * defective) if kinds else 0
    drawn = torch.randint(max(1, len(kinds)), (bad,), generator=torch.Generator().manual_seed(seed)).tolist()
    shares = {None: count - bad} | {kind: drawn.count(i) for i, kind in enumerate(kinds)}
    return {kind: some for kind, some in shares.items() if some}


@checked
def unlabelled(count: int = 12288, seed: int = 0, size: int = 96) -> Pool:
    """The standard pool: all seen categories in equal parts, and parts that do not exist, a quarter with a defect."""
    whole("count", count, 1, POOL_SIZE)
    seen = factory.split("seen")
    made_up = [round(MADE_UP * count) * (i + 1) // len(RANDOMISED) for i in range(len(RANDOMISED))]
    named = [(count - made_up[-1]) * (i + 1) // len(seen) for i in range(len(seen))]
    upto = dict(zip(seen, named, strict=True)), dict(zip(RANDOMISED, made_up, strict=True))
    counts = {}
    for group in upto:
        before = 0
        for category, total in group.items():
            counts[category], before = total - before, total
    return pool(counts, seed, size)
