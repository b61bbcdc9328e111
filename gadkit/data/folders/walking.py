"""Which images lie in a folder and below it: in natural order, without hidden ones, and without masks.

A folder that cannot be opened is listed like an image, so that it is named when its turn to be read comes.  So are
pipes, sockets and devices that are named like images.

Book: intro/run-it
"""

import os
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

from gadkit.data.folders.listing import files_in, folders_in, is_image, listed, natural
from gadkit.data.folders.masks import is_mask_folder, looks_like_mask, subject
from gadkit.data.folders.photographs import OTHER_SUFFIXES
from gadkit.data.folders.structure import is_mvtec, is_visa

TRIED = 3  # files of a folder that have to look like masks before all that are named so count as some


def images_in(folder: Path, recursive: bool = False) -> list[Path]:
    """Images in a folder, in natural order (`part2` before `part10`); hidden ones and masks are left out.

    A folder holds masks if it is named so and lies in a data set, or beside photographs of the same names.  A file is a
    mask if it is named so (`x_mask.png`, beside `x.png`), or like a photograph of another format, and has few values.
    """
    return natural(path for path, kind in _walk(Path(folder), recursive) if kind != "mask" and _counts(path, kind))


def masks_in(folder: Path) -> list[Path]:
    """The masks that `images_in` leaves out in a folder and below it, in natural order."""
    return natural(path for path, kind in _walk(Path(folder)) if kind == "mask")


def is_mask(path: Path) -> bool:
    """Whether a file, or all images of a folder, are masks: `images_in` would leave them out in the folder above."""
    path = Path(path).absolute()
    if any(_holds_masks(place) for place in ([path, *path.parents] if os.path.isdir(path) else path.parents)):
        return True
    return is_image(path) and os.path.isfile(path) and path in _beside(path.parent, os.stat(path.parent).st_mtime_ns)


@lru_cache(maxsize=1000)
def _beside(folder: Path, _: int) -> dict[Path, Path]:
    """The photographs beside which masks lie in a folder, by mask; looked for again when the folder changed."""
    return pairs_in((listed(folder) or ([], []))[1])


def closed_in(folder: Path) -> list[Path]:
    """The folders that cannot be opened, at any depth, in natural order; `folder` itself may be one."""
    return natural(path for path, kind in _walk(Path(folder), masks=False) if kind == "closed")


def unread_in(folder: Path) -> list[Path]:
    """Pictures in a folder and below it that are of a kind which is not read, in natural order."""
    return natural(path for path, _ in _walk(Path(folder), masks=False) if path.suffix.lower() in OTHER_SUFFIXES)


def pairs_in(files: list[Path]) -> dict[Path, Path]:
    """Masks that lie beside their photographs in one folder: `x_mask.png` or `x_GT.png` beside `x.jpg`, or `x.png`.

    Names alone are not believed: a photograph of a label may be called `x_label.jpg`.  Returns photograph by mask.
    """
    images = [path for path in files if is_image(path)]
    stems = {path.stem.casefold(): path for path in images}
    jpegs = {path.stem.casefold(): path for path in images if path.suffix.lower() in (".jpg", ".jpeg")}
    named = {path: stems.get(name.casefold()) for path in images if (name := subject(path.stem)) is not None}
    other = {path: jpegs.get(path.stem.casefold()) for path in images if path.suffix.lower() in (".png", ".bmp")}
    found = {}
    for pairs in (named, other):
        pairs = {mask: photograph for mask, photograph in pairs.items() if photograph and not named.get(photograph)}
        looks = (looks_like_mask(path) for path in natural(pairs))
        tried = [*islice((look for look in looks if look is not None), TRIED)]  # damaged ones say nothing
        if tried and all(tried):
            found |= pairs
    return found


def pairs_below(root: Path) -> dict[Path, Path]:
    """Photographs in a folder and below it, by the mask that lies beside each."""
    together: dict[Path, list[Path]] = {}
    for path, _ in _walk(root, masks=False):
        together.setdefault(path.parent, []).append(path)
    return {mask: photograph for files in together.values() for mask, photograph in pairs_in(files).items()}


def _walk(root: Path, recursive: bool = True, masks: bool = True) -> Iterator[tuple[Path, str]]:
    """All files but hidden ones, each with its kind: "file", "mask", or "closed" for a folder that cannot be opened.

    Unless `masks` are looked for, they are files like others.  Linked folders are entered, each once: a link may lead
    to where it lies.
    """
    entered: set[str] = set()
    waiting = [(root, False)]
    while waiting:
        folder, inside = waiting.pop()
        if (real := os.path.realpath(folder)) in entered:
            continue
        entered.add(real)
        if (content := listed(folder)) is None:
            if os.path.isdir(folder):
                yield folder, "closed"
            continue
        folders, files = content
        pairs = pairs_in(files) if masks and not inside else {}
        yield from ((path, "mask" if path in pairs or (inside and is_image(path)) else "file") for path in files)
        if recursive:
            waiting += [(below, inside or (masks and _holds_masks(below))) for below in folders]


def _counts(path: Path, kind: str) -> bool:
    return kind == "closed" or is_image(path)


def _holds_masks(folder: Path) -> bool:
    """Whether a folder is one of masks: of a data set whose layout is known, or of photographs beside it."""
    above = folder.absolute().parent
    if folder.name == "Masks" and above.name == "Data" and is_visa(above.parent):
        return True
    if not is_mask_folder(folder.name):
        return False
    if folder.name.casefold() == "ground_truth" and any(is_mvtec(place) for place in folder.absolute().parents):
        return True
    return bool(_names_in(folder, below=True) & _names_beside(folder))


def _names_in(folder: Path, below: bool = False) -> set[str]:
    """The names of the photographs that images in a folder (and in the folders just below it) may belong to."""
    files = [file for place in [folder, *(folders_in(folder) if below else [])] for file in files_in(place)]
    return {(subject(file.stem) or file.stem).casefold() for file in files}


def _names_beside(folder: Path) -> set[str]:
    beside = [place for place in folders_in(folder.parent) if not is_mask_folder(place.name)]
    return set().union(*(_names_in(place) for place in [folder.parent, *beside]))
