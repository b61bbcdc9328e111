"""The look: ink, palette, the colours of anomaly, and the figure that carries them.

Figures are transparent, because a reader may have chosen a dark page: ink and palette keep a contrast of 3 to 1 (ink
4.5 to 1) on white and on black alike.  Widths are in inches; at `WIDTH` the text is still legible on a telephone.

Book: intro/run-it
"""

import io
from collections.abc import Callable
from functools import wraps
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

WIDTH = 5.6
DPI = 200
INK = "#767676"
PALETTE = {  # the hues of Okabe and Ito (2008) that show on white and on black
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#C46BA0",
}
SERIES = (*PALETTE.values(), INK)
MARKERS = ("o", "s", "^", "D", "v")  # colour never speaks alone
LINES = ("-", "--", ":", "-.")


def look_of(index: int) -> dict[str, str]:
    """Colour, marker and line of the series with that number: from the sixth on the same colours, dashed, and so on."""
    turn, place = divmod(index, len(SERIES))
    marker = MARKERS[(place + turn) % len(MARKERS)]
    return {"color": SERIES[place], "marker": marker, "linestyle": LINES[turn % len(LINES)]}


def _anomaly_colours() -> ListedColormap:
    # Inferno without its black beginning, which would read as shadow, and its white end, which would read as gloss.
    colours = matplotlib.colormaps["inferno"](np.arange(77, 243))  # (166, 4)
    level = np.linspace(0, 1, len(colours))
    colours[:, 3] = 0.9 * np.clip((level - 0.4) / 0.3, 0, 1)  # up to 0.5 it is what normal parts show too
    return ListedColormap(colours, name="anomaly")


ANOMALY = _anomaly_colours()

STYLE: dict[str, Any] = {
    "figure.figsize": (WIDTH, 3.2),
    "figure.dpi": DPI,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "none",
    "savefig.dpi": DPI,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": matplotlib.cycler(color=SERIES, marker=MARKERS),
    "grid.color": INK,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "legend.frameon": False,
}


def use_style() -> None:
    """Give figures of your own the book's look, for the rest of the session."""
    matplotlib.rcParams.update(STYLE)


class Picture(Figure):
    """A figure that a notebook shows once, wherever it is the last value of a cell, whatever the backend."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=DPI, facecolor="none")
        return file.getvalue()


def styled(draw: Callable[..., Picture]) -> Callable[..., Picture]:
    """Decorate a drawing function: it draws in the book's style and leaves the caller's settings alone."""

    @wraps(draw)
    def in_style(*args: Any, **kwargs: Any) -> Picture:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return in_style
