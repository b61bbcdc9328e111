"""Readers write the same captions at once and one by one, and the ratio is that of their times."""

import itertools

import pytest
import torch
from jaxtyping import UInt8
from torch import Tensor

from benchmarks import reading


class Counting:
    """A reader whose caption tells the darkest channel, and that counts how it is called."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.asked: list[int] = []

    def caption(self, images: UInt8[Tensor, "b 3 h w"]) -> list[str]:
        self.asked.append(len(images))
        return [str(int(image.float().mean((1, 2)).argmin())) for image in images]

    def answer(self, images: UInt8[Tensor, "b 3 h w"], questions: list[str]) -> list[str]:
        return [""] * len(images)


def test_captions_at_once_and_one_by_one() -> None:
    reader, ticks = Counting(), itertools.count()
    found = {what: value for what, value, _ in reading.rows({"it": lambda: reader}, 3, 1, lambda: float(next(ticks)))}
    assert found["it, at once"] == found["it, one by one"] == 3.0  # by a clock that ticks once a call
    assert found["it, at once / one by one"] == pytest.approx(1.0)
    assert found["it, same captions"] == 1.0
    assert sorted(reader.asked) == [1] * 9 + [3] * 3  # a round to warm up, one that is timed, one that is compared
