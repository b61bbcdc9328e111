"""Pictures of a collection in clusters: sheets with a row a cluster, trees of clusters, points in a plane.

Book: selfsup/curation
"""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, UInt8
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from gadkit.checks import check_finite, checked, positive, whole
from gadkit.viz.pictures import GAP, _check_columns, _panel, _pixels
from gadkit.viz.style import INK, PALETTE, WIDTH, Picture, styled

LABEL = 1.0  # inches: the column of numbers beside a sheet's rows
STEM = (0.12, 0.95, 1.8, 2.35)  # inches: where a tree's root, clusters and leaves stand, and where photographs begin
DOT = 11.0  # points: the diameter of the root
BACKGROUND = "#F4F4F4"  # of a sheet that is saved: a file has no page around it


@checked
@styled
def show_clusters(
    clusters: Sequence[tuple[int, int, UInt8[Tensor, "_ 3 _ _"]]], columns: int = 9, page: bool = False
) -> Picture:
    """A numbered row a cluster: how many photographs it holds, how many stay, and up to `columns` of these.

    The bar below the numbers is as long as the cluster is large, its coloured part as what stays of it; all rows share
    one scale.  `page` puts the sheet on light paper with a margin, for a file that is looked at by itself.
    """
    if not clusters or any(len(images) == 0 for *_, images in clusters):
        raise ValueError("clusters: expected at least one, each with some photographs to show")
    for before, after, _ in clusters:
        whole("photographs", before), whole("photographs that stay", after, 0, before)
    columns, margin = _check_columns(columns), 0.15 if page else 0.0
    side = (WIDTH - LABEL - 2 * margin - GAP * (columns - 1)) / columns
    step, widest = side + GAP, max(before for before, *_ in clusters)
    figure = Picture(figsize=(WIDTH, len(clusters) * step - GAP + 2 * margin), layout="none")
    if page:
        figure.set_facecolor(BACKGROUND)
    for row, (before, after, images) in enumerate(clusters):
        top = margin + row * step
        axes = _panel(figure, margin, top, LABEL - 0.12, side)
        axes.set(xlim=(0, 1), ylim=(1, 0))
        axes.text(0, 0.12, f"{row + 1}", fontsize=6.5, va="center", color=INK)
        axes.text(0, 0.46, f"{before:,} → {after:,}", fontsize=8.5, va="center", color=INK)
        for share, colour, alpha in ((before, INK, 0.35), (after, PALETTE["blue"], 1.0)):
            axes.add_patch(Rectangle((0, 0.68), share / widest, 0.1, facecolor=colour, alpha=alpha, linewidth=0))
        for column, image in enumerate(_pixels(images[:columns])):
            height, width = image.shape[:2]
            scale = side / max(height, width)  # a photograph keeps its shape
            place = margin + LABEL + column * (side + GAP) + (side - width * scale) / 2
            _panel(figure, place, top + (side - height * scale) / 2, width * scale, height * scale).imshow(image)
    return figure


@checked
@styled
def show_tree(
    branches: Sequence[Sequence[tuple[int, UInt8[Tensor, "_ 3 _ _"]]]],
    sizes: Sequence[int] | None = None,
    whole: int | None = None,
    columns: int = 6,
) -> Picture:
    """A tree of clusters from the left to the right: the root, clusters, their leaves, and photographs of each leaf.

    `branches[i][j]` is leaf j of cluster i: how many photographs it holds, and some of them.  Where not all leaves or
    clusters are shown, `sizes` says what each cluster holds, and `whole` what the root does.  A dot's area shows how
    many there are, and so does the number beside it.
    """
    if not branches or not all(branches):
        raise ValueError("branches: expected at least one cluster, each with at least one leaf")
    if sizes is None:
        sizes = [sum(count for count, _ in leaves) for leaves in branches]
    if len(sizes) != len(branches):
        raise ValueError(f"sizes: expected one a cluster, {len(branches)} in all, got {len(sizes)}")
    whole = sum(sizes) if whole is None else whole
    for size in [whole, *sizes, *(count for leaves in branches for count, _ in leaves)]:
        if not 0 < size <= whole:
            raise ValueError(f"tree: expected counts from 1 to those of the whole, {whole}, got {size}")
    side = (WIDTH - STEM[3] - GAP * (_check_columns(columns) - 1)) / columns
    tops, top = [], 0.0
    for leaves in branches:
        tops.append([top + j * (side + GAP) + side / 2 for j in range(len(leaves))])
        top += len(leaves) * (side + GAP) + 2 * GAP
    figure = Picture(figsize=(WIDTH, top - 3 * GAP), layout="none")
    middle = [sum(places) / len(places) for places in tops]
    root = (middle[0] + middle[-1]) / 2
    for leaves, places, centre, size in zip(branches, tops, middle, sizes, strict=True):
        _elbow(figure, (STEM[0], root), (STEM[1], centre))
        for (count, images), place in zip(leaves, places, strict=True):
            _elbow(figure, (STEM[1], centre), (STEM[2], place))
            _dot(figure, STEM[2], place, count, whole)
            for column, image in enumerate(_pixels(images[:columns])):
                _panel(figure, STEM[3] + column * (side + GAP), place - side / 2, side, side).imshow(image)
        _dot(figure, STEM[1], centre, size, whole)
    _dot(figure, STEM[0], root, whole, whole)
    return figure


def _place(figure: Picture, x: float, y: float) -> tuple[float, float]:
    """Inches from the upper left corner as shares of the figure."""
    wide, tall = figure.get_size_inches()
    return x / wide, 1 - y / tall


def _elbow(figure: Picture, start: tuple[float, float], end: tuple[float, float]) -> None:
    turn = start[0] + 0.45 * (end[0] - start[0])
    points = [_place(figure, *p) for p in (start, (turn, start[1]), (turn, end[1]), end)]
    figure.add_artist(Line2D(*zip(*points, strict=True), color=INK, alpha=0.6, linewidth=1, marker=""))


def _dot(figure: Picture, x: float, y: float, count: int, whole: int) -> None:
    place = _place(figure, x, y)
    size = max(3.0, DOT * math.sqrt(count / whole))
    figure.add_artist(Line2D(*([p] for p in place), color=PALETTE["blue"], marker="o", markersize=size, linestyle=""))
    # beside the dot, a little above the line that leaves it
    figure.text(
        place[0] + 0.014,
        place[1] + 0.04 / figure.get_size_inches()[1],
        f"{count:,}",
        fontsize=8.5,
        ha="left",
        va="bottom",
        color=INK,
    )


@checked
@styled
def plot_points(
    panels: Mapping[str, Float[Tensor, "_ 2"]], limit: float | int, columns: int = 2, size: float = 2.0
) -> Picture:
    """Points in the plane, a titled square each from -limit to limit."""
    positive("size", size)
    if not panels or not 0 < limit < math.inf:
        raise ValueError(f"panels: expected at least one, and a limit above 0, got {len(panels)} and {limit}")
    columns = min(_check_columns(columns), len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Picture(figsize=(WIDTH, WIDTH / columns * rows + 0.25 * rows), layout="constrained")
    for place, (title, points) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, place + 1)
        x, y = check_finite(torch.as_tensor(points), title).detach().cpu().T
        axes.scatter(x, y, s=size, color=PALETTE["blue"], marker="o", linewidths=0, alpha=0.8)
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[], title=title)
        axes.spines[["top", "right"]].set_visible(True)
    return figure
