"""Scenes that trainings share: the same with and without files, and none is made again."""

from pathlib import Path

import pytest
import torch

from gadkit.factory import scenes
from gadkit.objects.training import shared


def test_pieces_are_kept_and_read_by_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "PIECE", 2)
    made = shared.rendered(5, 1, tmp_path / "one", size=48)
    kept = sorted(path.name for path in (tmp_path / "scenes").iterdir())
    assert kept == [f"seen-48-1-{n}-{count}.safetensors" for n, count in enumerate((2, 2, 1))]
    for number in range(3):  # in the order of their numbers, wherever a run began
        alone = scenes.render(min(2, 5 - 2 * number), 64 + number, 48, "seen", shared.PARTS)
        assert torch.equal(made.images[2 * number : 2 * number + 2], alone.images)
    monkeypatch.setattr(scenes, "render", None)  # nothing is left to render
    again = shared.rendered(5, 1, tmp_path / "another", size=48)
    assert torch.equal(again.images, made.images)
    assert torch.equal(again.instances, made.instances)
    assert again.things == made.things
    assert again.classes == scenes.object_categories("seen")


def test_fewer_than_one_scene_is_refused() -> None:
    with pytest.raises(ValueError, match="count: expected"):
        shared.rendered(0)
