"""The measurement for a GPU runs at small sizes on a CPU: what it counts is right, and it goes on where it stopped."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments import gpu
from gadkit import factory
from gadkit.anomaly.detectors import build
from gadkit.backbones.encoder import Encoder
from gadkit.nn import ViT
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
    vit = ViT(image_size=48, patch_size=8, width=32, depth=2, heads=2)
    data = factory.test_set("mesh", 0, 0, "fixture", 2, 1, 2, 48)
    detector = build("knn", Encoder(vit, image_size=48)).fit(data.references)
    one, two = (gpu.flops(detector, data.images[:n]) for n in (1, 2))
    tokens = 36 + vit.prefix
    first = 2 * 36 * 3 * 8**2 * 32
    blocks = 2 * (2 * tokens * 12 * 32**2 + 4 * tokens**2 * 32)  # the products with weights, and attention's two
    assert two == 2 * one
    assert one == first + blocks + 2 * 2 * 32, "the search among two good parts, too"


def test_changes_are_the_largest_of_any_image() -> None:
    data = factory.test_set("mesh", 0, 0, "fixture", 2, 1, 2, 32)
    scores, maps = torch.arange(len(data.images)) * 0.1, torch.zeros(len(data.images), 32, 32)
    other = scores.clone()
    other[1] -= 0.25
    found = gpu.difference(AnomalyResult(maps + 0.5, other), AnomalyResult(maps, scores), data)
    assert found["score_change"] == pytest.approx(0.25)
    assert found["map_change"] == 0.5
    assert gpu.difference(AnomalyResult(maps, scores), AnomalyResult(maps, scores), data)["auroc_change"] == 0


COMPILED = """
import torch
from experiments import gpu
from gadkit import factory, zoo
from gadkit.anomaly.detectors import build

gpu.private.ALLOWED = False
clip, data, found = zoo.load("clip-random"), factory.test_set("mesh", 0, 0, "fixture", 2, 1, 2, 32), []
for name in ("float32", "bfloat16", "bfloat16, compiled"):
    with gpu.variant(name, clip, tiny=True):
        found.append(build("winclip", clip, "mesh").fit(data.references).score(data.images[:2]).scores)
assert torch.allclose(found[1], found[2], atol=1e-3), found
assert 0 < (found[0] - found[1]).abs().max() < 0.1, found
"""


@pytest.mark.slow
def test_a_compiled_tower_gives_the_same() -> None:
    """In a process of its own, for the compiler does not follow the hook that checks types."""
    subprocess.run([sys.executable, "-c", COMPILED], check=True, cwd=Path(gpu.__file__).parents[1])


def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        gpu.main(["--out", str(tmp_path / "x.json"), "--device", "cpu"])
    assert "--device: expected a GPU, got cpu" in capsys.readouterr().err
