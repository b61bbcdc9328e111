"""Pictures of a representation: rows of views, matrices of similarity, fields of numbers over an image.

Book: selfsup/representations
"""

import math
from collections.abc import Mapping, Sequence

import matplotlib
import torch
from jaxtyping import Float, UInt8
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from torch import Tensor

from gadkit.checks import check_finite, checked
from gadkit.viz.pictures import GAP, TITLE, _cell, _check_columns, _check_titles, _panel, _pixels
from gadkit.viz.style import INK, WIDTH, Picture, styled

COLOURS = matplotlib.colormaps["cividis"]  # even in lightness, and the same to the colour-blind


@checked
@styled
def show_rows(rows: Mapping[str, UInt8[Tensor, "_ 3 _ _"]], titles: Sequence[str] | None = None) -> Picture:
    """Images in named rows of equal length, such as photographs above their views, or above what came of them."""
    pixels = {name: _pixels(images) for name, images in rows.items()}
    counts = sorted({len(row) for row in pixels.values()})
    if len(counts) != 1:
        raise ValueError(f"rows: expected rows of equal length, at least one, got lengths {counts}")
    _check_titles(titles, counts[0])
    width = (WIDTH - TITLE - GAP * (counts[0] - 1)) / counts[0]
    head, tops = TITLE if titles else 0.0, []
    bottom = head
    for row in pixels.values():  # rows may differ in their images' shape
        tops.append(bottom)
        bottom += width * row.shape[1] / row.shape[2] + GAP
    tall = bottom - GAP
    figure = Picture(figsize=(WIDTH, tall), layout="none")
    for top, (name, row) in zip(tops, pixels.items(), strict=True):
        height = width * row.shape[1] / row.shape[2]
        for column, image in enumerate(row):
            title = titles[column] if titles and top == head else None
            axes = _panel(figure, TITLE + column * (width + GAP), top, width, height, title)
            axes.imshow(image)
        figure.text(0, 1 - (top + height / 2) / tall, name, rotation=90, ha="left", va="center")
    return figure


@checked
@styled
def show_fields(
    fields: Float[Tensor, "b h w"],
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    limits: tuple[float, float] | None = None,
    label: str | None = None,
) -> Picture:
    """Numbers over a plane in colour, all on one scale: attention, depth, a similarity matrix, a difference.

    `limits` are the numbers at the two ends of the colours (their least and greatest if not given); with a `label` the
    scale is drawn below and named.
    """
    values = check_finite(fields, "fields").detach().float().cpu()
    if not values.numel():
        raise ValueError(f"fields: expected at least one, of some pixels, got shape {tuple(fields.shape)}")
    low, high = limits or (values.min().item(), values.max().item())
    if not low < high:
        raise ValueError(f"limits: expected low < high, got {low:.4g} and {high:.4g}; give limits for constant fields")
    columns = _check_columns(min(len(values), 4) if columns is None else columns)
    _check_titles(titles, len(values))
    width, height = _cell(columns, values[0, ..., None].numpy())
    head, key = TITLE if titles else 0.0, 0.6 if label else 0.0
    step = head + height + GAP
    tall = math.ceil(len(values) / columns) * step - GAP
    figure = Picture(figsize=(WIDTH, tall + key), layout="none")
    for index, field in enumerate(values):
        row, column = divmod(index, columns)
        title = titles[index] if titles else None
        axes = _panel(figure, column * (width + GAP), row * step + head, width, height, title)
        axes.imshow(field.numpy(), cmap=COLOURS, vmin=low, vmax=high, interpolation="nearest")
    if label:
        axes = _panel(figure, 0.3, tall + 0.08, WIDTH - 0.6, 0.08)  # room for the outer numbers
        axes.set_axis_on()
        bar = figure.colorbar(ScalarMappable(Normalize(low, high), COLOURS), cax=axes, orientation="horizontal")
        bar.set_label(label, color=INK)
        bar.outline.set_visible(False)
    return figure


@checked
def as_images(x: Float[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b 3 h w"]:
    """Numbers from 0 to 1 as the bytes that the other functions draw; what lies outside is clipped."""
    return (check_finite(x, "x").detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)


@checked
def colour_fields(
    fields: Float[Tensor, "b h w"], limits: tuple[float, float] | None = None
) -> UInt8[Tensor, "b 3 h w"]:
    """Numbers over a plane as small images in the colours of `show_fields`, to stand in rows beside photographs.

    `limits` are the numbers at the two ends of the colours; if not given, every field has its own least and greatest.
    """
    values = check_finite(fields, "fields").detach().float().cpu()
    if not values.numel():
        raise ValueError(f"fields: expected at least one, of some pixels, got shape {tuple(fields.shape)}")
    if limits is None:
        low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
    elif limits[0] < limits[1]:
        low, high = torch.tensor(limits)[:, None, None, None]
    else:
        raise ValueError(f"limits: expected low < high, got {limits[0]:.4g} and {limits[1]:.4g}")
    level = ((values - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    colours = torch.from_numpy(COLOURS(level.numpy(), bytes=True))[..., :3]  # (b, h, w, 3)
    return colours.movedim(3, 1).contiguous()
