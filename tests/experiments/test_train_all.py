"""Trainings side by side: the longest first, what is done is left alone, and what is cut off goes on."""

from pathlib import Path

import pytest
import torch

from experiments import train_all
from gadkit import methods, weights, zoo


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """A folder of trainings whose photographs are there already: 256 of noise."""
    noise = torch.randint(256, (256, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = {"images": noise, "labels": torch.zeros(256, dtype=torch.int64)}
    for seed in (0, 1):
        what = f'["images", "labels", {seed}, "{methods.__version__}"]'
        (tmp_path / "data").mkdir(exist_ok=True)
        weights.write(data, tmp_path / "data" / f"images-labels-{seed}.safetensors", {"what": what})
    return tmp_path


def test_everything_that_trains_is_a_job_and_the_longest_come_first(tmp_path: Path) -> None:
    names = [row.name for row in zoo.ROWS if row.trains]
    todo = train_all.jobs(names, [0, 1], tmp_path, 400_000)
    counted = [name for name in names if zoo.METHOD in zoo.row(name).gives]
    assert len(todo) == len(names) + len(counted), "only methods of Parts I and II are trained with both seeds"
    assert len({job.folder for job in todo}) == len(todo)
    others = len(names) - len(counted)
    assert {job.name for job in todo[:others]}.isdisjoint(counted)
    assert [job.name for job in todo[others : others + 4]] == ["dinov2", "dinov2", "dino", "dino"]
    assert all("400000" in job.more for job in todo[others:])


def test_trainings_run_side_by_side_and_are_not_run_again(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["mae", "--seeds", "0", "1", "--photographs", "256", "--out", str(few), "--jobs", "2"]
    assert train_all.main(command) == 0
    assert capsys.readouterr().err.count(": done") == 2
    assert [weights.facts(few / folder / "mae.safetensors")["seed"] for folder in ("mae", "mae-1")] == [0, 1]
    assert train_all.main(command) == 0
    assert capsys.readouterr().err == ""


def test_what_fails_or_is_cut_off_is_named(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_all.main(["mae", "--photographs", "256", "--out", str(few), "--minutes", "0"]) == 1
    assert capsys.readouterr().err == "mae: not done; the same command goes on\n"
    assert train_all.main(["mae", "--photographs", "0", "--out", str(few)]) == 1
    assert "mae: failed, see" in capsys.readouterr().err
    assert "photographs: expected" in (few / "mae" / "log.txt").read_text()


@pytest.mark.parametrize("wrong", [["sorcery"], ["mae", "--jobs", "0"]])
def test_mistakes_are_named(wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train_all.main([*wrong, "--out", str(tmp_path)])
    assert "expected" in capsys.readouterr().err
