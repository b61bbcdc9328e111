"""Which files the command line means, and how they are read: lazily, one after the other, in batches of one size.

Book: intro/run-it
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from gadkit.cli.outputs import count
from gadkit.data.folders import BrokenImage, Entry, ImageFolder, images_in, load_images, unread_in
from gadkit.runtime import progress

LAYOUTS = {"mvtec": "MVTec AD's layout", "visa": "VisA's layout"}
SHEET, TABLE, LIST = "contact.png", "curation.csv", "kept.txt"  # what `gadkit curate` writes
HEADER = ("path", "status", "duplicate_of")  # how its table begins
BATCH, PIXELS = 16, 2**24  # images at once, and pixels: together with its map, a pixel takes some 30 bytes on the way


def files_to_score(given: Sequence[Path]) -> list[Path]:
    """The images in folders and single files, each once; of a data set in a known layout, those to test on."""
    found: dict[str, Path] = {}
    for source in given:
        entries = _entries(source)
        for entry in [e for e in entries if e.split != "train"] or entries:
            found.setdefault(os.path.abspath(entry.path), entry.path)
    return list(found.values())


def files_below(given: Sequence[Path], out: Path) -> tuple[list[Path], int]:
    """All images in folders and below them, whatever their layout, and single files, each once.  Masks are no images.

    Nor is what the command itself has written: an earlier contact sheet, wherever it lies, and all in the folder `out`
    where that is below the folder asked for.  The number says how many of these were left out.
    Raises ValueError where a folder has no images, and where no others are left.
    """
    found: dict[str, Path] = {}
    written: set[str] = set()
    for source in given:
        inside = _is_inside(out, source)
        for entry in ImageFolder(source, layout="plain").entries:
            own = _is_sheet(entry.path) or (inside and _is_inside(entry.path, out))
            if own and entry.path != source:  # who names a file wants it
                written.add(os.path.abspath(entry.path))
            else:
                found.setdefault(os.path.abspath(entry.path), entry.path)
    if not found:
        raise ValueError(f"FOLDER: expected images, got none but {len(written)} in the output folder")
    return list(found.values()), len(written - found.keys())


def _is_inside(path: Path, folder: Path) -> bool:
    path, folder = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    return folder in path.parents


def foreign(out: Path) -> list[str]:
    """Names that `gadkit curate` would write to in a folder and that something else than an earlier run has taken."""
    try:
        ours = (out / TABLE).read_text(encoding="utf-8", errors="replace").startswith(",".join(HEADER))
    except OSError:
        ours = False
    return [] if ours else [name for name in (SHEET, LIST, TABLE) if (out / name).exists()]


def _is_sheet(path: Path) -> bool:
    return path.name == SHEET and path.with_name(TABLE).is_file()


def unread(given: Iterable[Path]) -> Iterator[str]:
    """A remark on pictures in folders that are of a kind which is not read, if there are any."""
    found = {os.path.abspath(path): path.suffix.lower() for source in given for path in unread_in(source)}
    if found:
        kinds = ", ".join(f"{number} {suffix}" for suffix, number in Counter(found.values()).most_common())
        yield f"left out: {count(len(found), 'picture')} of a kind that is not read ({kinds})"


def uncovered(given: Sequence[Path]) -> Iterator[str]:
    """A remark on every data set in a known layout that has images beside it, as nobody looks at these."""
    folders = [ImageFolder(source) for source in given]
    known = {os.path.realpath(entry.path) for folder in folders for entry in folder.entries}
    for folder in folders:
        there = images_in(folder.root, recursive=True) if folder.layout in LAYOUTS else []
        if beside := sum(os.path.realpath(path) not in known for path in there):
            yield (
                f"left out: {beside} of the {count(len(there), 'image')} below {folder.root}: it is taken for a data "
                f"set in {LAYOUTS[folder.layout]}, which does not cover them; name them or their own folders"
            )


def normal_files(source: Path) -> list[Path]:
    """The images in a folder of good parts; of a data set in a known layout, its normal images to train on.

    Raises ValueError where all are labelled as defective.
    """
    entries = [e for e in _entries(source) if e.label != 1]
    if not entries:
        raise ValueError(f"--normal: expected images of good parts, got only images labelled as defective in {source}")
    return [e.path for e in [e for e in entries if e.split == "train"] or entries]


def labels(given: Sequence[Path]) -> dict[Path, int]:
    """What the layout of a data set knows about its images: 0 for normal, 1 for anomalous."""
    return {e.path: e.label for source in given for e in _entries(source) if e.label is not None}


def common_root(given: Sequence[Path]) -> Path:
    """The folder that all sources lie in."""
    return Path(os.path.commonpath([os.path.abspath(p if p.is_dir() else p.parent) for p in given]))


def read(
    files: Iterable[Path], what: str, skip: Callable[[Path, str], None], size: int | None = None
) -> Iterator[tuple[Path, UInt8[Tensor, "3 h w"]]]:
    """Read one file after the other behind a progress bar, resized to a square of `size` if given.

    `skip` is told the path of each file that can't be read, and why.
    """
    for path in progress(files, what):
        try:
            image = load_images([path], size)[0]
        except BrokenImage as error:
            skip(path, error.reason)
        else:
            yield path, image


def batches(
    photos: Iterable[tuple[Path, UInt8[Tensor, "3 h w"]]],
) -> Iterator[tuple[list[Path], UInt8[Tensor, "b 3 h w"]]]:
    """Stack neighbours of one size, as far as memory allows."""
    paths, images = [], []
    for path, image in photos:
        full = (len(images) + 1) * image[0].numel() > PIXELS or len(images) == BATCH
        if images and (full or image.shape != images[0].shape):
            yield paths, torch.stack(images)
            paths, images = [], []
        paths.append(path)
        images.append(image)
    if images:
        yield paths, torch.stack(images)


def _entries(source: Path) -> tuple[Entry, ...]:
    folder = ImageFolder(source)
    if len(folder.categories) > 1:
        some = ", ".join(folder.categories[:5]) + (", ..." if len(folder.categories) > 5 else "")
        raise ValueError(f"{source}: expected images of one kind of object, got {len(folder.categories)}: {some}")
    return folder.entries
