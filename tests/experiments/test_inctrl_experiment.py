"""The steps from WinCLIP+ to InCTRL end at the two detectors, and a killed run goes on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from experiments import inctrl as experiment
from gadkit import factory
from gadkit.anomaly.detectors import InCTRL, WinCLIP
from gadkit.anomaly.detectors.residual_heads import untrained
from gadkit.anomaly.metrics import auroc
from gadkit.backbones import OpenCLIP
from gadkit.evaluation.results import merge, read


@pytest.fixture(scope="module")
def clip(tiny_clip: Callable) -> OpenCLIP:
    return tiny_clip(image_size=40, width=32, layers=3, head_width=16)


def test_the_ends_of_the_way_are_the_two_detectors(clip: OpenCLIP) -> None:
    data = factory.test_set("cookie", normal=3, per_defect=1, references=8, size=40)
    states = {(kind, 0): untrained(25, 128, i) for i, kind in enumerate(experiment.HEADS)}
    heads = {key: experiment._net(clip, state) for key, state in states.items()}
    found = experiment.cell(clip, data, heads, [0])["image_auroc"]
    assert {name.rsplit(", ", 1)[0] for name in found} == set(experiment.STEPS)
    for shots in experiment.SHOTS:
        some = data.references[experiment.draw(0, shots)]
        assert len(some) == shots
        first = WinCLIP(clip, data.object_name).fit(some).score(data.images)
        last = InCTRL(clip, data.object_name, states["all", 0]).fit(some).score(data.images)
        bare = InCTRL(clip, data.object_name, states["residuals", 0], terms=()).fit(some).score(data.images)
        expected = {"WinCLIP+": first, "and words: InCTRL": last, "holistic head": bare}
        for step, result in expected.items():
            assert found[f"{step}, {shots}"] == [pytest.approx(auroc(result.scores, data.labels), abs=1e-3)]


def test_what_is_there_is_not_measured_again(tmp_path: Path) -> None:
    out, heads = tmp_path / "rows.json", tmp_path / "heads"
    rows = [{"clip": "clip-scratch", "split": "development", "category": c} for c in factory.split("development")]
    merge(out, rows, experiment.key, "nothing")
    assert experiment.main(["--out", str(out), "--heads", str(heads), "--clips", "clip-scratch"]) == 0
    assert read(out) == rows
    assert not list(heads.iterdir()), "no heads were trained for nothing"
