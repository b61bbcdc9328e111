"""The content of one folder, in the order that people expect.

Book: intro/run-it
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from gadkit.data.folders.photographs import SUFFIXES


def natural(paths: Iterable[Path]) -> list[Path]:
    """Sort as people count: runs of digits by their value, letters without regard to case."""

    def key(path: Path) -> tuple:
        pieces = re.split(r"([0-9]+)", path.as_posix().casefold())
        return tuple(int(piece) if index % 2 else piece for index, piece in enumerate(pieces)), str(path)

    return sorted(paths, key=key)


def listed(folder: Path) -> tuple[list[Path], list[Path]] | None:
    """The folders and everything else in a folder, hidden ones left out; None where it cannot be opened."""
    folders, others = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not is_hidden(entry.name):
                    (folders if _is_folder(entry) else others).append(folder / entry.name)
    except OSError:
        return None
    return folders, others


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or one that may not be followed
        return False


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, in natural order; none where it cannot be opened."""
    return natural((listed(folder) or ([], []))[0])


def files_in(folder: Path) -> list[Path]:
    """The files in a folder that are named like images, masks among them, in natural order."""
    return natural(path for path in (listed(folder) or ([], []))[1] if is_image(path))


def is_image(path: Path) -> bool:
    """Whether a path ends like an image; a link to nothing does, too, and reading it says what is wrong."""
    return path.suffix.lower() in SUFFIXES


def is_hidden(name: str) -> bool:
    """Whether people do not see a file of this name, or Apple's archives have added it."""
    return name.startswith(".") or name == "__MACOSX"
