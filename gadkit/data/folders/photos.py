"""One file to one photograph: whatever its format, mode and orientation, eight bits of red, green and blue.

Book: intro/run-it
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
OTHER_SUFFIXES = (  # pictures too, which nobody should miss without being told
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".jfif", ".gif", ".ppm", ".pgm", ".tga", ".exr", ".hdr"),
    *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw"),
    *(".psd", ".svg", ".pdf", ".eps", ".dcm"),
)
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # a file is what its first bytes say, whatever its suffix
ORIENTATION = 0x0112  # the EXIF tag: how the camera was held
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BrokenImage(ValueError):
    """A file that holds no readable image; `path` and `reason` say which and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


@dataclass(frozen=True, eq=False)  # eq=False: tensors have no single truth value to compare by
class Photo:
    """A photograph and what its folder says about it.

    `label` is 0 for normal, 1 for anomalous, None where nobody knows.  `mask` marks defective pixels: all False for a
    normal photograph, None where there is no mask.  `defect` is the defect's name, "good" for a normal photograph.
    """

    path: Path
    image: UInt8[Tensor, "3 h w"]
    label: int | None = None
    mask: Bool[Tensor, "h w"] | None = None
    defect: str | None = None


def read_image(path: str | Path) -> UInt8[Tensor, "3 h w"]:
    """Read the first picture of a PNG, JPEG, BMP, TIFF or WebP file, upright by its EXIF tag; colours as stored.

    Transparent parts are put on white: the colours below them are arbitrary, and a cut-out product is meant for a white
    page.  Grey of more than eight bits is scaled by a full scale that is the same for a whole series: 4095 (cameras of
    12 bits) where nothing is brighter, else 65535; floats are taken as 0 to 1, or as 0 to 255.

    Raises BrokenImage (a ValueError) for a file that is missing, empty, truncated, no image, smaller than 2 x 2 pixels,
    or so large (beyond Pillow's limit) that it must be taken for a decompression bomb.
    """
    with _opened(Path(path)) as image:
        pixels = np.array(_rgb(_upright(image)))  # (h, w, 3)
        if min(pixels.shape[:2]) < 2:
            raise ValueError(f"expected at least 2 x 2 pixels, got {pixels.shape[0]} x {pixels.shape[1]}")
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_mask(path: str | Path) -> Bool[Tensor, "h w"]:
    """Read a mask: whatever is not black is defective (VisA numbers its kinds of defect 1, 2, ...; MVTec AD has 255).

    Raises BrokenImage as `read_image` does.
    """
    with _opened(Path(path)) as image:
        image = _upright(image)
        grey = image if image.mode in ("1", "L") or image.mode.startswith(("I", "F")) else image.convert("L")
        return torch.from_numpy(np.asarray(grey) != 0)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open, and turn whatever goes wrong meanwhile into a BrokenImage with a reason in plain words."""
    try:
        with warnings.catch_warnings():  # Pillow warns of odd metadata and of large images, which still can be read
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                image.load()
                yield image
    except FileNotFoundError as error:
        raise BrokenImage(path, "a link to nothing" if path.is_symlink() else "no such file") from error
    except UnidentifiedImageError as error:
        empty = path.stat().st_size == 0
        raise BrokenImage(path, "an empty file" if empty else "not a PNG, JPEG, BMP, TIFF or WebP image") from error
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise BrokenImage(path, str(error)) from error
    except Exception as error:  # a decoder fed with damaged bytes may raise anything
        raise BrokenImage(path, f"unreadable ({type(error).__name__}: {error})") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = UPRIGHT.get(image.getexif().get(ORIENTATION))
    except Exception:  # damaged metadata is no reason to refuse the picture
        turn = None
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # grey of 16 or 32 bits, which Pillow would clip at 255
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _eight_bits(values: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    scales = (1, 255) if values.dtype.kind == "f" else (4095, 65535)
    low, high = values.min(), values.max()
    full = next((scale for scale in scales if low >= 0 and high <= scale), None)  # None also for NaN
    if full is None:
        raise ValueError(f"expected grey values from 0 to {scales[0]} or {scales[1]}, got {low} to {high}")
    return (values * (255 / full)).round().astype(np.uint8)
