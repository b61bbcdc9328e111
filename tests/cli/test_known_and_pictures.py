"""What a folder knows of its photographs, and pictures of what was found."""

from pathlib import Path

import numpy as np
import pytest
import torch
from photographs import Run, photograph
from PIL import Image

from gadkit import viz
from gadkit.anomaly.metrics import aupro
from gadkit.cli.known import SIDE, Known
from gadkit.cli.outputs import ImageScore

KNN = ("--detector", "patch-knn", "--backbone", "random")


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """Three good parts to learn from, two to score, and two with a hole and its mask."""
    for i in range(3):
        photograph(tmp_path / "nut" / "train" / "good" / f"{i}.png", seed=i)
    for i in range(2):
        photograph(tmp_path / "nut" / "test" / "good" / f"{i}.png", seed=10 + i)
        photograph(tmp_path / "nut" / "test" / "hole" / f"{i}.png", spot=14, seed=20 + i)
        mask = np.zeros((40, 56), np.uint8)
        mask[13:27, 28:42] = 255
        (tmp_path / "nut" / "ground_truth" / "hole").mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "nut" / "ground_truth" / "hole" / f"{i}_mask.png")
    return tmp_path / "nut"


def test_labels_and_masks_of_a_data_set_are_used(run: Run, data_set: Path, tmp_path: Path) -> None:
    code, _, err = run("detect", data_set, *KNN, "--normal", data_set, "--out", tmp_path / "out")
    assert code == 0
    told = [line.removeprefix("gadkit: ") for line in err.splitlines() if "folder's own" in line or "defective" in line]
    assert told[0] == "image AUROC 1.000, by the folder's own labels"
    assert told[1].startswith("of 2 defective parts 2 are above the threshold, of 2 good parts ")
    assert told[2].startswith("AUPRO 0.")
    assert told[2].endswith(", at 256 x 256 pixels, by the folder's own masks")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<dt>Labels</dt><dd>Image AUROC 1.000, by the folder&#39;s own labels. Of 2 defective parts 2" in page
    code, _, err = run("detect", data_set / "test" / "good", *KNN, "--normal", data_set)
    assert "AUROC" not in err, "good parts alone have no order"


def test_what_is_measured_is_measured_right(data_set: Path) -> None:
    known, draw = Known([data_set]), torch.Generator().manual_seed(0)
    rows, maps, masks = [], [], []
    for name, score in (("good/0", 0.1), ("good/1", 0.5), ("hole/0", 0.4), ("hole/1", 0.9)):
        path, heat = data_set / "test" / f"{name}.png", torch.rand(40, 56, generator=draw)
        known.add(path, heat)
        rows.append(ImageScore(str(path), score))
        large = torch.nn.functional.interpolate(heat[None, None], (SIDE, SIDE), mode="bilinear", antialias=True)
        maps.append(large[0, 0].numpy())
        mask = np.zeros((40, 56), bool)
        mask[13:27, 28:42] = name.startswith("hole")
        masks.append(np.array(Image.fromarray(mask).resize((SIDE, SIDE), Image.Resampling.NEAREST)))
    lines = list(known.lines(rows, 0.3))
    assert lines[0] == "image AUROC 0.750, by the folder's own labels"
    assert lines[1] == "of 2 defective parts 2 are above the threshold, of 2 good parts 1"
    assert float(lines[2].split()[1].rstrip(",")) == pytest.approx(aupro(np.stack(maps), np.stack(masks)), abs=0.02)
    assert list(Known([data_set]).lines(rows, None)) == lines[:1], "no threshold, no confusion; no maps, no AUPRO"


def test_pictures_of_every_image(run: Run, parts: Path, good: Path, tmp_path: Path) -> None:
    options = (*KNN, "--normal", good, "--pictures", tmp_path / "pictures")
    assert run("detect", parts, *options)[0] == 0
    names = ("a/0.png", "a/1.png", "a/2.png", "b/0.png")
    found = {p.relative_to(tmp_path / "pictures").as_posix() for p in (tmp_path / "pictures").rglob("*.*")}
    assert found == {f"{name}.{kind}.png" for name in names for kind in ("heat", "outline")}
    photo = np.asarray(Image.open(parts / "b" / "0.png"))
    outline, heat = (np.asarray(Image.open(tmp_path / "pictures" / f"b/0.png.{k}.png")) for k in ("outline", "heat"))
    assert outline.shape == heat.shape == photo.shape
    changed = (outline != photo).any(2)
    assert changed.any()
    assert set(np.unique(outline[changed])) <= {0, 255}, "a white line and a black one"
    assert not changed[16:24, 32:38].any(), "the defect itself is not painted over"


def test_a_picture_of_somebody_else_stays(run: Run, parts: Path, good: Path, tmp_path: Path) -> None:
    options = (*KNN, "--normal", good, "--pictures", tmp_path / "pictures")
    mine = photograph(tmp_path / "pictures" / "0.png.heat.png").read_bytes()
    for _ in range(2):  # what an earlier run has written is replaced
        code, out, err = run("detect", parts / "b", *options)
        assert (code, len(out.splitlines())) == (1, 2)
        assert err.count("0.png.heat.png: expected a picture of an earlier run in this place, or none, got yours") == 1
        assert "1 output could not be written" in err
    assert (tmp_path / "pictures" / "0.png.heat.png").read_bytes() == mine


def test_without_a_threshold_there_is_no_outline(run: Run, parts: Path, tmp_path: Path) -> None:
    code, _, _ = run("detect", parts / "b", "--object", "nut", "--pictures", tmp_path / "pictures")
    assert (code, [path.name for path in (tmp_path / "pictures").iterdir()]) == (0, ["0.png.heat.png"])
    assert run("detect", parts / "b", "--object", "nut", "--pictures", parts / "b" / "0.png" / "x")[0] == 2


def test_outlines_go_around_what_is_marked() -> None:
    grey, mask = torch.full((1, 3, 9, 9), 100, dtype=torch.uint8), torch.zeros(1, 9, 9, dtype=torch.bool)
    mask[0, 4, 4] = True
    drawn = viz.outlined(grey, mask)[0, 0]
    assert drawn[4, 4] == 100
    assert (drawn[3:6, 3:6] == 255).sum() == 8
    assert (drawn == 0).sum() == 16
    assert (drawn[:2] == 100).all()
    assert torch.equal(viz.outlined(grey, torch.zeros_like(mask)), grey)
    assert (viz.outlined(grey, mask, 2)[0, 0] == 255).sum() == 24
