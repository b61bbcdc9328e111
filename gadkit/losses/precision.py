"""Objectives are computed in single precision, whatever the network around them runs in.

Half precision has eight bits for a cosine, and a temperature of 0.07 makes its error fourteen times as large.

Book: selfsup/simclr
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

R = TypeVar("R")


def _single(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64:
        return value.float()
    if isinstance(value, list | tuple):
        return type(value)(_single(v) for v in value)
    return value


def precisely(function: Callable[..., R]) -> Callable[..., R]:
    """Decorate an objective: its tensors become float32 (float64 stays), and autocast is off inside."""

    @wraps(function)
    def inside(*args: Any, **kwargs: Any) -> R:
        given = [_single(a) for a in args], {name: _single(a) for name, a in kwargs.items()}
        tensors = (t for a in (*args, *kwargs.values()) for t in (a if isinstance(a, list | tuple) else [a]))
        kind = next((t.device.type for t in tensors if isinstance(t, Tensor)), "cpu")
        with torch.autocast(kind, enabled=False):
            return function(*given[0], **given[1])

    return inside
