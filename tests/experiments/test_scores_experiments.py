"""The experiments about scores measure what the detectors do, at a size that a test can afford."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from experiments import alarms, detectors, scores, textiles
from gadkit import factory, zoo
from gadkit.anomaly.detectors import build
from gadkit.anomaly.metrics import auroc
from gadkit.protocols import TestSet


@pytest.fixture(scope="module")
def data() -> TestSet:
    return factory.test_set("mesh", 0, 0, "fixture", 3, 1, 3, 48)


def test_the_chosen_score_is_the_detectors(data: TestSet) -> None:
    eyes = zoo.load("efficientnet-lite0")
    layers, vectors = scores.encoded(eyes, torch.cat([data.references, data.images]))
    far = scores.apart(eyes, layers, 3)[scores.FEATURE][3:].amin(2)
    whole = (1 - vectors[3:] @ vectors[:3].T).amin(1)
    detector = build("patch-knn", eyes).fit(data.references)
    expected = detector.score(data.images).scores
    torch.testing.assert_close(scores.score(scores.SCORE, (far, whole), None), expected, atol=1e-4, rtol=0)
    joined = scores.apart(eyes, layers, 3)["joined, 8 to 32"][3:].amin(2)
    plain = build("patch-knn", eyes, layers=(2, 3, 4), finer="join", extent=0.0).fit(data.references)
    torch.testing.assert_close(
        scores.score("maximum", (joined, whole), None), plain.score(data.images).scores, atol=1e-4, rtol=0
    )


def test_pooling_by_hand() -> None:
    far = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    whole = torch.tensor([0.5])
    found = {name: float(score(far, whole)) for name, score in scores.SCORES.items() if "window" not in name}
    assert found["maximum + image / 2"] == pytest.approx(0.65)
    assert found["mean"] == pytest.approx(0.25)
    assert found["8-norm"] == pytest.approx(((0.1**8 + 0.2**8 + 0.3**8 + 0.4**8) / 4) ** (1 / 8))
    assert 0.4 > found["soft maximum"] > 0.35
    good = torch.tensor([[0.1] * 4, [0.2] * 4, [0.3] * 4]), torch.tensor([0.1, 0.2, 0.3])
    two = scores.score("standardised maximum + mean", (far, whole), good)
    assert float(two) == pytest.approx((0.4 - 0.2) / 0.101 + (0.25 - 0.2) / 0.101, rel=1e-4)
    assert float(scores.score("standardised maximum + mean", (far, whole), None)) == pytest.approx(0.65)


def test_other_light_is_arithmetic_on_pixels() -> None:
    image = torch.full((1, 3, 2, 2), 100, dtype=torch.uint8)
    assert torch.equal(alarms.lit(image), image)
    assert alarms.lit(image, 0.7)[0, :, 0, 0].tolist() == [70, 70, 70]
    assert alarms.lit(image, warm=0.25)[0, :, 0, 0].tolist() == [125, 100, 75]
    assert alarms.lit(image, 3.0).unique().tolist() == [255]


def test_a_fusion_is_the_sum_of_scores(tiny_clip: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "test_set", cache(factory.test_set))  # rendered once, here and there
    monkeypatch.setattr(detectors, "READING", ("winclip",))  # the other's heads fit the shipped tower only
    eyes = dict.fromkeys(("real", "clip"), tiny_clip(image_size=40, width=32, layers=3, head_width=16))
    found = {tuple(cell): value for *cell, value in detectors.scores(eyes, "mesh", 0, "fixture", 48)}
    local = factory.test_set("mesh", 0, 0, "fixture", 20, 3, 16, 48)
    near = build("patch-knn", eyes["real"]).fit(local.references[:4]).score(local.images).scores
    words = build("winclip", eyes["clip"], local.object_name).fit().score(local.images).scores
    assert found["patch-knn", "local", 4] == pytest.approx(auroc(near, local.labels), abs=1e-6)
    assert found["patch-knn + 0.5 words", "local", 4] == pytest.approx(
        auroc(near + 0.5 * words, local.labels), abs=1e-3
    )
    assert {shots for _, _, shots in found} == {0, 1, 4, 16}


def test_the_results_files_hold_what_the_commands_write() -> None:
    folder = Path(__file__).parents[2] / "book" / "results"
    held = {
        name: json.loads((folder / f"{name}.json").read_text())["rows"] for name in ("scores", "alarms", "textiles")
    }
    asked = {(r["features"], r["score"]) for r in held["scores"] if r["measure"] == "image_auroc"}
    assert asked == {(f, s) for f in scores.FEATURES for s in ("maximum", scores.SCORE)} | {
        (scores.FEATURE, s) for s in (*scores.SCORES, *scores.STANDARDISED)
    }
    assert {(r["detector"], r["light"]) for r in held["alarms"]} == {
        (d, light) for d in alarms.DETECTORS for light in alarms.LIGHTS
    }
    assert {r["detector"] for r in held["textiles"]} == set(textiles.ROWS)
    for rows in held.values():
        assert all({"seconds", "device", "versions", "seeds"} <= set(row) for row in rows)


def test_a_detector_that_takes_no_good_part_is_measured_without(data: TestSet) -> None:
    cpu = torch.device("cpu")
    for name, shots in {"made-up defects": [0], "nearest patches, SimCLR": [2]}.items():
        rows = textiles.rows(name, [data], (2,), (0,), cpu)
        assert [row["shots"] for row in rows] == shots
    eyes = zoo.load("efficientnet-lite0")
    found = build("made-up", eyes).fit().score(data.images).scores
    (row,) = textiles.rows("made-up defects", [data], (2,), (0,), cpu)
    assert row["image_auroc"] == [pytest.approx(auroc(found, data.labels), abs=1e-4)]
