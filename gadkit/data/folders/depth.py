"""Pixels of more than eight bits: what is stored, and which of its values is white.

A camera of 12 bits writes files of 16, and nothing in the file need say so.  What is white is therefore a property of
the file's tags or of all files that are compared, never of one image's brightest pixel.

Book: intro/run-it
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from gadkit.data.folders.opening import opened, upright

STEPS = (8, 10, 12, 14)  # bits that cameras have; files have 16
FLOATS = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # values that are white in files of floats
SPECKS = 0.001  # share of the pixels, brightest and darkest, that may be hot, dead or overshot
OVERSHOOT = 0.02  # of floats beyond black and white, as resampling leaves it
SWAPPED = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}  # Pillow keeps the upper of two bytes
BITS, PHOTOMETRIC, BANDS, PLANES, SIGN, HIGHEST = 258, 262, 277, 284, 339, (341, 281)  # tags of TIFF


@dataclass(frozen=True)
class Depth:
    """The value that is white in files of more than eight bits; files that are compared need the same.

    For whole numbers it is 2 ** bits - 1; `bits` None leaves it to each file: to its tags, else to the bits that it has
    room for, at most 16.  `floats` is white in files of floats.  What is brighter is white, too.
    """

    bits: int | None = None
    floats: float = 1.0

    def __post_init__(self) -> None:
        """Raise ValueError for bits outside 8 to 16, and for a white that is not above 0."""
        if self.bits is not None and self.bits not in range(8, 17):
            raise ValueError(f"bits: expected a whole number from 8 to 16, got {self.bits!r}")
        if not 0 < self.floats < np.inf:
            raise ValueError(f"floats: expected a number above 0, got {self.floats!r}")


@dataclass(frozen=True, eq=False)
class Deep:
    """Pixels as they are stored: `values` (h, w) or (h, w, 3), whole numbers or floats, perhaps with `alpha` (h, w).

    `room` is the number of bits a value has room for, `told` the number that the file's tags name; `white_is_zero`
    says that large values are dark, `coarse` that only the upper eight bits are known.
    """

    values: np.ndarray
    alpha: np.ndarray | None
    room: int
    told: int | None
    white_is_zero: bool
    coarse: bool

    @property
    def floats(self) -> bool:
        """Whether values are floats."""
        return self.values.dtype.kind == "f"

    def bits(self) -> int:
        """How many bits the file has: by its tags, else the fewest that hold its values.

        Raises ValueError for negative values and for more than 16 bits.
        """
        lowest, highest = self._range()
        if lowest < 0 or highest >= 2**16:
            raise ValueError(f"expected values from 0 to 65535, got {lowest:.0f} to {highest:.0f}")
        steps = [step for step in STEPS if step < self.room] + [min(self.room, 16)]
        return self.told or next((step for step in steps if highest < 2**step), steps[-1])

    def white(self) -> float:
        """In a file of floats, the usual value of white that holds its values.

        Raises ValueError for values that are negative or not finite.
        """
        lowest, highest = self._range()
        white = next((white for white in FLOATS if highest <= white * (1 + OVERSHOOT)), highest)
        if lowest < -OVERSHOOT * white:
            raise ValueError(f"expected floats from 0, got {lowest:g} to {highest:g}")
        return white

    def eight_bits(self, depth: Depth) -> UInt8[np.ndarray, "h w *c"]:
        """Scale to 0 to 255; transparent parts are put on white.

        Raises ValueError as `bits` and `white` do, and for floats beyond `depth.floats`.
        """
        full = self._full(depth)
        light = self.values.clip(0, full) * (255 / full)
        light = 255 - light if self.white_is_zero else light
        if self.alpha is not None:
            opacity = (self.alpha / (2**self.room - 1)).reshape(*self.alpha.shape, *[1] * (light.ndim - 2))
            light = light * opacity + 255 * (1 - opacity)
        return light.round().astype(np.uint8)

    def _full(self, depth: Depth) -> float:
        if self.floats:
            if self.white() > depth.floats:
                highest = self._range()[1]
                raise ValueError(f"expected floats from 0 to {depth.floats:g}, got up to {highest:g}")
            return depth.floats
        self.bits()
        bits = depth.bits or self.told or min(self.room, 16)
        if self.coarse and bits < 16:
            raise ValueError(f"grey of 16 bits with transparency is read at its full range only, not as {bits} bits")
        return 2.0**bits - 1

    def _range(self) -> tuple[float, float]:
        """The lowest and the highest value, but for one pixel in a thousand.  Raises ValueError for NaN."""
        if bad := int((~np.isfinite(self.values)).sum()):
            raise ValueError(f"expected finite values, got {bad} that are NaN or infinite")
        flat = self.values.reshape(-1)
        specks = int(SPECKS * flat.size)
        ends = np.partition(flat, (specks, flat.size - 1 - specks))
        return float(ends[specks]), float(ends[flat.size - 1 - specks])


def deep_pixels(path: Path, image: Image.Image) -> Deep:
    """The stored pixels of a file that `is_deep`, upright; `image` is the same file, opened and not loaded."""
    raw, mode, tags = _raw(image), image.mode, getattr(image, "tag_v2", {})
    sign = 1 if tags.get(SIGN, (1,))[0] == 2 else 0
    room = max(tags.get(BITS, (16,))) - sign
    facts = {"room": room, "told": _told(tags, room), "white_is_zero": tags.get(PHOTOMETRIC) == 0}
    if mode.startswith(("I", "F")):
        with opened(path) as whole:
            return Deep(np.array(upright(whole)), None, coarse=False, **facts)
    high = _plane(path, None)
    coarse = raw.startswith("LA")  # Pillow gives its upper bytes only
    low = high if coarse else _plane(path, _low_bytes)  # so that 255 of 255 is 65535 of 65535
    values = high.astype(np.uint16) * 256 + low  # (h, w, c)
    alpha = values[..., -1] if mode in ("RGBA", "LA") else None
    values = values[..., 0] if coarse else values[..., :3]
    return Deep(values, alpha, coarse=coarse, **facts)


def is_deep(image: Image.Image) -> bool:
    """Whether an opened picture, not loaded yet, has more than eight bits a value.

    Raises ValueError for those of a kind that Pillow would read wrongly.
    """
    tags = getattr(image, "tag_v2", {})
    bits, planes = max(tags.get(BITS, (8,))), tags.get(PLANES) == 2
    if image.mode.startswith(("I", "F")):
        if (bands := tags.get(BANDS, 1)) > 1:
            raise ValueError(f"a TIFF of {bands} bands of {bits} bits, which is not read; grey has one and RGB three")
        return True
    if bits > 8 and planes and image.tile[0][0] != "raw":
        raise ValueError(f"colours of {bits} bits in separate planes are read from uncompressed TIFFs only")
    return ";16" in _raw(image) or (bits == 16 and planes)


def _plane(path: Path, swap: Callable[[Image.Image], None] | None) -> np.ndarray:
    """The upper bytes of all values, or the lower ones."""

    def before(image: Image.Image) -> None:
        _name_planes(image)
        if swap is not None:
            swap(image)

    with opened(path, before=before) as image:
        return np.array(upright(image))


def _name_planes(image: Image.Image) -> None:
    """Say of planes of 16 bits that they are: Pillow takes them for planes of 8."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(PLANES) == 2 and len(image.tile) > 1 and image.tile[0][0] == "raw":
        order = "L" if tags.prefix == b"II" else "B"
        _rename(image, lambda raw: f"{raw};16{order}" if ";" not in raw else raw)


def _low_bytes(image: Image.Image) -> None:
    _rename(image, lambda raw: raw[:-1] + SWAPPED[raw[-1]])


def _rename(image: Image.Image, new: Callable[[str], str]) -> None:
    """Change how Pillow's decoder reads the bytes of a value."""
    tiles = []
    for tile in image.tile:
        codec, extents, offset, args = tile
        args = new(args) if isinstance(args, str) else (new(args[0]), *args[1:])
        tiles.append(tile._replace(args=args) if hasattr(tile, "_replace") else (codec, extents, offset, args))
    image.tile = tiles


def _raw(image: Image.Image) -> str:
    """The name that Pillow's decoder has for the layout of the stored bytes."""
    args = image.tile[0][3] if image.tile else ""
    raw = args if isinstance(args, str) else args[0] if args else ""
    return raw if isinstance(raw, str) else ""


def _told(tags: object, room: int) -> int | None:
    """The bits that a TIFF's tags name: those that a value has room for, if a camera has so many, else its maximum.

    Some writers take the picture's brightest value for that; it is believed only if it is a power of two less one.
    """
    if room in STEPS:
        return room
    for tag in HIGHEST:
        value = tags.get(tag)
        values = set(value if isinstance(value, tuple) else [value])
        if len(values) == 1 and (found := next((n for n in range(8, 17) if values == {2**n - 1}), None)):
            return found
    return None
