"""AUPRO as it is usually computed, and maps to try it on: what the exact one is compared with.

Book: anomaly/measuring
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from gadkit.checks import checked, share, whole

Stack = tuple[Float[np.ndarray, "b h w"], Bool[np.ndarray, "b h w"]]


@checked
def random_maps(count: int, size: int, seed: int = 0) -> Stack:
    """Smooth random maps, a little higher on round defects, which every second image has one to three of."""
    whole("count", count), whole("size", size), whole("seed", seed, 0)
    random = np.random.default_rng(seed)
    maps = ndimage.gaussian_filter(random.standard_normal((count, size, size), dtype=np.float32), (0, 8, 8))
    masks = np.zeros(maps.shape, bool)
    y, x = np.ogrid[:size, :size]
    for mask in masks[::2]:
        for _ in range(random.integers(1, 4)):
            row, column, radius = random.uniform((0.1, 0.1, 0.02), (0.9, 0.9, 0.1)) * size
            mask |= (y - row) ** 2 + (x - column) ** 2 < radius**2
    return maps + 0.1 * masks.astype(np.float32), masks


@checked
def plain_aupro(
    maps: Float[np.ndarray, "b h w"], masks: Bool[np.ndarray, "b h w"], limit: float = 0.3, thresholds: int = 200
) -> float:
    """AUPRO as usually written: at evenly spaced thresholds, the false-positive rate and the overlap of each region.

    The area is taken up to the false-positive rate `limit`, and between thresholds the curve is a straight line.
    Raises ValueError for NaN, masks without a defect or without a normal pixel, fewer than two thresholds, and a limit
    outside (0, 1].
    """
    share("limit", limit), whole("thresholds", thresholds, 2)
    if not np.isfinite(maps).all() or not masks.any() or masks.all():
        raise ValueError("maps and masks: expected finite numbers, some on defects and some not")
    regions = []
    for index in np.flatnonzero(masks.any(axis=(1, 2))):
        labels, count = ndimage.label(masks[index], np.ones((3, 3)))
        regions += [(index, *np.nonzero(labels == region)) for region in range(1, count + 1)]
    rates, overlaps = [0.0], [0.0]
    for threshold in np.linspace(maps.max(), maps.min(), thresholds):
        marked = maps >= threshold
        rates.append(float(marked[~masks].mean()))
        overlaps.append(float(np.mean([marked[index, rows, columns].mean() for index, rows, columns in regions])))
    end = float(np.interp(limit, rates, overlaps))
    inside = sum(rate < limit for rate in rates)
    return float(np.trapezoid([*overlaps[:inside], end], [*rates[:inside], limit]) / limit)
