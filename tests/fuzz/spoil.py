"""Input spoilt in every way that a user's script spoils it: types, shapes, sizes, numbers and names that do not fit."""

import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

ANYTHING = (None, "", "nonsense", b"bytes", 0, -1, 2.5, True, math.nan, math.inf, (), [], {}, object(), 1j)
NUMBERS = (0, -1, -7, 1, 2, 2.5, 1e-3, -0.5, 1.5, math.nan, math.inf, -math.inf, True, "3", None, [3])


HUGE = 10**12  # only where a call bounds it: a thousand billion photographs are no wrong order, only a long one
BOUNDED = {"k", "keep", "target", "neighbours", "ratio", "seed", "chunk", "clusters", "quarters", "classes", "line"}


def spoilt(name: str, value: Any, dice: random.Random) -> Any:
    """Something that may stand where the argument `name` was `value`, and mostly should not."""
    options = [*_variants(value), *dice.sample(ANYTHING, 3), *[HUGE] * (name in BOUNDED)]
    return dice.choice(options)


def _variants(value: Any) -> Iterator[Any]:
    if isinstance(value, Tensor):
        yield from _tensors(value)
    elif isinstance(value, np.ndarray):
        yield from (one.numpy() if isinstance(one, Tensor) else one for one in _tensors(torch.from_numpy(value)))
    elif isinstance(value, bool | int | float):
        yield from NUMBERS
    elif isinstance(value, str):
        yield from (value.upper() + "?", value[:1], [value], (value, value), value.encode(), value * 40, "cuda:99", 3)
    elif isinstance(value, Mapping):
        yield from ({}, dict.fromkeys(value), dict(enumerate(value.values())), [*value.items()], [*value.values()])
        yield from ({**value, key: spoilt("", value[key], random.Random(str(key)))} for key in value)
    elif isinstance(value, list | tuple):
        kind = type(value) if type(value) in (list, tuple) else tuple
        yield from (kind(), kind(value[:-1]), kind([*value, *value[:1]]), kind(value[::-1]), kind([None] * len(value)))
        for place in range(len(value)):
            bad = spoilt("", value[place], random.Random(place))
            yield kind([*value[:place], bad, *value[place + 1 :]])


def _tensors(x: Tensor) -> Iterator[Any]:
    yield from (x[None], x[..., None], x.flatten(), x[:0], x[:-1], x[:1], x.unsqueeze(0).transpose(0, -1))
    yield from (torch.cat([x, x]), x.double(), x.float(), x.long(), x.bool(), x.to(torch.uint8), x.to(torch.complex64))
    yield from (x.tolist(), x.numpy(), torch.zeros_like(x), x.transpose(0, -1).contiguous().transpose(0, -1))
    if x.ndim:
        yield from (x[..., :0], x[..., :1], torch.cat([x, x], -1), x.sum(), x.amax(-1))
    if x.is_floating_point():
        yield from (x.half(), x * math.nan, x * 1e30, -x, x.index_fill(0, torch.tensor([0]), math.nan), x - math.inf)
    elif not x.dtype.is_complex:
        yield from (-x.long(), x.long() + 1000, x.int())
