"""How a data set differs from a folder of loose photographs: by the names of its folders.

Book: intro/run-it
"""

from collections.abc import Callable
from pathlib import Path

from gadkit.data.folders.listing import folders_in
from gadkit.data.folders.masks import is_mask_folder

GOOD = ("good", "ok", "normal", "nominal", "io", "pass")  # in any case, as all names here
BAD = ("bad", "ko", "ng", "nok", "nio", "fail", "anomaly", "anomalous", "abnormal", "defect", "defects", "defective")
BAD += ("local", "global")  # the textiles of conformal-clip-data
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
    "test_public": "test",  # MVTec AD 2
}


def is_good(folder: Path) -> bool:
    """Whether a folder is named as those of good parts are."""
    return folder.name.casefold() in GOOD


def is_bad(folder: Path) -> bool:
    """Whether a folder is named as those of defective parts are, whatever the defect."""
    return folder.name.casefold() in BAD


def split_of(folder: Path) -> str | None:
    """The split that a folder's name stands for: "train", "validation", "test", or None."""
    return SPLITS.get(folder.name.casefold())


def is_mvtec(folder: Path) -> bool:
    """Whether a folder is a category in the manner of MVTec AD: a split in it has a folder of good parts."""
    return any(is_good(below) for split in folders_in(folder) if split_of(split) for below in folders_in(split))


def is_visa(folder: Path) -> bool:
    """Whether a folder is an object of VisA."""
    return any(place.name == "Images" for place in folders_in(folder / "Data"))


def is_classes(folder: Path) -> bool:
    """Whether folders of good parts and of defective ones, or of masks, lie side by side."""
    there = folders_in(folder)
    return any(map(is_good, there)) and any(is_bad(place) or is_mask_folder(place.name) for place in there)


def masks_of(category: Path) -> list[Path]:
    """The folders of masks in a folder, and beside it where it is a split."""
    places = [category, *([category.parent] if split_of(category) else [])]
    return [below for place in places for below in folders_in(place) if is_mask_folder(below.name)]


def marked_in(category: Path) -> set[str]:
    """The names, in lower case, of the folders whose photographs have a folder of masks."""
    return {below.name.casefold() for folder in masks_of(category) for below in folders_in(folder)}


def within(root: Path, test: Callable[[Path], bool]) -> list[Path]:
    """The folders that pass a test: `root` itself, else some just below it, else some one further below."""
    level = [root]
    for _ in range(3):
        if found := [folder for folder in level if test(folder)]:
            return found
        level = [below for folder in level for below in folders_in(folder)]
    return []


def defect_of(path: Path) -> str | None:
    """The name of the folder by which the data set around a path calls it defective; None if there is none."""
    path = path.absolute()
    for above in path.parents:
        inside = [path, *path.parents]
        inside = inside[: inside.index(above)][::-1]  # from just below `above` down to the path
        if len(inside) > 1 and split_of(inside[0]) and is_mvtec(above):
            return None if is_good(inside[1]) else inside[1].name
        bad = is_bad(inside[0]) or (not is_good(inside[0]) and inside[0].name.casefold() in marked_in(above))
        if bad and is_classes(above):
            return inside[0].name
    return None
