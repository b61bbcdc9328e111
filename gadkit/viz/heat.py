"""A table as one picture: rows by columns, each cell with its number, its colour and a mark of whether it is clear.

Book: selfsup/comparison
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.patches import Rectangle

from gadkit.checks import checked
from gadkit.viz.plots import Numbers, _array
from gadkit.viz.style import INK, PALETTE, WIDTH, Picture, styled

ROW, BAND, LABEL = 0.235, 0.1, 1.45  # inches: a row, the space between two groups, the names of the rows
LETTER = 0.078  # inches that a letter of a column's name takes
PALE = 0.3  # how much of its colour the faintest filled cell has


@checked
@styled
def plot_table(
    values: Numbers,
    better: Numbers,
    groups: Mapping[str, Sequence[str]],
    columns: Sequence[str],
) -> Picture:
    """Numbers in cells, coloured by how far each stands above (blue) or below (vermillion) a control.

    `values` and `better` have shape (rows, columns).  NaN in `values` is a cell that was not measured.  `better` goes
    from -1 to 1; 0 marks a difference that is not clear, and its cell has no colour.  `groups` names the rows, all of
    them in order, in groups with a line of space between; the group's own name stands above it unless it is empty.
    Raises ValueError where shapes or names do not fit, or a colour lies outside [-1, 1].
    """
    names = [name for group in groups.values() for name in group]
    table = np.asarray(values, dtype=float)
    shade = _array(better, "better")
    if table.shape != (len(names), len(columns)) or shade.shape != table.shape or not table.size:
        raise ValueError(
            f"values, better: expected shape ({len(names)}, {len(columns)}), got {table.shape} and {shade.shape}"
        )
    if (outside := np.abs(shade).max()) > 1:
        raise ValueError(f"better: expected numbers from -1 to 1, got {outside:g}")
    head = LETTER * max(map(len, columns)) + 0.12
    tops, titles = _places(groups, head)
    tall = tops[-1] + ROW
    figure = Picture(figsize=(WIDTH, tall), layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(tall, 0))
    axes.axis("off")
    width = (WIDTH - LABEL) / len(columns)
    for index, column in enumerate(columns):
        x = LABEL + (index + 0.5) * width
        axes.text(x, head - 0.06, column, rotation=90, ha="center", va="bottom", fontsize=8.5, color=INK)
    for title, top in titles:
        axes.text(0, top + ROW / 2, title, va="center", fontsize=8.5, color=INK, style="italic")
    for name, top, numbers, colours in zip(names, tops, table, shade, strict=True):
        axes.text(0, top + ROW / 2, name, va="center", fontsize=8.5, color=INK)
        for index, (number, colour) in enumerate(zip(numbers, colours, strict=True)):
            _cell(axes, LABEL + index * width, top, width, number, colour)
    return figure


def _places(groups: Mapping[str, Sequence[str]], top: float) -> tuple[list[float], list[tuple[str, float]]]:
    """The top of every row, and of every group's name, in inches; the first is at `top`."""
    tops, titles = [], []
    for title, names in groups.items():
        if not names:
            continue
        if title:
            titles.append((title, top))
            top += ROW
        tops += [top + i * ROW for i in range(len(names))]
        top += len(names) * ROW + BAND
    return tops, titles


def _cell(axes: matplotlib.axes.Axes, x: float, y: float, width: float, number: float, colour: float) -> None:
    """A number on its colour; without one it stands in the page's ink."""
    ink = INK
    if colour:
        hue = PALETTE["blue" if colour > 0 else "vermillion"]
        share = PALE + (1 - PALE) * abs(colour)
        full = np.array(matplotlib.colors.to_rgb(hue))
        face = 1 - share * (1 - full)  # towards white, and opaque: the same on a light and on a dark page
        axes.add_patch(Rectangle((x + 0.01, y + 0.01), width - 0.02, ROW - 0.02, facecolor=face, linewidth=0))
        ink = "black" if face @ (0.299, 0.587, 0.114) > 0.45 else "white"
    text = "–" if np.isnan(number) else f"{number:.2f}".replace("0.", ".", 1) if 0 <= number < 1 else f"{number:.2f}"
    axes.text(x + width / 2, y + ROW / 2, text, ha="center", va="center", fontsize=8, color=ink)
