"""Plots of numbers: methods by shots, bars, curves, scores.

Repeats are always drawn, never only their mean: what one seed says is one opinion.

Book: intro/run-it
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.text import Text

from gadkit.checks import checked, one_of
from gadkit.viz.style import INK, MARKERS, PALETTE, WIDTH, Picture, look_of, styled

Numbers = float | int | Sequence | np.ndarray | torch.Tensor


def _array(values: Numbers, what: str) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
    array = np.asarray(values, dtype=float)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{what}: expected finite numbers, at least one, got an array of shape {array.shape}")
    return array


def _frame(height: float, xlabel: str, ylabel: str) -> tuple[Picture, Axes]:
    figure = Picture(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return figure, axes


def _legend(figure: Picture, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside upper left", ncols=min(3, len(labels)))


@checked
@styled
def plot_shots(
    results: Mapping[str, Numbers],
    shots: Sequence[int],
    ylabel: str = "image AUROC",
    reference: Mapping[str, float] | None = None,
) -> Picture:
    """Methods against the number of normal photographs that they were shown.

    A result is an array (len(shots), repeats): the line joins the means, small dots are the repeats.  Shots that a
    method cannot do are rows of NaN.  `reference` holds levels to draw as dashed lines, such as chance or a published
    number.
    """
    figure, axes = _frame(3.4, "normal photographs shown", ylabel)
    places = np.arange(len(shots))
    for index, (name, values) in enumerate(results.items()):
        table, there = _shown(values, len(shots), f"results[{name!r}]")
        look = look_of(index)
        x = (places + (index - (len(results) - 1) / 2) * 0.08)[there]  # side by side: no method hides another
        axes.plot(x, table.mean(1), label=name, **look)
        axes.scatter(np.repeat(x, table.shape[1]), table.ravel(), color=look["color"], s=8, alpha=0.45, linewidths=0)
    _levels(axes, reference or {})
    axes.set_xticks(places, [str(shot) for shot in shots])
    _legend(figure, axes)
    return figure


def _shown(values: Numbers, count: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a result that are there, and which of all `count` these are."""
    table = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values, dtype=float)
    if table.ndim != 2 or len(table) != count:
        raise ValueError(f"{what}: expected shape ({count}, repeats), got {table.shape}")
    there = ~np.isnan(table).all(1)
    return _array(table[there], what), there


def _levels(axes: Axes, reference: Mapping[str, float]) -> None:
    for name, level in reference.items():
        axes.axhline(level, color=INK, linestyle="--", linewidth=1)
        place = (1.01, level)  # beside the axes, where no dot can hide it
        axes.annotate(name, place, xycoords=("axes fraction", "data"), va="center", fontsize=9.5)


@checked
@styled
def plot_bars(values: Mapping[str, Numbers], xlabel: str, start: float = 0.0, highlight: str | None = None) -> Picture:
    """Horizontal bars in the order given, each from `start` to the mean of its repeats, which are drawn as dots.

    `start` is where nothing has been achieved, 0.5 for an AUROC.  `highlight` names the bar that the text is about.
    """
    if highlight is not None:
        one_of("highlight", highlight, values)
    figure, axes = _frame(0.7 + 0.34 * len(values), xlabel, "")
    for place, (name, repeats) in enumerate(values.items()):
        repeats = _array(repeats, f"values[{name!r}]").ravel()
        mean = repeats.mean()
        colour = PALETTE["vermillion"] if name == highlight else PALETTE["blue"]
        axes.barh(place, mean - start, left=start, height=0.62, color=colour, alpha=0.85)
        if len(repeats) > 1:
            axes.scatter(
                repeats, np.full(len(repeats), place), s=13, zorder=3, color="white", edgecolors=INK, linewidths=0.7
            )
        axes.annotate(
            f"{mean:.2f}", (max(start, repeats.max()), place), xytext=(5, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(values)), list(values))
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(False, axis="y")
    return figure


@checked
@styled
def plot_curves(
    curves: Mapping[str, tuple[Numbers, Numbers]], xlabel: str, ylabel: str, diagonal: bool = False
) -> Picture:
    """Curves (x, y); `diagonal` adds the line that chance draws under a receiver operating characteristic."""
    figure, axes = _frame(3.4, xlabel, ylabel)
    if diagonal:
        axes.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1, marker="")
    for index, (name, (x, y)) in enumerate(curves.items()):
        x, y = _array(x, f"curves[{name!r}] x"), _array(y, f"curves[{name!r}] y")
        if x.shape != y.shape:
            raise ValueError(f"curves[{name!r}]: expected x and y of one shape, got {x.shape} and {y.shape}")
        axes.plot(x, y, label=name, markevery=max(1, len(x) // 8), **look_of(index))
    _legend(figure, axes)
    return figure


@checked
@styled
def plot_scores(
    groups: Mapping[str, Numbers], threshold: float | None = None, xlabel: str = "anomaly score"
) -> Picture:
    """Scores as dots, one row a group (normal, each defect), with the threshold that would part them."""
    figure, axes = _frame(0.8 + 0.42 * len(groups), xlabel, "")
    for place, (name, scores) in enumerate(groups.items()):
        scores = _array(scores, f"groups[{name!r}]").ravel()
        jitter = 0.5 * (
            np.arange(len(scores)) * 0.618 % 1 - 0.5
        )  # the golden ratio spreads dots evenly, without a seed
        colour = PALETTE["blue"] if place == 0 else PALETTE["vermillion"]
        marker = MARKERS[0] if place == 0 else MARKERS[1]
        axes.scatter(scores, place + jitter, color=colour, marker=marker, s=16, alpha=0.75, linewidths=0, label=name)
    if threshold is not None:
        axes.axvline(threshold, color=INK, linestyle="--", linewidth=1.2)
        axes.annotate(
            "threshold",
            (threshold, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, -2),
            textcoords="offset points",
            va="top",
            fontsize=9.5,
        )
    axes.set_yticks(range(len(groups)), list(groups))
    axes.set_ylim(len(groups) - 0.5, -0.8 if threshold is not None else -0.5)
    axes.grid(False, axis="y")
    return figure


@checked
@styled
def plot_scatter(
    points: Mapping[str, tuple[float, float]],
    xlabel: str,
    ylabel: str,
    highlight: Sequence[str] = (),
    logarithmic: bool = False,
) -> Picture:
    """Named points, such as methods by two measures; those in `highlight`, the controls, look different.

    `logarithmic` is for values along x that differ by orders of magnitude, such as milliseconds.  Raises ValueError
    where one of them is not above 0 then.
    """
    if logarithmic and (low := [name for name, (x, _) in points.items() if x <= 0]):
        raise ValueError(f"points[{low[0]!r}]: expected a value above 0 on a logarithmic axis, got {points[low[0]][0]}")
    if unknown := set(highlight) - set(points):
        raise ValueError(f"highlight: expected names among {', '.join(points)}, got {', '.join(sorted(unknown))}")
    figure, axes = _frame(4.2, xlabel, ylabel)
    for name, (x, y) in points.items():
        _array([x, y], f"points[{name!r}]")
        known = name in highlight
        axes.plot(x, y, MARKERS[known], color=PALETTE["vermillion" if known else "blue"], markersize=6)
    texts = [axes.text(x, y, name, fontsize=8.5, color=INK) for name, (x, y) in points.items()]
    axes.margins(0.12)
    if logarithmic:
        _logarithmic(axes)
    _part(figure, axes, texts, list(points.values()))
    return figure


def _logarithmic(axes: Axes) -> None:
    """A logarithmic axis x whose ticks are 1, 2 and 5 of every order, as plain numbers."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    orders = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [first * 10.0**order for order in orders for first in (1, 2, 5) if low <= first * 10.0**order <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def _part(figure: Picture, axes: Axes, texts: list[Text], points: list[tuple[float, float]]) -> None:
    """Put each label where it covers no point and no earlier label, trying the places around its point in turn."""
    figure.draw_without_rendering()
    spots = [(6, 0, "left"), (-6, 0, "right"), *((dx, dy, "center") for dy in (9, -9, 17, -17) for dx in (0, 24, -24))]
    dots, taken = axes.transData.transform(points), []
    scale = figure.dpi / 72
    for text, dot in zip(texts, dots, strict=True):
        best = None
        for dx, dy, align in spots:
            text.set(
                ha=align, va="center", position=axes.transData.inverted().transform(dot + np.array([dx, dy]) * scale)
            )
            box = text.get_window_extent().padded(1)
            hits = sum(box.overlaps(other) for other in taken) + sum(box.contains(*d) for d in dots)
            hits += not axes.bbox.padded(40).contains(box.x0, box.y0) or not axes.bbox.padded(40).contains(
                box.x1, box.y1
            )
            if best is None or hits < best[0]:
                best = hits, align, text.get_position(), box
        text.set(ha=best[1], position=best[2])
        taken.append(best[3])
