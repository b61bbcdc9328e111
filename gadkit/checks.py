"""One place for the questions that every public call asks of its input.

Book: anomaly/measuring
"""

from typing import Any

import torch
from torch import Tensor


def describe(value: Any) -> str:
    """A short description of what came, for error messages: type, dtype and shape."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{type(value).__name__} of dtype {str(value.dtype).removeprefix('torch.')}, shape {tuple(value.shape)}"
    return f"{type(value).__name__} {value!r}" if isinstance(value, str | int | float | bool) else type(value).__name__


def check_images(images: Any, what: str = "images") -> Tensor:
    """Return `images` if it is a batch of RGB images: uint8, (b, 3, h, w), b > 0, at least 2 pixels a side.

    Raises ValueError naming what was expected and what came.
    """
    if not isinstance(images, Tensor):
        raise ValueError(f"{what}: expected a uint8 tensor of shape (b, 3, h, w), got {describe(images)}")
    if images.dtype != torch.uint8:
        hint = (
            "; floats in [0, 1] become uint8 with (255 * x).round().to(torch.uint8)"
            if images.is_floating_point()
            else ""
        )
        raise ValueError(f"{what}: expected dtype uint8 with values 0 to 255, got {describe(images)}{hint}")
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"{what}: expected shape (b, 3, h, w), channels first, got {tuple(images.shape)}")
    if len(images) == 0:
        raise ValueError(f"{what}: expected at least one image, got an empty batch of shape {tuple(images.shape)}")
    if min(images.shape[2:]) < 2:
        raise ValueError(f"{what}: expected at least 2 x 2 pixels, got {images.shape[2]} x {images.shape[3]}")
    return images


def check_finite(values: Tensor, what: str) -> Tensor:
    """Return `values` if none is NaN or infinite.  Raises ValueError with the number of bad entries."""
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise ValueError(f"{what}: expected finite numbers, got {bad} NaN or infinite of {values.numel()}")
    return values
