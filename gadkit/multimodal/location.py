"""Places in an image as words: boxes and outlines on a grid of 1,000 x 1,000 bins, one token a number.

    >>> import torch
    >>> from gadkit.multimodal import location
    >>> bins = location.quantise(torch.tensor([[12.0, 8.0, 96.0, 64.0]]), (128, 128))
    >>> location.spell(bins[0].tolist())
    '<loc_93><loc_62><loc_749><loc_499>'

A size is (width, height) in pixels, as in transformers' Florence-2.

Source: Chen et al., Pix2seq, ICLR 2022; Xiao et al., Florence-2, CVPR 2024.
Book: multimodal/florence2
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gadkit.checks import checked, share, whole

BINS = 1000  # along either side
POINTS = 12  # of an outline
LEAST = 0.1  # of a mask's pixels: a smaller piece of it has no outline


@checked
def quantise(places: Float[Tensor, "*n axes"], size: tuple[int, int]) -> Int[Tensor, "*n axes"]:
    """The bins, 0 to 999, of coordinates x, y, x, y, ... in pixels.

    A place on or beyond an edge has the bin next to that edge.  Raises ValueError for an odd number of coordinates.
    """
    per = _sides(places, size) / BINS
    return (places / per).floor().clamp(0, BINS - 1).long()


@checked
def dequantise(bins: Int[Tensor, "*n axes"], size: tuple[int, int]) -> Float[Tensor, "*n axes"]:
    """The middles of bins in pixels.  Raises ValueError for an odd number of coordinates."""
    return (bins + 0.5) * (_sides(bins, size) / BINS)


def _sides(places: Tensor, size: tuple[int, int]) -> Tensor:
    if places.shape[-1] % 2:
        raise ValueError(f"places: expected x, y, x, y, ..., an even number, got {places.shape[-1]}")
    width, height = (whole("size", side) for side in size)
    return torch.tensor([width, height], device=places.device).repeat(places.shape[-1] // 2)


@checked
def spell(bins: Sequence[int]) -> str:
    """Bins as tokens, one after another.  Raises ValueError for a number that is no bin."""
    return "".join(f"<loc_{whole('bin', number, 0, BINS - 1)}>" for number in bins)


@checked
def reading_order(boxes: Float[Tensor, "k 4"]) -> list[int]:
    """The order in which boxes are written: by their left edges, and by the upper ones where two are equal."""
    return sorted(range(len(boxes)), key=lambda i: tuple(boxes[i, :2].tolist()))


@checked
def trace(mask: Bool[Tensor, "h w"], points: int = POINTS, least: float = LEAST) -> list[Float[Tensor, "p 2"]]:
    """Outlines (x, y in pixels) of a mask's pieces, the largest first, each with at most `points` corners.

    An outline runs clockwise from its highest corner.  Corners are those that Douglas and Peucker's method keeps at the
    smallest tolerance that leaves few enough.  Holes are lost, and so are pieces below the share `least` of the mask.
    Raises ValueError for fewer than three points, and a share outside (0, 1].
    """
    from skimage import measure

    whole("points", points, 3), share("least", least)
    numbers = measure.label(np.pad(mask.cpu().numpy(), 1))
    pieces = [piece for piece in measure.regionprops(numbers) if piece.area >= least * mask.sum()]
    found = []
    for piece in sorted(pieces, key=lambda piece: -piece.area):
        alone = np.pad(piece.image_filled, 1).astype(float)
        outline = max(measure.find_contours(alone, 0.5), key=len)  # rows and columns of pixel middles, closed
        outline = _simplified(outline, points)[:, ::-1] + (piece.bbox[1] - 1.5, piece.bbox[0] - 1.5)
        found.append(torch.from_numpy(_from_the_top(outline)).float())
    return found


def _simplified(outline: np.ndarray, points: int) -> np.ndarray:
    """The corners of a closed outline, without the last, which is the first."""
    from skimage import measure

    low, high = 0.0, float(np.ptp(outline, 0).max())
    kept = measure.approximate_polygon(outline, high)[:-1]
    for _ in range(6):  # halves the tolerance's range each time
        middle = (low + high) / 2
        trial = measure.approximate_polygon(outline, middle)[:-1]
        low, high = (middle, high) if len(trial) > points else (low, middle)
        kept = trial if len(trial) <= points else kept
    return kept


def _from_the_top(outline: np.ndarray) -> np.ndarray:
    """The same corners, clockwise on the screen from the highest, and of these the leftmost."""
    x, y = outline.T
    twice = (x * np.roll(y, -1) - np.roll(x, -1) * y).sum()
    outline = outline if twice > 0 else outline[::-1]
    return np.roll(outline, -np.lexsort((outline[:, 0], outline[:, 1]))[0], 0).copy()


@checked
def fill(outlines: Sequence[Sequence[float | int]], size: tuple[int, int]) -> Bool[Tensor, "h w"]:
    """The mask inside outlines, each x, y, x, y, ... in pixels; one of fewer than three corners is empty."""
    from skimage.draw import polygon2mask

    width, height = size
    mask = np.zeros((height, width), dtype=bool)
    for outline in outlines:
        corners = np.asarray(outline, dtype=float).reshape(-1, 2)[:, ::-1] - 0.5  # a pixel's middle is a whole number
        if len(corners) > 2:
            mask |= polygon2mask((height, width), corners)
    return torch.from_numpy(mask)
