"""One file to one photograph: whatever its format, mode and orientation, eight bits of red, green and blue.

Book: intro/run-it
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image
from torch import Tensor

from gadkit.checks import checked
from gadkit.data.folders.depth import BANDS, PHOTOMETRIC, Deep, Depth, deep_pixels, is_deep
from gadkit.data.folders.opening import opened, upright
from gadkit.data.resampling import resample

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp")
OTHER_SUFFIXES = (  # pictures too: those left out are named
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".dib"),
    *(".exr", ".hdr", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw"),
    *(".psd", ".svg", ".pdf", ".eps", ".dcm"),
)
COLOURS = {2: 3, 5: 4, 6: 3, 8: 3}  # bands that TIFF's ways to store colours have; all others have one


@dataclass(frozen=True, eq=False)  # eq=False: tensors have no single truth value to compare by
class Photo:
    """A photograph and what its folder says about it.

    `label` is 0 for normal, 1 for anomalous, None where it is unknown.  `mask` marks defective pixels: all False for a
    normal photograph, None where there is no mask.  `defect` is the defect's name, "good" for a normal photograph.
    """

    path: Path
    image: UInt8[Tensor, "3 h w"]
    label: int | None = None
    mask: Bool[Tensor, "h w"] | None = None
    defect: str | None = None


@dataclass(frozen=True)
class Header:
    """The header of a file, before its pixels are read.

    `size` is height and width as stored, before the EXIF tag turns the picture; `deep` means more than eight bits a
    value; `alpha` that some may be transparent; `frames` counts pages and frames, and `dropped` the bands, of which
    only colours and transparency are read.
    """

    size: tuple[int, int]
    deep: bool
    alpha: bool
    frames: int
    dropped: int


def read_image(path: str | Path, depth: Depth | None = None) -> UInt8[Tensor, "3 h w"]:
    """Read the first picture of a PNG, JPEG, BMP, TIFF or WebP file, upright by its EXIF tag; colours as stored.

    Transparent parts are put on white: the colours below them are arbitrary, and a cut-out product is meant for a white
    page.  Of more than eight bits, `depth` says which value is white.  Without it that is a matter of the file alone,
    never of its brightest pixel: 65535 unless its tags name another, and 1 for floats.  Give `Depth(bits=12)` for a
    camera of 12 bits; `load_images`, `ImageFolder` and the command find it out from all files together.

    Raises BrokenImage (a ValueError) for a file that is missing, empty, truncated, no image, smaller than 2 x 2 pixels,
    or so large (beyond Pillow's limit) that it must be taken for a decompression bomb.
    """
    path = Path(path)
    with opened(path, load=False) as image:
        if is_deep(image):
            pixels = deep_pixels(path, image).eight_bits(depth or Depth())
            pixels = pixels[..., None].repeat(3, -1) if pixels.ndim == 2 else pixels
        else:
            image.load()
            pixels = np.array(_rgb(upright(image)))  # (h, w, 3)
        if min(pixels.shape[:2]) < 2:
            raise ValueError(f"expected at least 2 x 2 pixels, got {pixels.shape[0]} x {pixels.shape[1]}")
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_header(path: Path) -> Header:
    """Look at a file without reading its pixels.  Raises BrokenImage as `read_image` does."""
    with opened(path, load=False) as image:
        tags = getattr(image, "tag_v2", {})
        alpha = "A" in image.getbands() or "a" in image.getbands() or image.has_transparency_data
        extra = tags.get(BANDS, 1) - COLOURS.get(tags.get(PHOTOMETRIC), 1)
        deep = is_deep(image)
        return Header(
            size=(image.height, image.width),
            deep=deep,
            alpha=alpha,
            frames=_frames(image),
            dropped=max(0, extra - ("A" in image.getbands() or "a" in image.getbands())),
        )


def read_deep(path: Path) -> Deep:
    """The stored pixels of a file of more than eight bits.  Raises BrokenImage as `read_image` does."""
    with opened(path, load=False) as image:
        is_deep(image)
        return deep_pixels(path, image)


def shows_through(path: Path) -> bool:
    """Whether a file that may be transparent is so anywhere."""
    with opened(path) as image:
        alpha = image.convert("RGBA").getchannel("A")
        return alpha.getextrema()[0] < 255


@checked
def resize(image: UInt8[Tensor, "3 h w"], size: int | tuple[int, int]) -> UInt8[Tensor, "3 s t"]:
    """Squash an image to a square of `size`, or to (height, width), with an antialiased bicubic filter.

    Raises ValueError for a size below 2 x 2 pixels.
    """
    size = (size, size) if isinstance(size, int) else size
    if min(size) < 2:
        raise ValueError(f"size: expected at least 2 x 2 pixels, got {size[0]} x {size[1]}")
    return resample(image[None].float(), size)[0].round().to(torch.uint8)


def _frames(image: Image.Image) -> int:
    """Pages of a TIFF, frames of a film; those of a damaged chain count as one."""
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
