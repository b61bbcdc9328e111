"""Pictures of images: sheets, detections, windows.

Book: intro/run-it
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from torch import Tensor

from gadkit.checks import check_finite, check_images, checked, describe, whole
from gadkit.viz.scale import Scale
from gadkit.viz.style import ANOMALY, INK, SERIES, WIDTH, Picture, styled

# inches: a line of text, between images, between blocks, the colours' key
TITLE, GAP, BLOCK, KEY = 0.24, 0.05, 0.16, 0.42
WINDOW_COLUMNS = 3
OUTLINE = (("black", 2.6), ("white", 1.1))  # one of the two shows on any photograph


def _check_maps(images: Tensor, maps: Tensor, what: str) -> Tensor:
    expected = (len(images), *images.shape[2:])
    if tuple(maps.shape) != expected:
        raise ValueError(f"{what}: expected shape {expected}, one map an image and as large, got {describe(maps)}")
    return maps.detach().cpu()


def _pixels(images: Tensor) -> np.ndarray:
    return check_images(images).detach().cpu().permute(0, 2, 3, 1).numpy()  # (b, h, w, 3)


@checked
def overlay(images: UInt8[Tensor, "b 3 h w"], maps: Float[Tensor, "b h w"], scale: Scale) -> UInt8[Tensor, "b 3 h w"]:
    """Paint anomaly maps over their photographs.

    The photograph turns to a dimmed grey, so that its own colours can't be taken for heat; what is normal stays clear,
    and colour and opacity rise together from `scale.low` to `scale.high`.
    """
    check_images(images)
    level = scale.relative(check_finite(_check_maps(images, maps, "maps"), "maps").float()).clamp(0, 1)
    colours = torch.from_numpy(ANOMALY(level.numpy())).float().permute(0, 3, 1, 2)  # (b, 4, h, w)
    heat, opacity = colours.split((3, 1), dim=1)
    luma = torch.tensor([0.2126, 0.7152, 0.0722])
    grey = (images.cpu().float() / 255 * luma[:, None, None]).sum(1, keepdim=True) * 0.7  # (b, 1, h, w)
    return ((grey * (1 - opacity) + heat * opacity) * 255).round().to(torch.uint8)


def _panel(figure: Picture, left: float, top: float, width: float, height: float, title: str | None = None) -> Axes:
    """Axes for pixels only, placed in inches from the figure's upper left corner: images keep their gaps and sizes."""
    wide, tall = figure.get_size_inches()
    axes = figure.add_axes((left / wide, 1 - (top + height) / tall, width / wide, height / tall))
    axes.set_axis_off()
    if title is not None:
        axes.set_title(title, pad=3)
    return axes


def _cell(columns: int, pixels: np.ndarray) -> tuple[float, float]:
    """Width and height of an image of which `columns` stand side by side, in inches."""
    width = (WIDTH - GAP * (columns - 1)) / columns
    return width, width * pixels.shape[-3] / pixels.shape[-2]


@checked
@styled
def show_images(
    images: UInt8[Tensor, "b 3 h w"],
    titles: Sequence[str] | None = None,
    columns: int | None = None,
    masks: Bool[Tensor, "b h w"] | None = None,
) -> Picture:
    """Images in rows of `columns` (by default at most 4), each under its title and with the outline of its mask."""
    pixels = _pixels(images)
    outlines = None if masks is None else _check_maps(images, masks, "masks").bool().numpy()
    columns = _check_columns(min(len(pixels), 4) if columns is None else columns)
    _check_titles(titles, len(pixels))
    width, height = _cell(columns, pixels)
    head = TITLE if titles else 0
    step = head + height + GAP
    figure = Picture(figsize=(WIDTH, math.ceil(len(pixels) / columns) * step - GAP), layout="none")
    for index, image in enumerate(pixels):
        row, column = divmod(index, columns)
        title = titles[index] if titles else None
        axes = _panel(figure, column * (width + GAP), row * step + head, width, height, title)
        axes.imshow(image)
        if outlines is not None:
            _outline(axes, outlines[index])
    return figure


def _check_columns(columns: int) -> int:
    return whole("columns", columns)


def _check_titles(titles: Sequence[str] | None, count: int) -> None:
    if titles is not None and len(titles) != count:
        raise ValueError(f"titles: expected one an image, {count} in all, got {len(titles)}")


@checked
@styled
def contact_sheet(images: UInt8[Tensor, "b 3 h w"], columns: int = 10, gap: int = 4) -> Picture:
    """Many images as one sheet, `columns` wide, `gap` pixels apart; the places left over stay transparent."""
    pixels = _pixels(images)
    whole("gap", gap, 0)
    count, height, width, _ = pixels.shape
    columns = min(_check_columns(columns), count)
    rows = math.ceil(count / columns)
    sheet = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), np.uint8)
    for index, image in enumerate(pixels):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = np.dstack([image, np.full((height, width), 255, np.uint8)])
    figure = Picture(figsize=(WIDTH, WIDTH * sheet.shape[0] / sheet.shape[1]), layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(sheet, interpolation="antialiased", aspect="auto")
    return figure


@checked
@styled
def show_detections(
    images: UInt8[Tensor, "b 3 h w"],
    maps: Float[Tensor, "b h w"],
    masks: Bool[Tensor, "b h w"] | None = None,
    *,
    scale: Scale,
    titles: Sequence[str] | None = None,
    columns: int = 4,
) -> Picture:
    """Photographs; below each, if `masks` are given, the true outline of its defect; below that, its anomaly map.

    `scale` comes from `anomaly_scale` of normal images' maps.  More than `columns` images continue in a further block.
    """
    pixels, heat = _pixels(images), _pixels(overlay(images, maps, scale))
    _check_titles(titles, len(pixels))
    outlines = None if masks is None else _check_maps(images, masks, "masks").bool().numpy()
    columns = min(_check_columns(columns), len(pixels))
    width, height = _cell(columns, pixels)
    head = TITLE if titles else 0
    layers = 2 if outlines is None else 3
    block = head + layers * (height + GAP) - GAP + BLOCK
    tall = math.ceil(len(pixels) / columns) * block - BLOCK
    figure = Picture(figsize=(WIDTH, tall + KEY), layout="none")
    for index, image in enumerate(pixels):
        row, column = divmod(index, columns)
        left, top = column * (width + GAP), row * block + head
        place = [(left, top + layer * (height + GAP), width, height) for layer in range(layers)]
        _panel(figure, *place[0], titles[index] if titles else None).imshow(image)
        if outlines is not None:
            axes = _panel(figure, *place[1])
            axes.imshow(image)
            _outline(axes, outlines[index])
        _panel(figure, *place[-1]).imshow(heat[index])
    _key(figure, scale, tall + 0.1)
    return figure


@checked
@styled
def show_comparison(
    images: UInt8[Tensor, "b 3 h w"],
    maps: Mapping[str, Float[Tensor, "b h w"]],
    masks: Bool[Tensor, "b h w"] | None = None,
    *,
    scale: Scale,
    titles: Sequence[str] | None = None,
) -> Picture:
    """Detectors side by side: one column an image, with the true outline of its defect, one named row a detector.

    All maps share one scale; maps that differ in their units go through `Scale.relative` first.
    """
    if not maps:
        raise ValueError("maps: expected at least one detector's, got none")
    pixels, layers = _pixels(images), [_pixels(overlay(images, heat, scale)) for heat in maps.values()]
    _check_titles(titles, len(pixels))
    width = (WIDTH - TITLE - GAP * (len(pixels) - 1)) / len(pixels)
    height, head = width * pixels.shape[1] / pixels.shape[2], TITLE if titles else 0
    tall = head + (1 + len(layers)) * (height + GAP)
    figure = Picture(figsize=(WIDTH, tall + KEY), layout="none")
    outlines = None if masks is None else _check_maps(images, masks, "masks").bool().numpy()
    for row, (name, layer) in enumerate(zip(["", *maps], [pixels, *layers], strict=True)):
        top = head + row * (height + GAP)
        for column, image in enumerate(layer):
            title = titles[column] if titles and not row else None
            axes = _panel(figure, TITLE + column * (width + GAP), top, width, height, title)
            axes.imshow(image)
            if outlines is not None and not row:
                _outline(axes, outlines[column])
        figure.text(0, 1 - (top + height / 2) / (tall + KEY), name, rotation=90, ha="left", va="center")
    _key(figure, scale, tall + 0.1)
    return figure


def _outline(axes: Axes, mask: np.ndarray) -> None:
    if mask.any():
        padded = np.pad(mask.astype(np.float32), 1)  # a defect at the border gets a closed line too
        rows, columns = np.arange(-1, mask.shape[0] + 1), np.arange(-1, mask.shape[1] + 1)
        for colour, width in OUTLINE:
            axes.contour(columns, rows, padded, levels=[0.5], colors=colour, linewidths=width)
        axes.set(xlim=(-0.5, mask.shape[1] - 0.5), ylim=(mask.shape[0] - 0.5, -0.5))


def _key(figure: Picture, scale: Scale, top: float) -> None:
    mappable = ScalarMappable(Normalize(0, 1), ANOMALY)
    axes = _panel(figure, 0.1, top, WIDTH - 0.2, 0.09)
    axes.set_axis_on()
    bar = figure.colorbar(mappable, cax=axes, orientation="horizontal")
    end = "twice as far" if scale.middle is None else "far beyond"
    bar.set_ticks([0, 0.5, 1], labels=["as normal parts", "their extreme", end])
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, labelcolor=INK)
    first, *_, last = bar.ax.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")


@checked
@styled
def show_windows(
    image: UInt8[Tensor, "3 h w"],
    grid: tuple[int, int],
    windows: Sequence[tuple[int, int, int, int]],
    titles: Sequence[str] | None = None,
) -> Picture:
    """An image under its grid of patches with some windows marked, and beside it what each window sees.

    `grid` counts patches (rows, columns); a window is (row, column, height, width), in patches.
    """
    pixels = _pixels(image[None])[0]
    _check_windows(grid, windows)
    _check_titles(titles, len(windows))
    dy, dx = pixels.shape[0] / grid[0], pixels.shape[1] / grid[1]  # pixels a patch
    side = 0.44 * WIDTH
    small = (WIDTH - side - WINDOW_COLUMNS * 0.1) / WINDOW_COLUMNS
    step = small * max(tall * dy / (wide * dx) for _, _, tall, wide in windows) + (TITLE if titles else 0.1)
    whole_height = side * pixels.shape[0] / pixels.shape[1]
    height = max(whole_height, math.ceil(len(windows) / WINDOW_COLUMNS) * step)
    figure = Picture(figsize=(WIDTH, height), layout="none")
    whole = _panel(figure, 0.0, 0.0, side, whole_height)
    whole.imshow(pixels, extent=(0, pixels.shape[1], pixels.shape[0], 0))
    whole.vlines([dx * i for i in range(1, grid[1])], 0, pixels.shape[0], color="white", alpha=0.45, linewidth=0.5)
    whole.hlines([dy * i for i in range(1, grid[0])], 0, pixels.shape[1], color="white", alpha=0.45, linewidth=0.5)
    for index, (row, column, tall, wide) in enumerate(windows):
        colour, box = SERIES[index % len(SERIES)], (column * dx, row * dy)
        for edge, line in (("white", 3.4), (colour, 2)):
            whole.add_patch(Rectangle(box, wide * dx, tall * dy, fill=False, edgecolor=edge, linewidth=line))
        y, x = slice(round(row * dy), round((row + tall) * dy)), slice(round(column * dx), round((column + wide) * dx))
        below, beside = divmod(index, WINDOW_COLUMNS)
        left, top = side + 0.1 + beside * (small + 0.1), below * step + (TITLE if titles else 0.0)
        title = titles[index] if titles else None
        axes = _panel(figure, left, top, small, small * tall * dy / (wide * dx), title)
        axes.imshow(pixels[y, x], interpolation="nearest", aspect="auto")
        axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, edgecolor=colour, linewidth=4))
    return figure


def _check_windows(grid: tuple[int, int], windows: Sequence[tuple[int, int, int, int]]) -> None:
    whole("rows", grid[0]), whole("columns", grid[1])
    if not windows:
        raise ValueError("windows: expected at least one window, got none")
    for row, column, tall, wide in windows:
        if min(row, column) < 0 or min(tall, wide) < 1 or row + tall > grid[0] or column + wide > grid[1]:
            raise ValueError(f"windows: expected them inside a grid of {grid}, got {(row, column, tall, wide)}")
