"""Masks of defects: which files they are, and which of their pixels are marked.

Book: intro/run-it
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from gadkit.data.folders.opening import BrokenImage, opened, upright

FOLDERS = ("ground_truth", "groundtruth", "ground truth", "gt", "mask", "masks")  # names of folders, in any case
NAMED = re.compile(r"(.+?)[_-](?:mask|masks|gt|label|ground[_-]?truth)(?:[_-]?[0-9]+)?", re.IGNORECASE)
HALF = 127  # of a lossy format's 255: below it lies what compression leaves around the marks
LEVELS = 16  # a mask has few values; a photograph has many


def read_mask(path: str | Path) -> Bool[Tensor, "h w"]:
    """Read a mask: whatever is not black is defective (VisA numbers its kinds of defect 1, 2, ...; MVTec AD has 255).

    A JPEG is cut at half of 255, because compression leaves grey around what is marked.  What is transparent is not
    marked; where pixels differ in nothing but transparency, the opaque ones are.
    Raises BrokenImage as `read_image` does, and for a mask that marks every pixel.
    """
    path = Path(path)
    with opened(path) as image:
        lossy = image.format in ("JPEG", "MPO")
        marked = _marked(upright(image), HALF if lossy else 0)
        if marked.all():
            raise ValueError("a mask that marks every pixel, so it marks no defect")
    return torch.from_numpy(marked)


def read_masks(paths: Sequence[Path]) -> Bool[Tensor, "h w"]:
    """The union of all masks of one photograph.

    Raises BrokenImage as `read_mask` does, and for masks that differ in size or together mark every pixel.
    """
    masks = [read_mask(path) for path in paths]
    for path, mask in zip(paths, masks, strict=True):
        if mask.shape != masks[0].shape:
            sizes = " and ".join(" x ".join(map(str, m.shape)) for m in (masks[0], mask))
            raise BrokenImage(path, f"expected masks of one size, got {sizes}")
    union = torch.stack(masks).any(0)
    if bool(union.all()):
        raise BrokenImage(paths[0], "a mask that, with the others of its image, marks every pixel")
    return union


def subject(stem: str) -> str | None:
    """The name of the photograph that a mask's name belongs to (`x` for `x_mask`, `x_GT`, `x_label`, ...), or None."""
    match = NAMED.fullmatch(stem)
    return match[1] if match else None


def is_mask_folder(name: str) -> bool:
    """Whether a folder is named as folders of masks are."""
    return name.casefold() in FOLDERS


def by_subject(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Masks by the name of their photograph, in lower case: `x.png`, `x_mask.PNG` and `x_mask_2.bmp` belong to `x`."""
    found: dict[str, list[Path]] = {}
    for path in files:
        for name in dict.fromkeys((path.stem, subject(path.stem))):
            if name is not None:
                found.setdefault(name.casefold(), []).append(path)
    return found


def looks_like_mask(path: Path) -> bool | None:
    """Whether a file holds few grey values only, as masks do and photographs don't; None if it can't be read."""
    try:
        with opened(path) as image:
            lossy = image.format in ("JPEG", "MPO")
            values = np.asarray(image.convert("RGB"))
    except BrokenImage:
        return None
    if (np.ptp(values.astype(int), -1) > (16 if lossy else 0)).any():
        return False
    grey = values[..., 0]
    if lossy:
        return bool(((grey < 32) | (grey > 223)).mean() > 0.95)
    return len(np.unique(grey)) <= LEVELS


def _marked(image: Image.Image, above: int) -> Bool[np.ndarray, "h w"]:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        opaque = np.asarray(image.getchannel("A")) > HALF
        bright = np.asarray(image.convert("RGB").convert("L")) > above
        if not opaque.all():
            return opaque & bright if (opaque & bright).any() else opaque
        return bright
    grey = image if image.mode in ("1", "L") or image.mode.startswith(("I", "F")) else image.convert("L")
    return np.asarray(grey) > above if above else np.asarray(grey) != 0
