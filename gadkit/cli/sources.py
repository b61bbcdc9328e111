"""Which files the command line means, and how they are read: lazily, one after the other, in batches of one size.

Book: intro/run-it
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from gadkit.cli.outputs import count
from gadkit.data.folders import (
    BrokenImage,
    Depth,
    Entry,
    FileRun,
    ImageFolder,
    defect_of,
    examine,
    images_in,
    is_mask,
    masks_in,
    read_image,
    resize,
    unread_in,
)
from gadkit.runtime import progress

LAYOUTS = {
    "mvtec": "a data set in MVTec AD's layout",
    "visa": "a data set in VisA's layout",
    "classes": "folders of good and of defective parts",
    "pairs": "photographs with masks beside them",
}
SHEET, TABLE, LIST = "contact.png", "curation.csv", "kept.txt"  # what `gadkit curate` writes
HEADER = ("path", "status", "duplicate_of")  # how its table begins
BATCH, PIXELS = 16, 2**24  # images at once, and pixels: together with its map, a pixel takes some 30 bytes on the way
SOME = 3  # names in a remark


def files_to_score(given: Sequence[Path]) -> list[Path]:
    """The images in folders and single files, each once; of a data set in a known layout, those to test on.

    Masks are no images, also where they or their folder are named.  Raises ValueError where nothing else is.
    """
    found: dict[str, Path] = {}
    for source in _without_masks_in(given):
        entries = entries_of(source)
        for entry in [e for e in entries if e.split not in ("train", "validation")] or entries:
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
    for source in _without_masks_in(given):
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


def _without_masks_in(given: Sequence[Path]) -> list[Path]:
    """What is no mask and no folder of masks, as `photographs/*` names both."""
    there = [source for source in given if not is_mask(source)]
    if given and not there:
        raise ValueError(f"images: expected photographs, got nothing but masks of defects in {given[0]}")
    return there


def _is_inside(path: Path, folder: Path) -> bool:
    path, folder = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    return folder in path.parents


def _is_sheet(path: Path) -> bool:
    return path.name == SHEET and path.with_name(TABLE).is_file()


def remarks(given: Sequence[Path], normal: Path | None = None, layouts: bool = True) -> Iterator[str]:
    """Remarks for the user on the folders asked for: on files that are left out, and on what is missing.

    `normal` is the folder of good parts, if there is one; `layouts` says whether those of data sets are followed.
    """
    every = list(dict.fromkeys([*given, *([] if normal is None else [normal])]))
    folders = [ImageFolder(source, layout=None if layouts else "plain") for source in every]
    yield from _unread(every)
    yield from _masks(folders)
    yield from _uncovered(folders)
    yield from _without_masks(folders)
    if normal is not None:
        yield from _unknown(folders[every.index(normal)])


def _unread(given: Iterable[Path]) -> Iterator[str]:
    """Pictures of a kind that is not read."""
    found = {os.path.abspath(path): path.suffix.lower() for source in given for path in unread_in(source)}
    if found:
        kinds = ", ".join(f"{number} {suffix}" for suffix, number in Counter(found.values()).most_common())
        yield f"left out: {count(len(found), 'picture')} of a kind that is not read ({kinds})"


def _masks(folders: Sequence[ImageFolder]) -> Iterator[str]:
    """Masks in folders without a layout that says so."""
    named = [folder for folder in folders if is_mask(folder.root)]
    found = [entry.path for folder in named for entry in folder.entries]
    found += [path for f in folders if f.layout not in LAYOUTS for path in masks_in(f.root)]
    found = {os.path.abspath(path): path for path in found}
    if found:
        yield f"left out: {count(len(found), 'mask')} of defects ({_some(map(str, found.values()))})"


def _uncovered(folders: Sequence[ImageFolder]) -> Iterator[str]:
    """Images that lie beside a data set in a known layout, and are not read."""
    known = {os.path.realpath(entry.path) for folder in folders for entry in folder.entries}
    for folder in folders:
        there = images_in(folder.root, recursive=True) if folder.layout in LAYOUTS else []
        if beside := sum(os.path.realpath(path) not in known for path in there):
            yield (
                f"left out: {beside} of the {count(len(there), 'image')} below {folder.root}: it is taken for "
                f"{LAYOUTS[folder.layout]}, which does not cover them; name them or their own folders"
            )


def _without_masks(folders: Sequence[ImageFolder]) -> Iterator[str]:
    """Photographs of defects without a mask."""
    for folder in folders:
        if bare := folder.unmasked:
            defects = sum(entry.label == 1 for entry in folder.entries)
            yield f"no mask for {len(bare)} of {count(defects, 'photograph')} of defects below {folder.root}"


def _unknown(folder: ImageFolder) -> Iterator[str]:
    """Several folders whose names say nothing, all taken for good parts, and those that a data set calls defective."""
    if folder.layout in LAYOUTS:
        return
    good = _not_defective(folder.entries)
    if bad := len(folder) - len(good):
        yield f"--normal: left out: {count(bad, 'image')} that the data set around {folder.root} labels as defective"
    places = {os.path.relpath(entry.path.parent, folder.root) for entry in good}
    if len(places) > 1 and not bad:
        yield (
            f"--normal: the names of the {len(places)} folders below {folder.root} ({_some(sorted(places))}) do not "
            f"say which parts are good, so all {count(len(folder), 'image')} are taken for good ones"
        )


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SOME]) + (", ..." if len(names) > SOME else "")


def normal_files(source: Path) -> list[Path]:
    """The images in a folder of good parts; of a data set in a known layout, its normal images to train on.

    Raises ValueError where all are labelled as defective, by their own layout or by the one of the folders above.
    """
    if (name := defect_of(source)) is not None:
        raise ValueError(
            f"--normal: expected images of good parts, got {source}: its data set labels them as defective ({name})"
        )
    if is_mask(source):
        raise ValueError(f"--normal: expected images of good parts, got {source}: it holds masks of defects")
    entries = _not_defective(entries_of(source))
    if any(e.label is not None for e in entries):
        entries = tuple(e for e in entries if e.label == 0 or os.path.isdir(e.path))  # a closed folder is to be named
    if entries and all(os.path.isdir(e.path) for e in entries):
        raise ValueError(f"--normal: expected images of good parts, got none: {entries[0].path} cannot be opened")
    if not any(e.label != 1 and not os.path.isdir(e.path) for e in entries):
        raise ValueError(f"--normal: expected images of good parts, got only images labelled as defective in {source}")
    return [e.path for e in [e for e in entries if e.split == "train"] or entries]


def _not_defective(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Without those that lie in a folder which the data set around it calls defective."""
    bad = {place: defect_of(place) is not None for place in {entry.path.parent for entry in entries}}
    return tuple(entry for entry in entries if entry.label is not None or not bad[entry.path.parent])


def common_root(given: Sequence[Path]) -> Path:
    """The folder that all sources lie in."""
    return Path(os.path.commonpath([os.path.abspath(p if p.is_dir() else p.parent) for p in given]))


def run_of(files: Sequence[Path], bits: int | None = None, most: int | None = None) -> FileRun:
    """The depth that all files of a run share, and remarks; ask once, for all files that will be compared.

    Of files of more than `most` pixels only the header is read.
    """
    with up_to(most):
        return examine(progress(files, "files"), bits, most)


@contextmanager
def up_to(most: int | None) -> Iterator[None]:
    """Let Pillow read photographs of so many pixels, where that is more than it takes for a trap by itself."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = before if most is None or before is None else max(before, most)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def read(
    files: Sequence[Path],
    what: str,
    skip: Callable[[Path, str], None],
    size: int | None = None,
    *,
    depth: Depth,
    refuse: Callable[[Path], str | None] = lambda _: None,
    check: Callable[[Tensor], str | None] = lambda _: None,
) -> Iterator[tuple[Path, UInt8[Tensor, "3 h w"]]]:
    """Read one file after the other behind a progress bar, resized to a square of `size` if given.

    `skip` is told the path of each file that can't be read, and why.  `depth` is that of the whole run (`run_of`).
    `refuse` gives the reason why a file shall not be opened, `check` why an image can't be used.
    """
    for path in progress(files, what):
        try:
            if reason := refuse(path):
                raise BrokenImage(path, reason)
            image = read_image(path, depth)
            if reason := check(image):
                raise BrokenImage(path, reason)
        except BrokenImage as error:
            skip(path, error.reason)
        else:
            yield path, image if size is None else resize(image, size)


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


def entries_of(source: Path) -> tuple[Entry, ...]:
    """The images of a folder or a single file.  Raises ValueError for a data set of several kinds of objects."""
    folder = ImageFolder(source)
    if len(folder.categories) > 1:
        some = ", ".join(folder.categories[:5]) + (", ..." if len(folder.categories) > 5 else "")
        raise ValueError(f"{source}: expected images of one kind of object, got {len(folder.categories)}: {some}")
    return folder.entries
