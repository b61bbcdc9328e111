"""Trainings that differ in their seed: found by their headers, without the shipped one, and measured once."""

from pathlib import Path

import pytest

from experiments import training_seeds
from gadkit import methods, runtime, zoo
from gadkit.evaluation import protocol
from gadkit.evaluation.results import read


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Three trainings of a method that were begun and never went on, one of them with the shipped one's seed."""
    for seed in (0, 1, 2):
        runtime.seed_everything(seed)
        facts = {"photographs": 0, "seed": seed, "device": "cpu", "seconds": 0.0}
        path = tmp_path / f"mae-{seed}" / "mae.safetensors"
        path.parent.mkdir()
        methods.save(methods.build("mae"), "mae", path, facts)
    return tmp_path


def test_trainings_are_found_by_their_headers_without_the_shipped_one(two: Path) -> None:
    assert zoo.facts("mae")["seed"] == 0
    expected = {("mae", seed): two / f"mae-{seed}" / "mae.safetensors" for seed in (1, 2)}
    assert training_seeds.trainings(two) == expected
    (two / "again").mkdir()
    (two / "again" / "mae.safetensors").write_bytes(expected["mae", 2].read_bytes())
    with pytest.raises(ValueError, match="expected trainings of other seeds, got the same"):
        training_seeds.trainings(two)


def test_every_training_is_measured_once(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, whole = protocol.Sizes(products=(1, 1)), protocol.evaluate
    monkeypatch.setattr(training_seeds, "evaluate", lambda eyes, seeds, only: whole(eyes, seeds, only, small))
    monkeypatch.setattr(training_seeds, "SEEDS", (0, 1))
    command = [str(two), "--out", str(two / "seeds.json")]
    assert training_seeds.main(command) == 0
    rows = read(two / "seeds.json")
    assert {training_seeds.key(row) for row in rows} == {("mae", 1), ("mae", 2)}
    values = {row["training_seed"]: row["values"]["parts/knn"] for row in rows}
    assert len(values[1]) == 2
    assert values[1] != values[2], "other weights, other answers"
    assert training_seeds.main(command) == 0
    assert read(two / "seeds.json") == rows


def test_a_folder_without_trainings_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        training_seeds.main([str(tmp_path), "--out", str(tmp_path / "seeds.json")])
    assert "runs: expected trainings of other seeds in" in capsys.readouterr().err
