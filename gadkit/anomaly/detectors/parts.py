"""Normal images as detectors get them: batches that are read one after the other, and what of them shows one part.

Book: anomaly/winclip
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit.checks import check_images


def batches(normal: Any) -> Iterator[UInt8[Tensor, "b 3 h w"]]:
    """Normal images, given as one batch or as several.  Raises ValueError for what is no batch, and for none."""
    if isinstance(normal, Tensor | str) or not isinstance(normal, Iterable):
        yield check_images(normal, "normal images")
        return
    empty = True
    for batch in normal:
        empty = False
        yield check_images(batch, "normal images")
    if empty:
        raise ValueError("normal images: expected at least one, got none")


def by_part(normal: Any, counts: Sequence[int]) -> Iterator[tuple[int, UInt8[Tensor, "b 3 h w"]]]:
    """Normal images piece by piece, each with the number of its part: no piece holds images of two parts.

    Part i has counts[i] images.  Raises ValueError where there are more or fewer images than that.
    """
    ends, part, room, total = iter(counts), -1, 0, sum(counts)
    for batch in batches(normal):
        while len(batch):
            if not room:
                part, room = part + 1, next(ends, 0)
            if not room:
                raise ValueError(f"normal images: expected the {total} that the detector was fitted on, got more")
            piece, batch = batch[:room], batch[room:]
            room -= len(piece)
            yield part, piece
    if room or part + 1 < len(counts):
        raise ValueError(f"normal images: expected the {total} that the detector was fitted on, got fewer")


def leaving_out(normal: Any, first: int, last: int) -> Iterator[UInt8[Tensor, "b 3 h w"]]:
    """Normal images without those from number `first` to before `last`."""
    at = 0
    for batch in batches(normal):
        numbers = torch.arange(at, at + len(batch))
        at += len(batch)
        if (kept := (numbers < first) | (numbers >= last)).any():
            yield batch[kept]


def without(bank: Float[Tensor, "m *e"], first: int, last: int, count: int) -> Float[Tensor, "n *e"]:
    """A memory bank of `count` images with equally many rows, without the rows of images `first` to before `last`."""
    rows = len(bank) // count
    return torch.cat([bank[: first * rows], bank[last * rows :]])


def shares(counts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The numbers of each part's images, from the first to before the last; part i has counts[i]."""
    first = 0
    for count in counts:
        yield first, first + count
        first += count


def needed(normal: Iterator[Tensor] | None, detector: object) -> Iterator[Tensor]:
    """The images that a detector can't do without.  Raises ValueError for None."""
    if normal is None:
        raise ValueError(f"normal images: {type(detector).__name__} compares with normal images, so it needs some")
    return normal


def refused(normal: Iterator[Tensor] | None, detector: object) -> None:
    """Raise ValueError for normal images that a detector would learn nothing from."""
    if normal is not None:
        raise ValueError(f"normal images: {type(detector).__name__} scores an image by itself, so it takes none")


def good(count: int) -> str:
    """So many good parts, in words."""
    return "one image of a good part" if count == 1 else f"{count} images of good parts"
