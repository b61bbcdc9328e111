"""The questions that public calls ask of their input."""

import math

import numpy as np
import pytest

from gadkit.checks import one_of, positive, share, whole


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
