"""Boxes on photographs, each with the word that it answers to.

Book: objects/open-vocabulary
"""

import math
from collections.abc import Sequence

from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from gadkit.checks import checked
from gadkit.objects.protocols import Boxes
from gadkit.viz.pictures import show_images
from gadkit.viz.style import SERIES, Picture, styled


@checked
@styled
def show_boxes(
    images: UInt8[Tensor, "b 3 h w"],
    found: Sequence[Boxes],
    words: Sequence[str],
    titles: Sequence[str] | None = None,
    columns: int | None = None,
) -> Picture:
    """Images in rows, each with the boxes that were found in it.

    `words` are what the boxes' labels count.  The boxes of a word have one colour; with many words colours come again.
    Raises ValueError for another number of answers than of images, and for a label that has no word.
    """
    if len(found) != len(images):
        raise ValueError(f"found: expected an answer an image, {len(images)} in all, got {len(found)}")
    most = max((int(boxes.labels.max()) for boxes in found if len(boxes.labels)), default=-1)
    if most >= len(words):
        raise ValueError(f"words: expected one for every label up to {most}, got {len(words)}")
    figure = show_images(images, titles, columns)
    for axes, boxes in zip(figure.axes, found, strict=True):
        _draw(axes, boxes, words)
    return figure


def _draw(axes: Axes, found: Boxes, words: Sequence[str]) -> None:
    rows = zip(found.boxes.cpu().tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
    for (left, top, right, bottom), label, score in rows:
        colour = SERIES[label % len(SERIES)]
        place = (left - 0.5, top - 0.5)  # matplotlib counts from the middle of the first pixel
        axes.add_patch(Rectangle(place, right - left, bottom - top, fill=False, edgecolor="black", linewidth=2.6))
        axes.add_patch(Rectangle(place, right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.4))
        name = words[label] if math.isclose(score, 1.0) else f"{words[label]} {score:.2f}"
        axes.text(
            left,
            max(top, 1),
            name,
            fontsize=7,
            color="white",
            verticalalignment="bottom" if top > 10 else "top",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1},
            clip_on=True,
        )
