"""The layouts of folders, and labels from them: MVTec AD's and its kin, VisA's, good beside bad, masks beside images.

Book: intro/run-it
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gadkit.data.folders.listing import files_in, folders_in, natural
from gadkit.data.folders.masks import by_subject, is_mask_folder, read_mask
from gadkit.data.folders.opening import BrokenImage
from gadkit.data.folders.structure import (
    is_bad,
    is_classes,
    is_good,
    is_mvtec,
    is_visa,
    marked_in,
    masks_of,
    split_of,
    within,
)
from gadkit.data.folders.walking import images_in, pairs_below

ORDER = {"train": 1, "validation": 2, "test": 3}


@dataclass(frozen=True)
class Entry:
    """A file that is still unread, and what is known about it: None, or no masks, where the layout does not say."""

    path: Path
    label: int | None = None
    masks: tuple[Path, ...] = ()
    defect: str | None = None
    category: str | None = None
    split: str | None = None


def detect_layout(root: str | Path) -> str:
    """Distinguish "visa", "mvtec", "classes", "pairs" and "plain", for a data set, one category, or a folder above it.

    "mvtec" is also what BTAD, MVTec LOCO and MVTec AD 2 have, "pairs" what KolektorSDD and KolektorSDD2 have.
    """
    root = Path(root)
    for name, test in (("visa", is_visa), ("mvtec", is_mvtec), ("classes", is_classes)):
        if within(root, test):
            return name
    return "pairs" if pairs_below(root) else "plain"


def mvtec(root: Path) -> Iterator[Entry]:
    """`category/<split>/<defect>/x.png` with masks in `category/ground_truth/<defect>/`, as MVTec AD and its kin have.

    Good parts are in `good`, `ok` or `normal`, in any case; a mask is `x.png`, `x_mask.bmp`, or all of a folder `x`.
    """
    for category in within(root, is_mvtec):
        for split in sorted(folders_in(category), key=lambda split: ORDER.get(split_of(split), 0)):
            if split_of(split):
                masks = _mask_folders(category) + _mask_folders(split)
                classes = [folder for folder in folders_in(split) if not is_mask_folder(folder.name)]
                labels = {folder: int(not is_good(folder)) for folder in classes}
                yield from _labelled(labels, masks, category, split_of(split))


def classes(root: Path) -> Iterator[Entry]:
    """Folders of good parts, of defective ones and of masks side by side; nothing is known of images in others."""
    for category in within(root, is_classes):
        masks, marked = masks_of(category), marked_in(category)
        there = [folder for folder in folders_in(category) if not is_mask_folder(folder.name)]
        bad = {folder for folder in there if is_bad(folder) or folder.name.casefold() in marked}
        labels = {folder: 0 if is_good(folder) else 1 if folder in bad else None for folder in there}
        yield from _labelled(labels, masks, category, None)
        yield from (Entry(path, category=category.resolve().name) for path in images_in(category))


def pairs(root: Path) -> Iterator[Entry]:
    """Photographs with masks beside them, as in KolektorSDD; one is defective if its mask marks anything."""
    marks: dict[Path, list[Path]] = {}
    for mask, photograph in pairs_below(root).items():
        marks.setdefault(photograph, []).append(mask)
    for path in images_in(root, recursive=True):
        above = [folder for folder in path.parents if folder.is_relative_to(root)]
        split = next((folder for folder in above if split_of(folder)), None)
        category = root if split in (None, root) else split.parent
        masks = tuple(natural(marks.get(path, [])))
        label = _marks_something(masks)
        defect = None if label is None else "defect" if label else "good"
        yield Entry(path, label, masks, defect, category.resolve().name, split and split_of(split))


def plain(root: Path, recursive: bool = True) -> Iterator[Entry]:
    """Every image in a folder and, if `recursive`, below it, but no masks; `root` may also be one file."""
    return (Entry(path) for path in (images_in(root, recursive) if os.path.isdir(root) else [root]))


def _labelled(labels: dict[Path, int | None], masks: list[Path], category: Path, split: str | None) -> Iterator[Entry]:
    """The images of folders whose labels are known, each with its masks."""
    found = {folder: images_in(folder, recursive=True) for folder in labels}
    often = Counter(path.stem.casefold() for folder, label in labels.items() if label for path in found[folder])
    indexes: dict[Path, dict[str, list[Path]]] = {}
    for folder, paths in found.items():
        for path in paths:
            marked = ()
            if labels[folder]:
                alone = often[path.stem.casefold()] == 1  # else a mask in no folder could belong to several
                marked = _masks_of(path, folder, masks, alone, indexes)
            defect = None if labels[folder] is None else folder.name if labels[folder] else "good"
            yield Entry(path, labels[folder], marked, defect, category.resolve().name, split)


def _masks_of(
    path: Path, folder: Path, roots: list[Path], alone: bool, indexes: dict[Path, dict[str, list[Path]]]
) -> tuple[Path, ...]:
    """All masks of one photograph, from the folder of its defect, else from the folder of all masks."""
    for root in roots:
        own = [below for below in folders_in(root) if below.name.casefold() == folder.name.casefold()]
        for place in own or [root] * alone:
            place = place / path.relative_to(folder).parent
            if place not in indexes:
                indexes[place] = by_subject(files_in(place))
                for below in folders_in(place):  # MVTec LOCO: a folder of masks for each photograph
                    indexes[place].setdefault(below.name.casefold(), []).extend(files_in(below))
            if found := indexes[place].get(path.stem.casefold()):
                return tuple(natural(found))
    return ()


def _mask_folders(folder: Path) -> list[Path]:
    return [below for below in folders_in(folder) if is_mask_folder(below.name)]


def _marks_something(masks: tuple[Path, ...]) -> int | None:
    """1 if any of them marks a pixel, 0 if none does, None if there are none or one can't be read."""
    try:
        found = [(mask, os.stat(mask)) for mask in masks]
        return max((_marks(mask, status.st_mtime_ns, status.st_size) for mask, status in found), default=None)
    except (OSError, BrokenImage):
        return None


@lru_cache(maxsize=100_000)
def _marks(mask: Path, *_: int) -> int:
    """Whether a mask marks anything; read once as long as the file does not change."""
    return int(read_mask(mask).any())
