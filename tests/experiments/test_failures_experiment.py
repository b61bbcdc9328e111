"""What detectors miss, by kind: each against the good parts of its own product, and a run that goes on."""

import json
from pathlib import Path

import pytest
import torch

from experiments import failures
from gadkit import factory, zoo
from gadkit.anomaly.detectors import build
from gadkit.anomaly.metrics import auroc
from gadkit.protocols import AnomalyResult


def test_a_product_has_local_and_global_defects_beside_the_same_good_parts() -> None:
    data = failures.product("mesh", 0, "fixture", 48, 3)
    kind = factory.CATEGORIES["mesh"]
    assert {*data.defects} == {"good", *kind.defects, *kind.everywhere}
    assert data.defects.count("good") == 3
    assert len(data.images) == len(data.masks) == len(data.defects)


def test_a_kind_is_measured_against_the_good_parts_only() -> None:
    data = failures.product("mesh", 0, "fixture", 48, 3)
    scores = torch.rand(len(data.images), generator=torch.Generator().manual_seed(0))
    found = failures.by_kind(AnomalyResult(data.masks.float(), scores), data)
    use = torch.tensor([defect in ("hole", "good") for defect in data.defects])
    assert found["image"]["hole"] == pytest.approx(auroc(scores[use], data.labels[use]), abs=1e-4)
    assert set(found["pixel"].values()) == {1.0}
    assert not {*found["pixel"]} & {*factory.GLOBAL}
    assert {*factory.CATEGORIES["mesh"].everywhere} <= {*found["image"]}


def test_a_run_measures_what_the_file_lacks_and_leaves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, eyes = tmp_path / "failures.json", {"efficientnet-lite0": "random"}
    monkeypatch.setattr(failures, "RANDOM", eyes)
    asked = ["--out", str(out), "--detectors", "knn", "--seeds", "0", "--size", "48"]
    failures.main(asked, ["mesh"])
    rows = json.loads(out.read_text())["rows"]
    assert [failures.key(row)[:3] for row in rows] == [("knn", "efficientnet-lite0", 4), ("knn", "random", 4)]
    data = failures.product("mesh", 0, "loose", 48)
    scores = build("knn", zoo.load("random")).fit(data.references[:4]).score(data.images).scores
    use = torch.tensor([defect in ("blur", "good") for defect in data.defects])
    assert rows[1]["image"]["blur"] == pytest.approx([auroc(scores[use], data.labels[use])], abs=1e-4)
    monkeypatch.setattr(failures, "measure", lambda *_: pytest.fail("it is in the file"))
    failures.main(asked, ["mesh"])
    assert json.loads(out.read_text())["rows"] == rows


def test_the_results_file_holds_what_the_command_writes() -> None:
    path = Path(__file__).parents[2] / "book" / "results" / "failures.json"
    rows = json.loads(path.read_text())["rows"]
    for name in {row["detector"] for row in rows}:
        held = {failures.key(row) for row in rows if row["detector"] == name}
        own = failures.DETECTORS[name].backbone
        assert {
            (name, backbone, k, "loose", category)
            for backbone in (own, failures.RANDOM[own])
            for k in failures.settings(name)
            for category in factory.split("development")
        } == held
