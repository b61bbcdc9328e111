"""The experiment on BLIP's eyes: both beginnings get one budget, rows are kept, and a cut run goes on."""

import json
from pathlib import Path

import pytest

from experiments import blip_eyes


def test_both_beginnings_have_one_budget_and_rows_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blip_eyes, "BATCH", 2)
    out, trained, train = tmp_path / "blip_eyes.json", [], blip_eyes.recipe.train
    order = ["--out", str(out), "--runs", str(tmp_path), "--steps", "1", "--photographs", "2", "--measured", "4"]

    def counted(folder: Path, seed: int, steps: int, start: str, counts: dict[str, int], batch: int) -> Path:
        if trained and not out.with_suffix(".cut").exists():
            out.with_suffix(".cut").touch()
            raise KeyboardInterrupt
        trained.append((seed, steps, start, counts, batch))
        return train(folder, seed, steps, start, counts, batch)

    monkeypatch.setattr(blip_eyes.recipe, "train", counted)
    with pytest.raises(KeyboardInterrupt):
        blip_eyes.main(order)
    assert [row["who"] for row in json.loads(out.read_text())["rows"]] == ["real eyes"]
    assert blip_eyes.main(order) == blip_eyes.main(order) == 0
    assert trained == [(0, 1, start, {"seen": 2}, 2) for start in ("clip", "")]
    held = json.loads(out.read_text())
    assert held["device"] == "cpu"
    assert [(row["who"], row["split"]) for row in held["rows"]] == [
        ("real eyes", "development"),
        ("from scratch", "development"),
    ]
    budget = {"steps": 1, "batch": 2, "trained on": 2, "photographs": 4}
    assert all(budget.items() <= row.items() for row in held["rows"])
    assert {"damaged?", "exact state", "match by state"} <= held["rows"][0]["values"].keys()
