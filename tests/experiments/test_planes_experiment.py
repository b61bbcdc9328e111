"""The experiment on planes measures what the detectors do, and goes on where it was stopped."""

import json
from pathlib import Path

import pytest
import torch

from experiments import planes
from gadkit import factory, zoo
from gadkit.anomaly.detectors import build
from gadkit.anomaly.metrics import auroc
from gadkit.protocols import TestSet


def test_its_numbers_are_the_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = factory.test_set

    def small(category: str, variant: int, seed: int, regime: str, *rest: object) -> TestSet:
        return whole(category, variant, seed, regime, 4, 1, 2, 48, rest[-1])

    monkeypatch.setattr(planes, "SHOTS", (1, 2))
    monkeypatch.setattr(planes, "CURVE_AT", 2)
    monkeypatch.setattr(planes.factory, "test_set", small)
    eyes = zoo.load("random")
    found = planes.product(eyes, "mesh", 0, "fixture", 48)
    data = small("mesh", 0, 0, "fixture", "local")
    for name, detector, arguments in (
        ("patch-knn, 1 turns/2", "patch-knn", {"extent": 0.0}),
        ("subspace 0.9, 8 turns/2", "subspace", {}),
        ("subspace 0.99, 1 turns, 1 image/2", "subspace", {"explained": 0.99, "turns": 1, "extent": 1.0}),
    ):
        result = build(detector, eyes, **arguments).fit(data.references).score(data.images)
        assert found[f"{name}/local"] == pytest.approx(auroc(result.scores, data.labels), abs=1e-4)
        assert found[f"{name}/pixel"] == pytest.approx(auroc(result.maps, data.masks), abs=1e-4)
    result = build("musc", eyes).fit(data.images).score(data.images)
    assert found["batched musc/0/local"] == pytest.approx(auroc(result.scores, data.labels), abs=1e-4)


def test_what_is_measured_is_not_measured_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(planes, "product", lambda eyes, category, *_: asked.append(category) or {"x/1/local": 0.5})
    arguments = ["--out", str(tmp_path / "planes.json"), "--backbones", "random"]
    assert planes.main(arguments, ("mesh",)) == 0
    assert planes.main(arguments, ("mesh", "fuse")) == 0
    assert asked == ["mesh", "fuse"]
    rows = json.loads((tmp_path / "planes.json").read_text())["rows"]
    assert [row["category"] for row in rows] == ["mesh", "fuse"]
    assert torch.tensor([row["values"]["x/1/local"] for row in rows]).tolist() == [0.5, 0.5]
