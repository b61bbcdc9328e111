"""The roofline picture: speed against arithmetic intensity, under the two lines that a machine cannot cross.

Source: Williams, Waterman and Patterson 2009, Roofline: an insightful visual performance model.
Book: anomaly/speed
"""

from collections.abc import Mapping

import numpy as np

from gadkit.checks import checked, positive
from gadkit.viz.plots import Numbers, _array, _frame, _legend
from gadkit.viz.style import INK, Picture, look_of, styled


@checked
@styled
def plot_roofline(points: Mapping[str, tuple[Numbers, Numbers]], bandwidth: float, peak: float) -> Picture:
    """Groups of steps by intensity (operations a byte) and speed (operations a second), on logarithmic axes.

    `bandwidth` is in bytes a second, `peak` in operations a second.  Raises ValueError for what is not above 0.
    """
    positive("bandwidth", bandwidth), positive("peak", peak)
    figure, axes = _frame(3.6, "operations for each byte moved", "10⁹ operations a second")
    lowest, highest = np.inf, peak / bandwidth
    for index, (name, (x, y)) in enumerate(points.items()):
        x, y = _array(x, f"points[{name!r}] x"), _array(y, f"points[{name!r}] y")
        if x.shape != y.shape or x.min() <= 0 or y.min() <= 0:
            raise ValueError(f"points[{name!r}]: expected x and y above 0, of one shape, got {x.shape} and {y.shape}")
        lowest, highest = min(lowest, x.min()), max(highest, x.max())
        axes.plot(x, y / 1e9, label=name, markersize=6, **look_of(index) | {"linestyle": ""})
    ends = np.array([min(lowest, peak / bandwidth) / 2, peak / bandwidth, highest * 2])
    axes.plot(ends, np.minimum(ends * bandwidth, peak) / 1e9, color=INK, linewidth=1.2, marker="", linestyle="--")
    axes.set(xscale="log", yscale="log")
    _legend(figure, axes)
    return figure
