"""The contestants of detection's benchmark give the same maps, or their times would say nothing."""

import math

import pytest
import torch

from benchmarks.detect import NAME, pictures, rivals, rows
from gadkit import zoo
from gadkit.anomaly.detectors import PatchKNN
from gadkit.protocols import Encoded


def test_rows_hold_speeds_and_their_ratios() -> None:
    found = {what: value for what, value, _ in rows(shots=2, count=2, size=64, rounds=1, start=False)}
    assert found[f"{NAME}, scored"] > 0
    if "anomalib" in found:
        assert math.isnan(found["anomalib"])
    for name in ("anomalib's PatchCore", "anomalib's AnomalyDINO"):
        if f"gadkit / {name}" in found:
            ratio = found[f"{name}, search"] / found["gadkit, search"]
            assert found[f"gadkit / {name}"] == pytest.approx(ratio)
            assert found[f"{name}: largest difference of a map"] < 1e-4


def test_the_rivals_search_the_same_bank() -> None:
    for name in ("patchcore", "anomaly_dino"):
        module = f"anomalib.models.image.{name}.torch_model"
        pytest.importorskip(module, reason="anomalib is not installed: nothing to compare with", exc_type=ImportError)
    detector = PatchKNN(zoo.load("random"))
    normal, images = pictures(3, 96), pictures(2, 96, 1)
    detector.fit(normal)
    encoded = detector.encode(images)
    ours = detector.score(Encoded(encoded.features, (12, 12)))
    found = rivals(detector.encode(normal).features["patches"], encoded.features["patches"])
    assert len(found) == 2
    for score in found.values():
        torch.testing.assert_close(score().maps, ours.maps, atol=1e-4, rtol=0)


def test_pictures_are_the_same_again() -> None:
    assert torch.equal(pictures(2, 32), pictures(2, 32))
    assert not torch.equal(pictures(2, 32), pictures(2, 32, 1))
