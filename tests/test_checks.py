"""The questions that public calls ask of their input."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.checks import checked, one_of, positive, share, whole


def test_what_fits_is_returned() -> None:
    assert one_of("pool", "cls", ("cls", "mean")) == "cls"
    assert whole("k", np.int64(3)) == 3
    assert share("keep", 1) == 1.0
    assert share("keep", 0, zero=True) == 0.0
    assert positive("temperature", 0.07) == 0.07


@pytest.mark.parametrize("value", ["max", None, 3, ["cls"]])
def test_an_unknown_name_is_answered_with_all_known_ones(value: object) -> None:
    with pytest.raises(ValueError, match="pool: expected one of cls, mean, got"):
        one_of("pool", value, ("cls", "mean"))


@pytest.mark.parametrize("value", [0, -1, 2.0, True, math.nan, "3", None, 9])
def test_only_whole_numbers_in_range_are_whole(value: object) -> None:
    with pytest.raises(ValueError, match="k: expected a whole number from 1 to 8"):
        whole("k", value, high=8)


@pytest.mark.parametrize("value", [0, -0.1, 1.0001, math.nan, math.inf, True, "1", None])
def test_only_shares_are_shares(value: object) -> None:
    with pytest.raises(ValueError, match=r"keep: expected a share in \(0, 1\]"):
        share("keep", value)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, False, "1", None])
def test_a_temperature_is_above_0(value: object) -> None:
    with pytest.raises(ValueError, match="temperature: expected a number above 0"):
        positive("temperature", value)


@checked
def example(
    x: Float[Tensor, "n d"],
    labels: Int[Tensor, "n"],
    k: int = 3,
    weight: float = 1.0,
    name: str | None = None,
    size: tuple[int, int] = (1, 2),
    numbers: Sequence[int] = (),
    table: Mapping[str, float] | None = None,
    run: Callable[[], None] | None = None,
    flag: bool = False,
) -> str:
    """An example."""
    return "done"


X, LABELS = torch.zeros(4, 3), torch.arange(4)


def test_what_annotations_admit_goes_through() -> None:
    assert example(X, LABELS) == "done"
    numpys = {"k": np.int64(2), "weight": np.float32(0.5), "flag": np.bool_(True)}
    assert example(X.half(), LABELS.int(), size=[3, 4], table={"a": 1}, run=print, name="n", **numpys) == "done"
    assert example.__name__ == "example"
    with pytest.raises(TypeError, match="colour"):
        example(X, LABELS, colour="red")


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"x": None}, r"x: expected Float\[Tensor, 'n d'\], got NoneType"),
        ({"x": X.int()}, "x: expected .*Float.* got Tensor of dtype int32"),
        ({"labels": LABELS[:3]}, r"labels: expected Int.* beside x \(4, 3\), got .* shape \(3,\)"),
        ({"labels": LABELS[:, None]}, r"labels: expected .* shape \(4, 1\)"),
        ({"k": 2.5}, "k: expected a whole number, got float 2.5"),
        ({"k": True}, "k: expected a whole number, got bool True"),
        ({"weight": math.nan}, "weight: expected a number, got float nan"),
        ({"weight": "1"}, "weight: expected a number, got str '1'"),
        ({"name": 3}, "name: expected a text or None, got int 3"),
        ({"size": (1,)}, r"size: expected tuple\[int, int\], got tuple \(1,\)"),
        ({"size": (1, 2.5)}, "size: expected"),
        ({"numbers": "123"}, r"numbers: expected Sequence\[int\], got str '123'"),
        ({"numbers": [1, None]}, "numbers: expected"),
        ({"table": {"a": "b"}}, "table: expected"),
        ({"table": [("a", 1)]}, "table: expected"),
        ({"run": 3}, "run: expected"),
        ({"flag": 1}, "flag: expected True or False, got int 1"),
    ],
)
def test_what_annotations_exclude_is_named(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        example(**({"x": X, "labels": LABELS} | wrong))
