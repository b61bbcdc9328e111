"""The contestants of InCTRL's benchmark give the same answer, or their times would say nothing."""

import itertools
from collections.abc import Callable

import pytest

from benchmarks.inctrl import rows


def test_plain_and_fast_agree(tiny_clip: Callable) -> None:
    ticks = itertools.count()
    make = lambda: tiny_clip(0, image_size=40, width=32, layers=3)  # noqa: E731
    found = {what: value for what, value, _ in rows(make, 1, lambda: float(next(ticks)))}
    assert found["4-shot, gadkit float32 against plain"] == pytest.approx(1.0)  # by a clock that ticks once a call
    assert found["4-shot, gadkit float32: largest change of a score"] < 1e-5
    assert found["4-shot, plain"] == 1.0
    assert {"4-shot, plain: most memory at once", "4-shot, gadkit float32: most memory at once"} <= set(found)
