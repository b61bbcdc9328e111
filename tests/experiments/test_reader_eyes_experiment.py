"""The experiment on readers' eyes: both beginnings get one budget, rows are kept, and a cut run goes on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import reader_eyes
from experiments.reader_eyes import Budget

TINY = {"blip": Budget(1, 2, 2, 4), "florence2": Budget(1, 5, 2, 4, 1)}


@pytest.mark.parametrize("name", ["blip", "florence2"])
def test_both_beginnings_have_one_budget_and_rows_are_kept(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, trained = tmp_path / "reader_eyes.json", []
    reader = reader_eyes.READERS[name]

    def counted(folder: Path, start: str, budget: Budget) -> Path:
        if trained and not out.with_suffix(".cut").exists():
            out.with_suffix(".cut").touch()
            raise KeyboardInterrupt
        trained.append((start, budget))
        return reader.train(folder, start, budget)

    monkeypatch.setitem(reader_eyes.READERS, name, replace(reader, budget=TINY[name], train=counted))
    order = [name, "--out", str(out), "--runs", str(tmp_path)]
    with pytest.raises(KeyboardInterrupt):
        reader_eyes.main(order)
    assert {row["who"] for row in json.loads(out.read_text())["rows"]} == {"real eyes"}
    assert reader_eyes.main(order) == reader_eyes.main(order) == 0
    assert trained == [(start, TINY[name]) for start in reader.eyes.values()]
    held = json.loads(out.read_text())
    assert held["device"] == "cpu"
    splits = ["development", "seen"] if name == "florence2" else ["development"]
    assert [(row["who"], row["split"]) for row in held["rows"]] == [(w, s) for w in reader.eyes for s in splits]
    budget = {"model": name, "steps": 1, "batch": TINY[name].batch, "trained on": 2, "photographs": 4}
    assert all(budget.items() <= row.items() for row in held["rows"])
    wanted = {"blip": {"damaged?", "exact state"}, "florence2": {"AP50, boxes alone", "loss, <OD>", "caption's noun"}}
    assert all(wanted[name] <= row["values"].keys() for row in held["rows"])


def test_options_change_every_budget_and_names_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def noted(folder: Path, start: str, budget: Budget) -> Path:
        asked.append(budget)
        raise KeyboardInterrupt

    for name, reader in reader_eyes.READERS.items():
        monkeypatch.setitem(reader_eyes.READERS, name, replace(reader, train=noted))
        with pytest.raises(KeyboardInterrupt):
            reader_eyes.main([name, "--out", str(tmp_path / "none.json"), "--steps", "7", "--measured", "8"])
    assert [(b.steps, b.measured, b.batch) for b in asked] == [(7, 8, 16), (7, 8, 32)]
    with pytest.raises(ValueError, match="expected one of blip, florence2"):
        reader_eyes.main(["sam", "--out", str(tmp_path / "none.json")])
