"""The scale of anomaly maps' colours.

A map is never scaled by itself, or every good image would glow: its scale is measured once, on maps of normal
images, and every figure that it is compared with uses the same one.

Book: intro/run-it
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gadkit.checks import check_finite, checked


class Scale(NamedTuple):
    """Where an anomaly map's colours begin, end, and are half spent, in the map's own units.

    Half the colours lie below `middle` and half above, evenly on either side; without it, it is halfway.
    """

    low: float
    high: float
    middle: float | None = None

    def relative(self, maps: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
        """Maps in units of this scale, 0 at `low` and 1 at `high`: those of different products then share one figure.

        Raises ValueError for a scale that does not rise.
        """
        middle = (self.low + self.high) / 2 if self.middle is None else self.middle
        if not self.low < middle < self.high:
            raise ValueError(f"scale: expected low < middle < high, got {tuple(self)}")
        below, above = (maps - self.low) / (middle - self.low), (maps - middle) / (self.high - middle)
        return torch.where(maps < middle, below, 1 + above) / 2


@checked
def anomaly_scale(normal_maps: Float[Tensor, "b h w"], quantile: float = 0.995, top: float | None = None) -> Scale:
    """The scale that maps of normal images give: from their median to twice as far as their extreme, or on to `top`.

    The extreme is the `quantile` of all their pixels, so it lands in the middle of the colours and nearly all of a good
    image stays uncoloured.  `top` is for detectors whose maps leave that extreme far behind, so that a defect still
    stands out from surroundings that are only unusual: a value at which the detector is sure, or the strongest of all
    maps that are shown together, never of each by itself.  Nearer than twice the extreme it changes nothing.

    Raises ValueError for no maps, NaN, or maps that are all one value.
    """
    return scale_beyond(*extremes(normal_maps, quantile), top)


def extremes(normal_maps: Float[Tensor, "..."], quantile: float = 0.995) -> tuple[float, float]:
    """The median and the `quantile` of all pixels of normal maps.  Raises ValueError for no maps, and NaN."""
    if normal_maps.numel() == 0:
        raise ValueError(f"normal_maps: expected at least one map, got shape {tuple(normal_maps.shape)}")
    if not 0.5 < quantile <= 1:
        raise ValueError(f"quantile: expected a number in (0.5, 1], got {quantile}")
    values = check_finite(normal_maps, "normal_maps").detach().float().cpu().numpy()
    median, extreme = map(float, np.quantile(values, [0.5, quantile]))
    return median, extreme


def scale_beyond(median: float, extreme: float, top: float | None = None) -> Scale:
    """`anomaly_scale` from the median and the extreme of normal maps.  Raises ValueError where they are one value."""
    if median == extreme:
        raise ValueError(f"normal_maps: expected maps that vary, got {median:.4g} everywhere")
    twice = 2 * extreme - median
    return Scale(median, twice) if top is None or top <= twice else Scale(median, float(top), extreme)
