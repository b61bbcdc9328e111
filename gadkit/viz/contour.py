"""Outlines drawn into a photograph, pixel by pixel, so that it keeps its size.

Book: intro/run-it
"""

import torch.nn.functional as F
from jaxtyping import Bool, UInt8
from torch import Tensor

from gadkit.checks import check_images, checked, whole

THIN = 400  # pixels of the shorter side for each pixel of a line's width


@checked
def outlined(
    images: UInt8[Tensor, "b 3 h w"], masks: Bool[Tensor, "b h w"], width: int | None = None
) -> UInt8[Tensor, "b 3 h w"]:
    """Photographs with a line around the marked regions: a white one with a black one around it, so that one shows.

    The lines lie outside the regions, each `width` pixels wide (by default 1 for every 400 of the shorter side, at
    least 1), so what was marked can be seen.  Raises ValueError for anything but a batch of uint8 RGB images.
    """
    height, across = check_images(images).shape[2:]
    width = max(1, round(min(height, across) / THIN)) if width is None else whole("width", width)
    white = _grown(masks, width)
    black = _grown(white, width)
    drawn = images.clone()
    drawn.masked_fill_((black & ~white)[:, None], 0)
    return drawn.masked_fill_((white & ~masks)[:, None], 255)


def _grown(masks: Bool[Tensor, "b h w"], by: int) -> Bool[Tensor, "b h w"]:
    """The regions and all within `by` pixels of them, along rows, columns and diagonals."""
    return F.max_pool2d(masks[:, None].float(), 2 * by + 1, 1, by)[:, 0].bool()
