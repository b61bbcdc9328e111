"""What BLIP and BLIP-2 share: rows of one length, every pair, padding, and the class that a checkpoint names."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from gadkit.multimodal import reading_tasks
from gadkit.multimodal.blip import TASKS


@given(some.lists(some.lists(some.integers(0, 9), min_size=1, max_size=4), max_size=12))
def test_rows_of_one_length_come_together_and_none_is_lost(rows: list[list[int]]) -> None:
    found = {}
    for places, ids in reading_tasks.by_length(rows):
        found |= dict(zip(places, ids.tolist(), strict=True))
    assert found == dict(enumerate(rows))


def test_many_rows_come_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_tasks, "PAIRS", 2)
    assert [places for places, _ in reading_tasks.by_length([[1], [2, 2], [3], [4]])] == [[0, 2], [3], [1]]
    pairs = [torch.stack(pair, 1).tolist() for pair in reading_tasks.every_pair(2, 3)]
    assert pairs == [[[0, 0], [0, 1]], [[0, 2], [1, 0]], [[1, 1], [1, 2]]]


def test_rows_are_padded_to_the_longest() -> None:
    ids, there = reading_tasks.padded([[5], [6, 7]], 9)
    assert ids.tolist() == [[5, 9], [6, 7]]
    assert there.tolist() == [[True, False], [True, True]]
    ids, there = reading_tasks.padded([[9, 9]], 9)  # an id that is the padding's is no padding
    assert there.all()


def test_the_task_is_that_of_the_class(tmp_path: Path) -> None:
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    weights.touch()
    with pytest.raises(FileNotFoundError):
        reading_tasks.task_of(weights, TASKS)
    config.write_text(json.dumps({"architectures": ["BlipForQuestionAnswering"]}))
    assert reading_tasks.task_of(weights, TASKS) == "answering"
    config.write_text(json.dumps({"architectures": None}))
    with pytest.raises(ValueError, match=r"expected one of BlipForConditionalGeneration, .*, got none"):
        reading_tasks.task_of(weights, TASKS)
