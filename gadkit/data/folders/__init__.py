"""Folders of photographs, read one at a time: MVTec AD's layout, VisA's, and a plain folder of anybody's images.

    >>> for photo in ImageFolder("parts"):                  # doctest: +SKIP
    ...     print(photo.path, photo.image.shape)

Book: intro/run-it
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional as F

from gadkit.data.folders.layouts import Entry, detect_layout, images_in, mvtec, plain, unread_in, visa
from gadkit.data.folders.photos import SUFFIXES, BrokenImage, Photo, read_image, read_mask

__all__ = [
    "SUFFIXES",
    "BrokenImage",
    "Entry",
    "ImageFolder",
    "Photo",
    "detect_layout",
    "images_in",
    "load_images",
    "read_image",
    "read_mask",
    "unread_in",
]

log = logging.getLogger(__name__)


class ImageFolder:
    """The photographs of a folder, or a single file; each is read when iteration comes to it and forgotten after.

    The layout is found out unless given.  A data set holds several categories: `category` and `split` ("train" or
    "test") select, as far as the layout has them.  `recursive` says whether a plain folder includes those below it.
    A file that cannot be read is logged by name and skipped, and stands in `broken` from then on.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        layout: str | None = None,
        category: str | None = None,
        split: str | None = None,
        recursive: bool = True,
    ) -> None:
        self.root = Path(root)
        if not self.root.exists():
            raise ValueError(f"images: expected a folder or an image, got {str(root)!r}: no such folder")
        self.layout = detect_layout(self.root) if layout is None else layout
        surveys = {"mvtec": mvtec, "visa": visa, "plain": lambda root: plain(root, recursive)}
        if self.layout not in surveys:
            raise ValueError(f"layout: expected one of {', '.join(surveys)}, got {layout!r}")
        self.entries = tuple(surveys[self.layout](self.root))
        if not self.entries:
            raise ValueError(
                f"images: expected some in {self.root}, got none: {_what_is_there(self.root, self.layout)}"
            )
        self.categories = _distinct(entry.category for entry in self.entries)
        self._select("category", category)
        self._select("split", split)
        self._broken: dict[Path, str] = {}

    def _select(self, field: str, wanted: str | None) -> None:
        if wanted is None:
            return
        there = _distinct(getattr(entry, field) for entry in self.entries)
        if wanted not in there:
            choice = f"one of {', '.join(there)}" if there else f"None, for a folder in {self.layout} layout without it"
            raise ValueError(f"{field}: expected {choice}, got {wanted!r}")
        self.entries = tuple(entry for entry in self.entries if getattr(entry, field) == wanted)

    @property
    def broken(self) -> list[tuple[Path, str]]:
        """The files that could not be read so far, each with the reason."""
        return list(self._broken.items())

    def __len__(self) -> int:
        """The number of files, readable or not."""
        return len(self.entries)

    def __getitem__(self, index: int) -> Photo:
        """Read one photograph.  Raises BrokenImage (a ValueError) if it or its mask can't be read."""
        return _read(self.entries[index])

    def __iter__(self) -> Iterator[Photo]:
        """Read one after the other, skipping what is broken."""
        for entry in self.entries:
            try:
                photo = _read(entry)
            except BrokenImage as error:
                self._broken[error.path] = error.reason
                log.warning("skipped %s", error)
            else:
                yield photo


def load_images(
    source: str | Path | Iterable[str | Path], size: int | tuple[int, int] | None = None
) -> UInt8[Tensor, "b 3 h w"]:
    """Read a folder (or a list of files) into one batch, resized to `size` (a square, or height and width) if given.

    In a folder what is broken is skipped; of listed files each must be readable, so that row i is file i.  Raises
    ValueError when nothing is there, and when the sizes differ and no `size` is given.
    """
    listed = not isinstance(source, str | Path)
    photos = (
        ((path, read_image(path)) for path in source) if listed else ((p.path, p.image) for p in ImageFolder(source))
    )
    read = [(path, image if size is None else _resize(image, size)) for path, image in photos]
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


def _read(entry: Entry) -> Photo:
    image = read_image(entry.path)
    mask = torch.zeros(image.shape[1:], dtype=torch.bool) if entry.label == 0 else None
    if entry.mask is not None:
        mask = read_mask(entry.mask)
        if mask.shape != image.shape[1:]:
            raise BrokenImage(entry.mask, f"expected a mask of {_size(image)} pixels like its image, got {_size(mask)}")
    return Photo(entry.path, image, entry.label, mask, entry.defect)


def _resize(image: UInt8[Tensor, "3 h w"], size: int | tuple[int, int]) -> UInt8[Tensor, "3 s t"]:
    size = (size, size) if isinstance(size, int) else size
    if min(size) < 2:
        raise ValueError(f"size: expected at least 2 x 2 pixels, got {size[0]} x {size[1]}")
    resized = F.interpolate(image[None].float(), size, mode="bicubic", antialias=True)[0]
    return resized.round().clamp(0, 255).to(torch.uint8)  # bicubic weights overshoot at edges


def _size(image: Tensor) -> str:
    return f"{image.shape[-2]} x {image.shape[-1]}"


def _distinct(values: Iterable[str | None]) -> list[str]:
    return [value for value in dict.fromkeys(values) if value is not None]


def _what_is_there(root: Path, layout: str) -> str:
    """Where nothing was found, what was looked for and what there is instead."""
    there = Counter(path.suffix.lower() or path.name for path in islice(root.rglob("*"), 10_000) if path.is_file())
    rest = ", ".join(f"{count} x {suffix}" for suffix, count in there.most_common(4)) or "no files at all"
    return f"looked for {', '.join(SUFFIXES)} in {layout} layout; in it and the folders below there are {rest}"
