"""One place for the questions that every public call asks of its input.

Book: anomaly/measuring
"""

import math
from collections.abc import Iterable
from numbers import Integral, Real
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


def one_of(what: str, value: Any, known: Iterable[str]) -> str:
    """Return `value` if it is known.  Raises ValueError naming all that are, and what came."""
    known = tuple(known)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{what}: expected one of {', '.join(known)}, got {value!r}")
    return value


def whole(what: str, value: Any, low: int = 1, high: int | None = None) -> int:
    """Return `value` if it is a whole number from `low` to `high`.  Raises ValueError naming both and what came."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low or (high is not None and value > high):
        upto = "" if high is None else f" to {high}"
        raise ValueError(f"{what}: expected a whole number from {low}{upto}, got {describe(value)}")
    return int(value)


def positive(what: str, value: Any) -> float:
    """Return `value` if it is a finite number above 0.  Raises ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < math.inf:
        raise ValueError(f"{what}: expected a number above 0, got {describe(value)}")
    return float(value)


def share(what: str, value: Any, zero: bool = False) -> float:
    """Return `value` if it is a share: in (0, 1], or in [0, 1] where `zero` may be.  Raises ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, Real) or not (value >= 0 if zero else value > 0) or value > 1:
        raise ValueError(f"{what}: expected a share in {'[' if zero else '('}0, 1], got {describe(value)}")
    return float(value)
