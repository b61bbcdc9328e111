"""Tables that take longer than a page: what stands behind a cell, and a run that goes on."""

import json
from pathlib import Path

import pytest

from experiments import tables
from gadkit import factory
from gadkit.anomaly.detectors import build
from gadkit.anomaly.metrics import auroc

HELD = Path(__file__).parents[2] / "book" / "results" / "tables.json"


def test_a_setting_is_what_the_detector_was_fitted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    few = factory.test_set("fuse", normal=2, per_defect=1, references=5, size=48)
    monkeypatch.setattr(tables, "freely", lambda _: few)
    eyes = tables.eyes("efficientnet-random")
    found = tables.settings("patch-knn, efficientnet-random", "fuse")
    scores = build("patch-knn", eyes).fit(few.references[:4]).score(few.images).scores
    assert found == {"4 good": pytest.approx(auroc(scores, few.labels))}
    together = build("musc", eyes).fit(few.images).score(few.images).scores
    found = tables.settings("musc, efficientnet-random", "fuse")
    assert found == {"the batch": pytest.approx(auroc(together, few.labels))}


def test_a_run_of_tables_measures_what_the_file_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = factory.test_set("mesh", normal=2, per_defect=1, references=4, size=48)
    monkeypatch.setattr(tables, "freely", lambda _: few)
    out, of = tmp_path / "tables.json", "patch-knn, efficientnet-random"
    asked = ["--out", str(out), "--tables", "settings", "--of", of, "--products", "mesh"]
    tables.main(asked)
    (row,) = json.loads(out.read_text())["rows"]
    assert tables.key(row) == ("settings", of, "mesh")
    assert row["values"] == tables.settings(of, "mesh")
    monkeypatch.setitem(tables.TABLES, "settings", (lambda *_: pytest.fail("it is there"), [of], ["mesh"]))
    tables.main(asked)
    assert json.loads(out.read_text())["rows"] == [row]


def test_the_tables_file_holds_every_cell() -> None:
    rows = json.loads(HELD.read_text())["rows"]
    assert {tables.key(row) for row in rows} == {*tables.cells([*tables.TABLES])}
