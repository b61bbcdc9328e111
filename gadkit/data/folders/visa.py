"""VisA's layout, with its lists or without: <https://github.com/amazon-science/spot-diff>.

Book: intro/run-it
"""

import csv
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from gadkit.data.folders.layouts import Entry
from gadkit.data.folders.listing import files_in
from gadkit.data.folders.masks import by_subject
from gadkit.data.folders.structure import is_visa, within
from gadkit.data.folders.walking import images_in

COLUMNS = ("object", "split", "label", "image", "mask")  # of VisA's split_csv/1cls.csv


def visa(root: Path) -> Iterator[Entry]:
    """VisA as it is downloaded: by `split_csv/1cls.csv` where that is there, else by the folders alone, without split.

    A defect's name comes from `<object>/image_anno.csv` (several are joined by commas there), else it is "anomaly".
    Raises ValueError for a list without its columns, and for a path in it that leads out of its object's folder.
    """
    for folder in within(root, is_visa):
        folder = folder.resolve() if folder == root else folder  # a lone object may be named "."
        names = dict(_annotations(folder))
        table = folder.parent / "split_csv" / "1cls.csv"
        for row in _split_rows(table, folder.name) if table.is_file() else _folder_rows(folder):
            normal = row["label"] == "normal"
            defect = "good" if normal else names.get(row["image"], "anomaly")
            masks = (folder.parent / row["mask"],) if row["mask"] else ()
            yield Entry(folder.parent / row["image"], int(not normal), masks, defect, folder.name, row["split"] or None)


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
                raise ValueError(f"expected the columns {', '.join(columns)}, got none named {', '.join(missing)}")
            for row in reader:
                yield {name: value or "" for name, value in row.items() if isinstance(name, str)}
    except (csv.Error, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(f"{path}: {error}") from error


def _annotations(folder: Path) -> Iterator[tuple[str, str]]:
    if (path := folder / "image_anno.csv").is_file():
        yield from ((row.get("image", ""), row.get("label", "")) for row in _rows(path, ()))


def _split_rows(table: Path, name: str) -> Iterator[dict[str, str]]:
    """The rows of one object."""
    for row in _rows(table, COLUMNS):
        if row["object"] == name:  # a part of the data set is enough
            if not row["image"]:
                raise ValueError(f"{table}: expected a path of an image in each row, got {row}")
            for path in filter(None, (row["image"], row["mask"])):
                above = ".." in re.split(r"[\\/]", path)  # behind a link it leads elsewhere than its text says
                if above or not posixpath.normpath(path).startswith(f"{name}/"):
                    raise ValueError(f"{table}: expected paths inside the folder {name}, got {path!r}")
            yield row


def _folder_rows(folder: Path) -> Iterator[dict[str, str]]:
    for label, name in (("normal", "Normal"), ("anomaly", "Anomaly")):
        masks = by_subject(files_in(folder / "Data" / "Masks" / name))
        for path in images_in(folder / "Data" / "Images" / name):
            mask = masks.get(path.stem.casefold(), [None])[0]
            image, mask = ("" if file is None else file.relative_to(folder.parent).as_posix() for file in (path, mask))
            yield dict(zip(COLUMNS, (folder.name, "", label, image, mask), strict=True))
