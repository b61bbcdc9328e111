"""The comparison of DINO's trainings reads their logs, and ships the one that does best on development categories."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from experiments import dino_runs
from gadkit import factory, weights, zoo

LOG = "gadkit: step 200 of 3125, loss 2.8727\ngadkit: step 3125 of 3125, loss 4.1702\n/runs/dino/dino.safetensors\n"


def test_the_course_is_what_the_log_says() -> None:
    assert dino_runs.course(LOG) == ([200, 3125], [2.8727, 4.1702])
    with pytest.raises(ValueError, match="expected lines like"):
        dino_runs.course("nothing was trained")


def test_a_head_that_looks_at_the_part_overlaps_with_it() -> None:
    truth = torch.zeros(2, 6, 6, dtype=torch.bool)
    truth[:, 2:4, 2:5] = True
    on, off = truth.float() + 1e-6, (~truth).float() + 1e-6
    found = dino_runs.overlap(torch.stack([on, off], 1), truth.flatten(1))
    assert found[1] == 0
    assert found[0] == pytest.approx(4 / 6), "four of six patches hold 60 % of an even attention"


def test_the_choice_is_made_on_categories_of_development_and_products_of_its_own() -> None:
    asked, cover = dino_runs.draw("0", 1)
    again, _ = dino_runs.draw("train", 1)
    assert asked.classes == factory.split("development")
    assert asked.images.shape == (12, 3, 96, 96)
    assert cover.shape == (12, 96, 96)
    assert (asked.images != again.images).flatten(1).any(1).all()


def test_the_best_by_neighbours_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("dino", "dino-1"):
        (tmp_path / name).mkdir()
        shutil.copy(weights.ASSETS / "dino.safetensors", tmp_path / name)
        (tmp_path / name / "log.txt").write_text(LOG)
    few = dino_runs.on_development(zoo.load("dino"), 5, 2)
    assert {*few} == {"knn", "attention"}
    assert all(len(values) == 3 and 0 <= min(values) <= max(values) <= 1 for values in few.values())
    scores = iter([0.2, 0.3])
    monkeypatch.setattr(dino_runs, "on_development", lambda backbone: few | {"knn": [next(scores)]})
    said = weights.facts
    monkeypatch.setattr(weights, "facts", lambda path: said(path) | {"seed": int(path.parent.name.endswith("-1"))})
    folders = [str(tmp_path / name) for name in ("dino", "dino-1")]
    assert dino_runs.main([*folders, "--out", str(tmp_path / "runs.json")]) == 0
    assert capsys.readouterr().out == "training seed 1\n"
    rows = json.loads((tmp_path / "runs.json").read_text())["rows"]
    assert [row["training"]["seed"] for row in rows] == [0, 1]
    assert rows[0]["losses"] == [2.8727, 4.1702]
    assert 0 < rows[0]["targets"]["tells"] < math.log(192)
    with pytest.raises(SystemExit):
        dino_runs.main([str(tmp_path / "nothing"), "--out", str(tmp_path / "runs.json")])
