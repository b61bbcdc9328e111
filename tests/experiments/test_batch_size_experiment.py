"""The experiment on batches: what it trains, that it writes row by row, and that it goes on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import batch_size
from gadkit.backbones.tiny import REAL, TinyConfig
from gadkit.multimodal.training import pairs

SMALL = TinyConfig(image_size=32, width=32, layers=1, text_width=32, text_layers=1, embed=16)


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small towers, on eyes and without."""
    eyed = replace(REAL, image_size=32, width=32, layers=1, text_width=32, text_layers=1, embed=16)
    monkeypatch.setattr(batch_size, "SCRATCH", SMALL)
    monkeypatch.setattr(batch_size.pairs, "Recipe", lambda loss, plan: pairs_recipe(loss, plan, eyed))


real_recipe = pairs.Recipe


def pairs_recipe(loss: str, plan: pairs.Plan, model: TinyConfig) -> pairs.Recipe:
    return real_recipe(loss, plan=plan, model=model)


def test_every_loss_has_every_batch_and_one_row_from_scratch() -> None:
    rows = batch_size.rows()
    assert len(rows) == 8
    assert [r["batch"] for r in rows if r["loss"] == "sigmoid" and r["eyes"] == "real"] == [32, 128, 512]
    assert [(r["loss"], r["batch"]) for r in rows if r["eyes"] == "scratch"] == [("softmax", 128), ("sigmoid", 128)]


@pytest.mark.usefixtures("_small")
def test_rows_are_written_one_by_one_and_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, order = tmp_path / "batch_size.json", ["--pairs", "8", "--photographs", "8", "--batches", "4"]
    measured, learn = [], batch_size.pairs.learn

    def counted(*given: object, **more: object) -> object:
        if len(measured) == 2 and not out.with_suffix(".cut").exists():
            out.with_suffix(".cut").touch()
            raise KeyboardInterrupt
        measured.append(more["what"])
        return learn(*given, **more)

    monkeypatch.setattr(batch_size.pairs, "learn", counted)
    with pytest.raises(KeyboardInterrupt):
        batch_size.main(["--out", str(out), *order])
    assert len(json.loads(out.read_text())["rows"]) == 2
    assert batch_size.main(["--out", str(out), *order]) == 0
    held = json.loads(out.read_text())
    assert len(held["rows"]) == len(measured) == 4  # two losses, with eyes and without
    assert held["chance"] == 1 / 8
    assert {row["steps"] for row in held["rows"]} == {2}
    assert {"scale", "bias", "text_to_image", "image_to_text"} <= held["rows"][0].keys()
    assert batch_size.main(["--out", str(out), *order]) == 0
    assert len(measured) == 4
