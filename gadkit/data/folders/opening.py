"""Opening a file: a picture that Pillow reads, or the true reason in plain words why it is none.

Book: intro/run-it
"""

import os
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # a file is what its first bytes say, whatever its suffix
NONE_OF_THEM = "not a PNG, JPEG, BMP, TIFF or WebP image"
OTHERS = {  # first bytes of kinds that are met under the wrong name: where they begin, what they are, their name
    (0, b"GIF8"): "a GIF image",
    (4, b"ftypavif"): "an AVIF image",
    (4, b"ftyphei"): "an HEIC image",
    (4, b"ftypmif1"): "an HEIC image",
    (4, b"jP  "): "a JPEG 2000 image",
    (0, b"%PDF"): "a PDF",
    (0, b"<"): "a page of HTML or XML",
    (0, b"version https://git-lfs"): "a Git LFS pointer whose image was not downloaded",
}
OURS = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP", b"RIFF": "WebP"}
TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two begin a BigTIFF
SPECIAL = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class BrokenImage(ValueError):
    """A file that holds no readable image; `path` and `reason` say which and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


@contextmanager
def opened(
    path: Path, load: bool = True, before: Callable[[Image.Image], object] | None = None
) -> Iterator[Image.Image]:
    """Open a picture; `before` may look at it before its pixels are loaded.

    Anything that goes wrong, here or in the block, becomes a BrokenImage with a reason in plain words.  Only regular
    files are opened, so that a pipe or a device never blocks.
    """
    try:
        _check_regular(path)
        with warnings.catch_warnings():  # Pillow warns of odd metadata and of large images, which still can be read
            warnings.simplefilter("ignore")
            # given as a path, grey TIFFs are mapped into memory, and those that lie on their side are garbled
            with open(path, "rb") as file, Image.open(file, formats=FORMATS) as image:
                if before is not None:
                    before(image)
                if load:
                    image.load()
                yield image
    except BrokenImage:
        raise
    except UnidentifiedImageError as error:
        raise BrokenImage(path, _what_it_is(path)) from error
    except OSError as error:
        reason = str(error) if "truncated" in str(error) else f"damaged or cut off ({error})"
        raise BrokenImage(path, error.strerror or reason) from error
    except Image.DecompressionBombError as error:
        raise BrokenImage(path, f"{str(error).rstrip('.')}; cut a picture that is meant to be so large") from error
    except ValueError as error:
        raise BrokenImage(path, str(error)) from error
    except Exception as error:  # a decoder fed with damaged bytes may raise anything
        raise BrokenImage(path, f"unreadable ({type(error).__name__}: {error})") from error


def upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF tag says that the camera was held."""
    try:
        turn = image.getexif().get(0x0112)
    except Exception:  # damaged metadata is no reason to refuse the picture
        return image
    if turn not in range(2, 9):
        return image
    bare = image.copy()  # without the other metadata, which may be damaged: turning would write it anew
    bare.info = {key: value for key, value in image.info.items() if key not in ("exif", "xmp", "Raw profile type exif")}
    bare.getexif().clear()
    bare.getexif()[0x0112] = turn
    return ImageOps.exif_transpose(bare)


def _check_regular(path: Path) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        raise BrokenImage(path, "a link to nothing" if path.is_symlink() else "no such file") from error
    if stat.S_ISDIR(mode):
        try:
            os.scandir(path).close()
        except OSError as error:
            raise BrokenImage(path, f"a folder that cannot be opened ({error.strerror})") from error
        raise BrokenImage(path, "a folder, not a file")
    if not stat.S_ISREG(mode):
        raise BrokenImage(path, f"{SPECIAL.get(stat.S_IFMT(mode), 'something else')}, not a file")


def _what_it_is(path: Path) -> str:
    """Why Pillow takes a file for no image that it knows."""
    with open(path, "rb") as file:
        first = file.read(32)
    if not first:
        return "an empty file"
    for (start, mark), kind in OTHERS.items():
        if first[start:].startswith(mark):
            return f"{kind}, {NONE_OF_THEM}"
    if first.startswith(TIFFS):
        return _kind_of_tiff(path)
    name = next((name for mark, name in OURS.items() if first.startswith(mark)), None)
    return NONE_OF_THEM if name is None else f"begins as a {name}, but is damaged or of a rare kind that is not read"


def _kind_of_tiff(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            head = file.read(8)
            tags = ImageFileDirectory_v2(head + (file.read(8) if head[2:4] in (b"+\0", b"\0+") else b""))
            file.seek(tags.next)
            tags.load(file)
        bands, bits = tags.get(277, 1), tags.get(258, (1,))[0]  # SamplesPerPixel, BitsPerSample
        numbers = {2: "signed whole numbers", 3: "floats"}.get((tags.get(339) or (1,))[0], "whole numbers")
    except Exception:
        return "a damaged TIFF"
    kind = f"{bands} band{'s' * (bands != 1)} of {bits}-bit {numbers}"
    return f"a TIFF of {kind}, which is not read; grey and RGB of 8 or 16 bits are"
