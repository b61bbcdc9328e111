"""Folders of photographs, read one at a time: the layouts of known data sets, and a plain folder of anybody's images.

    >>> for photo in ImageFolder("parts"):                  # doctest: +SKIP
    ...     print(photo.path, photo.image.shape)

Book: intro/run-it
"""

import errno
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from gadkit.checks import checked, one_of
from gadkit.data.folders.depth import Depth
from gadkit.data.folders.layouts import Entry, classes, detect_layout, mvtec, pairs, plain
from gadkit.data.folders.listing import natural
from gadkit.data.folders.masks import read_mask, read_masks
from gadkit.data.folders.opening import BrokenImage
from gadkit.data.folders.photographs import SUFFIXES, Photo, read_image, resize
from gadkit.data.folders.runs import FileRun, examine
from gadkit.data.folders.structure import defect_of
from gadkit.data.folders.visa import visa
from gadkit.data.folders.walking import closed_in, images_in, is_mask, masks_in, unread_in

__all__ = [
    "SUFFIXES",
    "BrokenImage",
    "Depth",
    "Entry",
    "FileRun",
    "ImageFolder",
    "Photo",
    "closed_in",
    "defect_of",
    "detect_layout",
    "examine",
    "images_in",
    "is_mask",
    "load_images",
    "masks_in",
    "natural",
    "read_image",
    "read_mask",
    "read_masks",
    "resize",
    "unread_in",
]

log = logging.getLogger(__name__)
LAYOUTS: dict[str, Callable[[Path], Iterator[Entry]]] = {
    "mvtec": mvtec,
    "visa": visa,
    "classes": classes,
    "pairs": pairs,
    "plain": plain,
}


class ImageFolder:
    """The photographs of a folder, or a single file; each is read when iteration comes to it and forgotten after.

    The layout is found out unless given.  A data set holds several categories: `category` and `split` ("train",
    "validation" or "test") select, as far as the layout has them.  `recursive` says whether a plain folder includes
    those below it.  A file or folder that cannot be read is logged by name and skipped, and stands in `broken` from
    then on.  `depth` says what is white in files of more than eight bits; if not given, all files of the category,
    whatever their split, decide it together when the first is read.
    """

    @checked
    def __init__(
        self,
        root: str | Path,
        *,
        layout: str | None = None,
        category: str | None = None,
        split: str | None = None,
        recursive: bool = True,
        depth: Depth | None = None,
    ) -> None:
        self.root = Path(root)
        _check_there(self.root)
        self.layout = detect_layout(self.root) if layout is None else one_of("layout", layout, LAYOUTS)
        survey = LAYOUTS[self.layout](self.root) if self.layout != "plain" else plain(self.root, recursive)
        found = {entry.path: entry for entry in survey}
        self._closed = {path for path in closed_in(self.root) if recursive or path == self.root}
        self.entries = tuple({**{path: Entry(path) for path in self._closed}, **found}.values())
        if not self.entries:
            raise ValueError(
                f"images: expected some in {self.root}, got none: {_what_is_there(self.root, self.layout)}"
            )
        self.categories = _distinct(entry.category for entry in self.entries)
        self._select("category", category)
        self._of_category = self.entries
        self._select("split", split)
        self._broken: dict[Path, str] = {}
        self._depth = depth

    def _select(self, field: str, wanted: str | None) -> None:
        if wanted is None:
            return
        there = _distinct(getattr(entry, field) for entry in self.entries)
        if wanted not in there:
            choice = f"one of {', '.join(there)}" if there else f"None, for a folder in {self.layout} layout without it"
            raise ValueError(f"{field}: expected {choice}, got {wanted!r}")
        self.entries = tuple(e for e in self.entries if getattr(e, field) == wanted or e.path in self._closed)

    @property
    def broken(self) -> list[tuple[Path, str]]:
        """The files that could not be read so far, each with the reason."""
        return list(self._broken.items())

    @property
    def unmasked(self) -> list[Path]:
        """The photographs of defects that have no mask."""
        return [entry.path for entry in self.entries if entry.label == 1 and not entry.masks]

    @property
    def depth(self) -> Depth:
        """The white level of files with more than eight bits; the first call examines all files."""
        if self._depth is None:
            self._depth = _decided(entry.path for entry in self._of_category)
        return self._depth

    def __len__(self) -> int:
        """The number of files, readable or not."""
        return len(self.entries)

    def __getitem__(self, index: int) -> Photo:
        """Read one photograph.  Raises BrokenImage (a ValueError) if it or its mask can't be read."""
        return _read(self.entries[index], self.depth)

    def __iter__(self) -> Iterator[Photo]:
        """Read one after the other, skipping what is broken."""
        for entry in self.entries:
            try:
                photo = _read(entry, self.depth)
            except BrokenImage as error:
                self._broken[error.path] = error.reason
                log.warning("skipped %s", error)
            else:
                yield photo


@checked
def load_images(
    source: str | Path | Iterable[str | Path],
    size: int | tuple[int, int] | None = None,
    depth: Depth | None = None,
) -> UInt8[Tensor, "b 3 h w"]:
    """Read a folder (or a list of files) into one batch, resized to `size` (a square, or height and width) if given.

    In a folder what is broken is skipped; of listed files each must be readable, so that row i is file i.  `depth` says
    what is white in files of more than eight bits; if not given, these files decide it together.  Raises ValueError
    when nothing is there, and when the sizes differ and no `size` is given.
    """
    listed = not isinstance(source, str | Path)
    if listed:
        paths = [Path(path) for path in source]
        depth = _decided(paths) if depth is None else depth
        photos = ((path, read_image(path, depth)) for path in paths)
    else:
        photos = ((photo.path, photo.image) for photo in ImageFolder(source, depth=depth))
    read = [(path, image if size is None else resize(image, size)) for path, image in photos]
    if not read:
        raise ValueError(
            f"images: expected at least one to read, got {'an empty list' if listed else 'broken files only'}"
        )
    first_path, first = read[0]
    for path, image in read:
        if image.shape != first.shape:
            sizes = f"{_size(first)} ({first_path}) and {_size(image)} ({path})"
            raise ValueError(f"images: expected one size, got {sizes}; give `size` to resize them")
    return torch.stack([image for _, image in read])


def _decided(paths: Iterable[Path]) -> Depth:
    """The depth that files need together; remarks on them are logged."""
    run = examine(paths)
    for remark in run.remarks:
        log.warning("%s", remark)
    return run.depth


def _read(entry: Entry, depth: Depth) -> Photo:
    image = read_image(entry.path, depth)
    mask = torch.zeros(image.shape[1:], dtype=torch.bool) if entry.label == 0 else None
    if entry.masks:
        mask = read_masks(entry.masks)
        if mask.shape != image.shape[1:]:
            raise BrokenImage(
                entry.masks[0], f"expected a mask of {_size(image)} pixels like its image, got {_size(mask)}"
            )
    return Photo(entry.path, image, entry.label, mask, entry.defect)


def _check_there(root: Path) -> None:
    """Raise ValueError for a path that leads nowhere; one that may not be followed raises PermissionError by itself."""
    try:
        os.stat(root)
    except OSError as error:
        nowhere = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
        if not nowhere:
            raise
        if not os.path.islink(root):
            raise ValueError(f"images: expected a folder or an image, got {str(root)!r}: no such folder") from error


def _size(image: Tensor) -> str:
    return f"{image.shape[-2]} x {image.shape[-1]}"


def _distinct(values: Iterable[str | None]) -> list[str]:
    return [value for value in dict.fromkeys(values) if value is not None]


def _what_is_there(root: Path, layout: str) -> str:
    """Where nothing was found, what was looked for and what there is instead."""
    names = (Path(name) for _, _, files in os.walk(root) for name in files)
    there = Counter(name.suffix.lower() or str(name) for name in islice(names, 10_000))
    rest = ", ".join(f"{count} x {suffix}" for suffix, count in there.most_common(4)) or "no files at all"
    return f"looked for {', '.join(SUFFIXES)} in {layout} layout; in it and the folders below there are {rest}"
