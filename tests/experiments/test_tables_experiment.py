"""Tables that take longer than a page: what stands behind a cell, and a run that goes on."""

import json
from pathlib import Path

import pytest
import torch

from experiments import tables
from gadkit import factory
from gadkit.anomaly.benchmark import Result
from gadkit.anomaly.detectors import build
from gadkit.anomaly.metrics import auroc

HELD = Path(__file__).parents[2] / "book" / "results" / "tables.json"


def test_a_memory_measures_the_distance_from_the_nearest_vector() -> None:
    images = factory.test_set("mesh", normal=3, per_defect=1, references=2, size=48).images[:3]
    model = tables.Memory(tables.colours).fit(images[:2])
    found = model.score(model.encode(images))
    assert float(found.scores[:2].abs().max()) < 1e-3  # cdist's own rounding
    new, known = tables.colours(images[2:])[0], tables.colours(images[:2]).flatten(0, 1)
    nearest = [min(float((x - y).norm()) for y in known) for x in new]
    grid = torch.tensor(nearest).view(1, 1, 16, 16)
    expected = torch.nn.functional.interpolate(grid, (48, 48), mode="bilinear")[0, 0]
    torch.testing.assert_close(found.maps[2], expected, atol=1e-4, rtol=0)
    assert float(found.scores[2]) == float(found.maps[2].max())


def test_a_run_of_tables_measures_what_the_file_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "tables.json"
    asked = ["--out", str(out), "--tables", "memories", "--of", "colours, fixture", "--products", "mesh"]
    tables.main(asked)
    (row,) = json.loads(out.read_text())["rows"]
    found = [Result(**values) for values in row["values"]["results"]]
    assert tables.key(row) == ("memories", "colours, fixture", "mesh")
    assert [(one.category, one.seed, one.shots) for one in found] == [("mesh", seed, 4) for seed in range(3)]
    monkeypatch.setattr(tables, "memories", lambda *_: pytest.fail("it is in the file"))
    monkeypatch.setitem(tables.TABLES, "memories", (tables.memories, *tables.TABLES["memories"][1:]))
    tables.main(asked)
    assert json.loads(out.read_text())["rows"] == [row]


@pytest.mark.parametrize("wrong", [["--of", "nothing"], ["--products", "mesh", "banana"], ["--out", "/"]])
def test_what_no_table_has_is_named(wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        tables.main(["--out", str(tmp_path / "tables.json"), "--tables", "memories", *wrong])
    assert "expected" in capsys.readouterr().err
    assert not (tmp_path / "tables.json").exists()


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


def test_the_tables_file_holds_every_cell() -> None:
    rows = json.loads(HELD.read_text())["rows"]
    assert {tables.key(row) for row in rows} == {*tables.cells([*tables.TABLES])}
