"""The measurement for a GPU runs at small sizes on a CPU: what it counts is right, and it goes on where it stopped."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from experiments import gpu
from gadkit import factory, zoo
from gadkit.anomaly.detectors import build
from gadkit.backbones.openclip import OpenCLIP
from gadkit.protocols import AnomalyResult


def run(out: Path, *more: str) -> list[dict]:
    assert gpu.main(["--tiny", "--device", "cpu", "--out", str(out), *more]) == 0
    return json.loads(out.read_text())["rows"]


def test_a_run_that_was_cut_short_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gpu.json"
    assert len(run(out, "--detectors", "knn", "--minutes", "0")) == 1
    rows = run(out, "--detectors", "knn")
    by = {(row["what"], row["name"], row["variant"]): row for row in rows}
    full, half = (by["detector", "knn", variant] for variant in ("float32", "bfloat16"))
    assert (full["score_change"], full["auroc_change"]) == (0, 0)
    assert 0 < half["score_change"] < 0.1
    assert full["images_per_second"] > 0
    assert full["share_of_bf16_peak"] > 0
    assert full["seed"] == 0
    assert full["versions"]["torch"] == torch.__version__
    searches = [row for row in rows if row["what"] == "search"]
    assert [row["same_row"] for row in searches] == [1, 1]
    assert all({"device", "seconds", "versions"} <= row.keys() for row in rows)
    capsys.readouterr()
    assert run(out, "--detectors", "knn") != [], "the file stays"
    assert capsys.readouterr().err.count("\n") == 1, "only the peak, which shares are of, is measured again"


def test_operations_are_those_of_the_layers() -> None:
    eyes = zoo.load("vit")
    data = factory.test_set("mesh", 0, 0, "fixture", 2, 1, 2, 48)
    detector = build("knn", eyes).fit(data.references)
    layers = [m for m in eyes.model.modules() if isinstance(m, nn.Linear)] if hasattr(eyes, "model") else []
    one, two = (gpu.flops(detector, data.images[:n]) for n in (1, 2))
    assert two == 2 * one > 0
    tokens = eyes.grid[0] * eyes.grid[1]
    assert one >= sum(2 * tokens * m.in_features * m.out_features for m in layers)


def test_changes_are_the_largest_of_any_image() -> None:
    data = factory.test_set("mesh", 0, 0, "fixture", 2, 1, 2, 32)
    scores, maps = torch.arange(len(data.images)) * 0.1, torch.zeros(len(data.images), 32, 32)
    other = scores.clone()
    other[1] -= 0.25
    found = gpu.difference(AnomalyResult(maps + 0.5, other), AnomalyResult(maps, scores), data)
    assert found["score_change"] == pytest.approx(0.25)
    assert found["map_change"] == 0.5
    assert gpu.difference(AnomalyResult(maps, scores), AnomalyResult(maps, scores), data)["auroc_change"] == 0


@pytest.mark.slow
def test_a_compiled_tower_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = zoo.load("clip-random")
    assert isinstance(clip, OpenCLIP)
    monkeypatch.setattr(gpu.private, "ALLOWED", False)
    data = factory.test_set("mesh", 0, 0, "fixture", 2, 1, 2, 32)
    found = {}
    for name in ("float32", "bfloat16", "bfloat16, compiled"):
        with gpu.variant(name, clip, tiny=True):
            found[name] = build("winclip", clip, "mesh").fit(data.references).score(data.images[:2]).scores
    assert torch.allclose(found["bfloat16"], found["bfloat16, compiled"], atol=1e-3)
    assert 0 < (found["float32"] - found["bfloat16"]).abs().max() < 0.1


def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        gpu.main(["--out", str(tmp_path / "x.json"), "--device", "cpu"])
    assert "--device: expected a GPU, got cpu" in capsys.readouterr().err
