"""Test sets with fixed seeds.

A set is one product of one category: reference images of sound parts, more sound parts and defective ones of every kind
and grade.  Seeds of different sets do not overlap, and training draws from a range of its own.

Book: intro/factory
"""

import zlib

import torch
from torch import Tensor

from gadkit.checks import checked, one_of
from gadkit.factory.catalogue import lookup
from gadkit.factory.render import GRADES, NUISANCE, render
from gadkit.factory.seeds import FIRST_TEST
from gadkit.protocols import TestSet

PROTOCOLS = ("local", "global")
LEAST_PIXELS = 8 / 96**2  # share of the image that a defect has to cover to count as one


def _seeds(category: str, variant: int, seed: int, what: str, count: int) -> Tensor:
    start = zlib.crc32(f"{category}/{variant}/{seed}/{what}".encode())
    return FIRST_TEST + start * 4096 + torch.arange(count)


@checked
def test_set(
    category: str,
    variant: int = 0,
    seed: int = 0,
    regime: str = "loose",
    normal: int = 20,
    per_defect: int = 3,
    references: int = 4,
    size: int = 96,
    defects: str = "local",
) -> TestSet:
    """Photographs of one product variant: `normal` sound ones and `per_defect` of each defect, its grades in turn.

    `defects` are the "local" ones, each at a place of the part, or the "global" ones of `everywhere`, which change all
    of it; the sound photographs are the same.  A defect that would show on fewer than 8 pixels of a 96-pixel image is
    drawn again.  Raises ValueError for an unknown category, regime or word for `defects`.
    """
    one_of("regime", regime, NUISANCE), one_of("defects", defects, PROTOCOLS)
    if normal < 1 or references < 0 or per_defect < 1:
        raise ValueError(
            f"test set: expected normal and per_defect from 1 and references from 0, "
            f"got {normal}, {per_defect} and {references}"
        )
    nuisance, product = NUISANCE[regime], FIRST_TEST + zlib.crc32(f"{category}/{variant}".encode())
    sound = _seeds(category, variant, seed, "good", references + normal)
    good = render(category, sound, product, size=size, nuisance=nuisance)
    images, masks, names = [good.images[references:]], [good.masks[references:]], ["good"] * normal
    kind = lookup(category)
    for defect in kind.defects if defects == "local" else kind.everywhere:
        bad, mask = _defective(category, product, defect, per_defect, size, nuisance, (variant, seed))
        images.append(bad)
        masks.append(mask)
        names += [defect] * len(bad)
    return TestSet(category, good.images[:references], torch.cat(images), torch.cat(masks), tuple(names), kind.nouns[0])


test_set.__test__ = False


def _defective(
    category: str, product: int, defect: str, count: int, size: int, nuisance: float, where: tuple[int, int]
):
    """`count` defective images: the first that show enough, from a few spare seeds each."""
    spare = 6
    seeds = _seeds(category, *where, defect, count * spare).view(count, spare)
    grades = torch.tensor(list(GRADES.values()))[torch.arange(count) % len(GRADES)]
    shots = render(category, seeds[:, 0], product, defect, grades, size, nuisance)
    images, masks = shots.images.clone(), shots.masks.clone()
    for attempt in range(1, spare):
        poor = (masks.flatten(1).float().mean(1) < LEAST_PIXELS).nonzero()[:, 0]
        if not len(poor):
            break
        again = render(category, seeds[poor, attempt], product, defect, grades[poor], size, nuisance)
        images[poor], masks[poor] = again.images, again.masks
    shown = masks.flatten(1).float().mean(1) >= LEAST_PIXELS
    return images[shown], masks[shown]
