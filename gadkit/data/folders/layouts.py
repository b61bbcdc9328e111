"""Which files a folder holds and what its layout says about each: MVTec AD's, VisA's, or no layout at all.

Nothing is opened here but VisA's lists, so a folder of any size is surveyed at once.

Book: intro/run-it
"""

import csv
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gadkit.data.folders.photos import OTHER_SUFFIXES, SUFFIXES

COLUMNS = ("object", "split", "label", "image", "mask")  # of VisA's split_csv/1cls.csv


@dataclass(frozen=True)
class Entry:
    """A file that is still unread, and what is known about it; None where the layout does not say."""

    path: Path
    label: int | None = None
    mask: Path | None = None
    defect: str | None = None
    category: str | None = None
    split: str | None = None


def detect_layout(root: str | Path) -> str:
    """Tell "mvtec", "visa" and "plain" apart, for a whole data set or a single category of it."""
    root = Path(root)
    if _within(root, _is_visa):
        return "visa"
    return "mvtec" if _within(root, _is_mvtec) else "plain"


def mvtec(root: Path) -> Iterator[Entry]:
    """`category/{train,test}/<defect>/x.png` with masks `category/ground_truth/<defect>/x_mask.png`, or `x.png`."""
    for category in _within(root, _is_mvtec):
        for split in ("train", "test"):
            for folder in _folders(category / split):
                masks = category / "ground_truth" / folder.name
                for path in images_in(folder):
                    mask = _first(masks / f"{path.stem}_mask.png", masks / f"{path.stem}.png")
                    yield Entry(path, int(folder.name != "good"), mask, folder.name, category.resolve().name, split)


def visa(root: Path) -> Iterator[Entry]:
    """VisA as it is downloaded: by `split_csv/1cls.csv` where that is there, else by the folders alone, without split.

    A defect's name comes from `<object>/image_anno.csv` (several are joined by commas there), else it is "anomaly".
    """
    if _is_visa(root):
        root = root.resolve()  # a lone object, perhaps named ".": the lists are in the folder above it
    objects = _within(root, _is_visa)
    base = root.parent if _is_visa(root) else root
    names = {name: label for folder in objects for name, label in _annotations(folder)}
    rows = _split_rows(base) if (base / "split_csv" / "1cls.csv").is_file() else _folder_rows(objects)
    present = {folder.name for folder in objects}
    for row in rows:
        if row["object"] in present:  # a part of the data set is enough
            normal = row["label"] == "normal"
            defect = "good" if normal else names.get(row["image"], "anomaly")
            mask = base / row["mask"] if row["mask"] else None
            yield Entry(base / row["image"], int(not normal), mask, defect, row["object"], row["split"] or None)


def plain(root: Path, recursive: bool = True) -> Iterator[Entry]:
    """Every image in a folder and, if `recursive`, below it, but no masks; `root` may also be one file."""
    return (Entry(path) for path in ([root] if root.is_file() else images_in(root, recursive)))


def images_in(folder: Path, recursive: bool = False) -> list[Path]:
    """Files that end like images, in natural order (`part2` before `part10`); hidden ones are left out.

    So are, in the folders below, the masks of a data set in a known layout: they end like photographs and are none.
    """
    found = _below(folder) if recursive else (path for path in folder.glob("*") if not _is_hidden(path.name))
    return natural(path for path in found if _is_image(path))


def unread_in(folder: Path) -> list[Path]:
    """Pictures in a folder and below it that are of a kind which is not read, in natural order."""
    return natural(path for path in _below(folder) if path.suffix.lower() in OTHER_SUFFIXES)


def natural(paths: Iterable[Path]) -> list[Path]:
    """Sort as people count: runs of digits by their value, letters without regard to case."""

    def key(path: Path) -> tuple:
        pieces = re.split(r"([0-9]+)", path.as_posix().casefold())
        return tuple(int(piece) if index % 2 else piece for index, piece in enumerate(pieces)), str(path)

    return sorted(paths, key=key)


def _below(root: Path) -> Iterator[Path]:
    """All files but hidden ones and masks.  Linked folders are entered, each once: a link may lead to where it lies."""
    entered = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        where, real = Path(folder), os.path.realpath(folder)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = [name for name in folders if not _is_hidden(name) and not _is_masks(where / name)]
        yield from (where / name for name in files if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_image(path: Path) -> bool:
    """A link to nothing counts: it was meant to be one, and whoever reads it will say what is wrong."""
    return path.suffix.lower() in SUFFIXES and (path.is_file() or (path.is_symlink() and not path.exists()))


def _is_masks(folder: Path) -> bool:
    if folder.name == "ground_truth":  # of a category, or of one of its splits
        return any(_is_mvtec(above) for above in folder.absolute().parents)
    return folder.name == "Masks" and folder.absolute().parent.name == "Data" and (folder.parent / "Images").is_dir()


def _is_mvtec(folder: Path) -> bool:
    return (folder / "train" / "good").is_dir() or (folder / "test" / "good").is_dir()


def _is_visa(folder: Path) -> bool:
    return (folder / "Data" / "Images").is_dir()


def _within(root: Path, test: Callable[[Path], bool]) -> list[Path]:
    return [root] if test(root) else [folder for folder in _folders(root) if test(folder)]


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return natural(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _first(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _annotations(folder: Path) -> Iterator[tuple[str, str]]:
    if (path := folder / "image_anno.csv").is_file():
        with open(path, newline="", encoding="utf-8-sig") as file:
            yield from ((row.get("image", ""), row.get("label", "")) for row in csv.DictReader(file))


def _split_rows(base: Path) -> list[dict[str, str]]:
    path = base / "split_csv" / "1cls.csv"
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if missing := set(COLUMNS) - set(reader.fieldnames or ()):
            raise ValueError(f"{path}: expected the columns {', '.join(COLUMNS)}, got none named {', '.join(missing)}")
        return list(reader)


def _folder_rows(objects: list[Path]) -> Iterator[dict[str, str]]:
    for folder in objects:
        for label, name in (("normal", "Normal"), ("anomaly", "Anomaly")):
            for path in images_in(folder / "Data" / "Images" / name):
                mask = _first(folder / "Data" / "Masks" / name / f"{path.stem}.png")
                image, mask = (file and file.relative_to(folder.parent).as_posix() for file in (path, mask))
                yield dict(zip(COLUMNS, (folder.name, "", label, image, mask), strict=True))
