"""One place for the questions that every public call asks of its input.

Book: anomaly/measuring
"""

import inspect
import math
import types
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import torch
from jaxtyping import AbstractArray, jaxtyped
from torch import Tensor

Checkable = TypeVar("Checkable", bound=Callable)


def describe(value: Any) -> str:
    """A short description of what came, for error messages: type, dtype and shape."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{type(value).__name__} of dtype {str(value.dtype).removeprefix('torch.')}, shape {tuple(value.shape)}"
    short = isinstance(value, str | int | float | bool | tuple | list) and len(repr(value)) < 100
    return f"{type(value).__name__} {value!r}" if short else type(value).__name__


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


def check_texts(texts: Any, what: str = "texts", empty: bool = False) -> list[str]:
    """Return `texts` as a list if they are a list of at least one text, none of them empty unless `empty`.

    Raises ValueError otherwise.
    """
    if not isinstance(texts, list | tuple) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{what}: expected a list of at least one text, got {describe(texts)}")
    blank = [place for place, text in enumerate(texts) if not text.strip()]
    if blank and not empty:
        raise ValueError(f"{what}: expected some words in each, got an empty text at place {blank[0]}")
    return [*texts]


class TextCut(UserWarning):
    """A text beyond its encoder's context: its end is not read."""


def warn_cut(rests: Sequence[str], most: int) -> None:
    """One warning that names what is left of texts beyond a context of `most` tokens, as their encoder says it."""
    if rests:
        others = f", nor are the ends of {len(rests) - 1} others" if len(rests) > 1 else ""
        message = f"texts: cut to {most} tokens: {rests[0].strip()!r} is not read{others}"
        warnings.warn(message, TextCut, stacklevel=4)  # over its encoder, and the decorator of that


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


def checked(function: Checkable) -> Checkable:
    """Decorate a function, or a class for its `__init__`: arguments that its annotations exclude are a ValueError.

    The error names the argument, what was expected and what came.  Axes of one name have one length in all arguments.
    Numbers are never NaN, whole numbers no booleans; lists stand for tuples, and NumPy's numbers for Python's.
    """
    if isinstance(function, type):
        function.__init__ = checked(function.__init__)
        return function
    signature = inspect.signature(function)
    hints = {name: argument.annotation for name, argument in signature.parameters.items()}

    @wraps(function)
    def answer(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs).arguments  # TypeError for too many arguments, as Python has it
        with jaxtyped("context"):  # which remembers the length of every axis
            for name, value in bound.items():
                if not _fits(value, hints[name], signature.parameters[name].kind):
                    shapes = (f"{k} {tuple(v.shape)}" for k, v in bound.items() if k != name and isinstance(v, Tensor))
                    beside = ", ".join(shapes) if isinstance(value, Tensor) else ""
                    expected = f"expected {_words(hints[name])}" + f" beside {beside}" * bool(beside)
                    if getattr(hints[name], "dim_str", "").endswith(" 3 h w"):
                        check_images(value, name)  # which says more
                    raise ValueError(f"{name}: {expected}, got {describe(value)}")
        return function(*args, **kwargs)

    return answer


def _words(hint: Any) -> str:
    """An annotation in words."""
    plain = {int: "a whole number", float: "a number", str: "a text", bool: "True or False", type(None): "None"}
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_words, get_args(hint))))
    return plain.get(hint) or (
        hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("collections.abc.", "")
    )


def _fits(value: Any, hint: Any, kind: Any = None) -> bool:
    """Whether an annotation admits a value; one that is not understood admits all."""
    if kind is inspect.Parameter.VAR_POSITIONAL:
        return all(_fits(one, hint) for one in value)
    if kind is inspect.Parameter.VAR_KEYWORD:
        return all(_fits(one, hint) for one in value.values())
    hint = hint.__bound__ or Any if isinstance(hint, TypeVar) else hint
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if hint is inspect.Parameter.empty or hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if origin is None and isinstance(hint, type):
        return _is_one(value, hint)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return _is_sequence(value, origin, inner)
    return isinstance(value, origin) if isinstance(origin, type) else True


def _is_sequence(value: Any, origin: type, inner: tuple[Any, ...]) -> bool:
    if isinstance(value, str | bytes | Mapping) or not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
        return False
    if not isinstance(value, Sequence):
        return True  # an array or a table, whose elements are not asked for one by one
    if origin is tuple and inner[-1:] != (...,):
        return len(value) == len(inner) and all(map(_fits, value, inner))
    return all(_fits(one, inner[0]) for one in value)


def _is_one(value: Any, hint: type) -> bool:
    if issubclass(hint, AbstractArray):
        return isinstance(value, hint)
    if hint is bool:
        return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")  # NumPy's too, unseen
    if hint is int or hint is float:
        kind = Integral if hint is int else Real
        return isinstance(value, kind) and not isinstance(value, bool) and bool(value == value)
    try:
        return isinstance(value, hint)
    except TypeError:
        return True  # a protocol that can't be asked
