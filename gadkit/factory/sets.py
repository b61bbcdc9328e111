"""Test sets with fixed seeds, and their export in MVTec AD's folder layout.

A set is one product of one category: reference images of sound parts, more sound parts and defective ones of every kind
and grade.  Seeds of different sets do not overlap, and training draws from a range of its own.

Book: intro/factory
"""

import os
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from gadkit.checks import checked
from gadkit.factory.catalogue import lookup, split
from gadkit.factory.render import GRADES, NUISANCE, render
from gadkit.factory.seeds import FIRST_TEST

LEAST_PIXELS = 8 / 96**2  # share of the image that a defect has to cover to count as one


@dataclass(frozen=True)
class TestSet:
    """One product: `references`, and `images` to judge with `masks` and a defect's name each ("good" for none)."""

    __test__ = False  # the name starts with Test, and pytest would collect it

    category: str
    references: UInt8[Tensor, "k 3 s s"]
    images: UInt8[Tensor, "n 3 s s"]
    masks: Bool[Tensor, "n s s"]
    defects: tuple[str, ...]

    @property
    def labels(self) -> Bool[Tensor, "n"]:
        """True where an image shows a defect."""
        return torch.tensor([d != "good" for d in self.defects])


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
) -> TestSet:
    """Photographs of one product variant: `normal` sound ones and `per_defect` of each defect, its grades in turn.

    A defect that would show on fewer than 8 pixels of a 96-pixel image is drawn again.  Raises ValueError for an
    unknown category or regime.
    """
    if regime not in NUISANCE:
        raise ValueError(f"regime: expected one of {', '.join(NUISANCE)}, got {regime!r}")
    if normal < 1 or references < 0 or per_defect < 1:
        raise ValueError(
            f"test set: expected normal and per_defect from 1 and references from 0, "
            f"got {normal}, {per_defect} and {references}"
        )
    nuisance, product = NUISANCE[regime], FIRST_TEST + zlib.crc32(f"{category}/{variant}".encode())
    sound = _seeds(category, variant, seed, "good", references + normal)
    good = render(category, sound, product, size=size, nuisance=nuisance)
    images, masks, names = [good.images[references:]], [good.masks[references:]], ["good"] * normal
    for defect in lookup(category).defects:
        bad, mask = _defective(category, product, defect, per_defect, size, nuisance, (variant, seed))
        images.append(bad)
        masks.append(mask)
        names += [defect] * len(bad)
    return TestSet(category, good.images[:references], torch.cat(images), torch.cat(masks), tuple(names))


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


@checked
def export(
    root: Path | str,
    categories: str | tuple[str, ...] = "held-out",
    regime: str = "loose",
    seed: int = 0,
    per_class: int = 20,
    size: int = 240,
) -> int:
    """Write test sets under `root` in MVTec AD's layout and return the number of images.

    `categories` names a split or lists categories; each gets `per_class` sound images to train on, as many to test, and
    a third of that of each defect, at least one.  A category appears when it is complete.  Raises ValueError for a
    folder that already holds one of them.
    """
    root = Path(root)
    names = split(categories) if isinstance(categories, str) else categories
    if per_class < 1:
        raise ValueError(f"per_class: expected at least 1, got {per_class}")
    if there := [n for n in names if (root / n).exists()]:
        raise ValueError(
            f"export: expected a folder without {there[0]}, but {root / there[0]} exists; nothing was written"
        )
    return sum(
        _write(root, test_set(n, 0, seed, regime, per_class, max(1, per_class // 3), per_class, size)) for n in names
    )


def _write(root: Path, data: TestSet) -> int:
    from PIL import Image  # imported late: rendering needs no image library

    part = root / f".{data.category}.part"  # renamed when complete: a killed export leaves no category half-written
    shutil.rmtree(part, ignore_errors=True)

    def save(array: Tensor, *path: str) -> None:
        file = part.joinpath(*path)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array.numpy()).save(file)

    for i, image in enumerate(data.references):
        save(image.permute(1, 2, 0), "train", "good", f"{i:03d}.png")
    seen: dict[str, int] = {}
    for image, mask, defect in zip(data.images, data.masks, data.defects, strict=True):
        i = seen[defect] = seen.get(defect, -1) + 1
        save(image.permute(1, 2, 0), "test", defect, f"{i:03d}.png")
        if defect != "good":
            save(mask.to(torch.uint8) * 255, "ground_truth", defect, f"{i:03d}_mask.png")
    os.replace(part, root / data.category)
    return len(data.references) + len(data.images)
