"""Folders with labels as test sets, read from files."""

import logging
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gadkit.data.folders import ImageFolder, read_image, resize
from gadkit.data.testsets import folder_sets, textile_sets
from gadkit.factory.mvtec import export
from gadkit.factory.sets import test_set
from gadkit.protocols import TestSet


def photograph(path: Path, height: int = 40, width: int = 60, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def mask(path: Path, rows: slice, columns: slice, height: int = 40, width: int = 60) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((height, width), np.uint8)
    pixels[rows, columns] = 255
    Image.fromarray(pixels).save(path)
    return path


def test_what_the_factory_exports_comes_back(tmp_path: Path) -> None:
    export(tmp_path, ("gear", "bottle"), per_class=6, size=64)
    sets = folder_sets(tmp_path, 64)
    found = {data.category: data for data in sets}
    assert list(found) == ["bottle", "gear"]
    for name, data in found.items():
        made = test_set(name, 0, 0, "loose", 6, 2, 6, 64)
        assert isinstance(data, TestSet)
        assert torch.equal(data.references, made.references)
        order = sorted(range(len(made.defects)), key=lambda i: made.defects[i])  # the sort is stable
        assert data.defects == tuple(made.defects[i] for i in order)
        assert torch.equal(data.images, made.images[order])
        assert torch.equal(data.masks, made.masks[order])
        assert torch.equal(data.labels, made.labels[order])


def test_images_of_any_size_become_squares_and_masks_stay_masks(tmp_path: Path) -> None:
    photograph(tmp_path / "nut" / "train" / "good" / "0.png", 33, 71)
    photograph(tmp_path / "nut" / "test" / "good" / "0.png", 40, 60)
    bent = photograph(tmp_path / "nut" / "test" / "bent" / "0.png", 40, 60, seed=3)
    mask(tmp_path / "nut" / "ground_truth" / "bent" / "0_mask.png", slice(10, 20), slice(15, 45))
    [data] = folder_sets(tmp_path, 20)
    assert data.references.shape == (1, 3, 20, 20)
    assert data.images.shape == (2, 3, 20, 20)
    assert torch.equal(data.images[0], resize(read_image(bent), 20))
    expected = torch.zeros(20, 20, dtype=torch.bool)
    expected[5:10, 5:15] = True
    assert torch.equal(data.masks[0], expected)
    assert data.defects == ("bent", "good")
    assert not data.masks[1].any()


def test_without_a_training_split_every_second_good_part_is_a_reference(tmp_path: Path) -> None:
    good = [photograph(tmp_path / "good" / f"{i}.png", seed=i) for i in range(4)]
    photograph(tmp_path / "bad" / "9.png", seed=9)
    photograph(tmp_path / "unsure" / "8.png", seed=8)
    mask(tmp_path / "masks" / "9.png", slice(0, 20), slice(0, 30))
    [data] = folder_sets(tmp_path, 32)
    assert torch.equal(data.references, torch.stack([resize(read_image(good[i]), 32) for i in (0, 2)]))
    assert sorted(data.defects) == ["bad", "good", "good"], "images without a label are not in it"
    assert data.masks[data.defects.index("bad")].float().mean() == pytest.approx(0.25, abs=0.02)


def test_what_is_missing_is_counted_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("train/good/0", "test/good/0", "test/bent/0", "test/bent/1", "test/bent/2"):
        photograph(tmp_path / f"{name}.png")
    mask(tmp_path / "ground_truth" / "bent" / "0_mask.png", slice(0, 9), slice(0, 9))
    mask(tmp_path / "ground_truth" / "bent" / "1_mask.png", slice(3, 4), slice(4, 5))  # one pixel
    (tmp_path / "test" / "bent" / "3.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        [data] = folder_sets(tmp_path, 12)
    assert data.defects == ("bent", "bent", "bent", "good")
    assert data.masks.flatten(1).any(1).tolist() == [True, False, False, False]
    assert f"{tmp_path.name}: no mask for 1 of 3 photographs of defects" in caplog.text
    assert f"{tmp_path.name}: of 1 defects nothing is left at 12 pixels, or nothing was marked" in caplog.text
    assert "3.png: an empty file" in caplog.text


def test_categories_are_read_one_by_one(tmp_path: Path) -> None:
    for category in "ab":
        for name in ("train/good/0", "test/good/0", "test/bent/0"):
            photograph(tmp_path / category / f"{name}.png")
    sets = folder_sets(tmp_path, 16)
    assert next(sets).category == "a"
    photograph(tmp_path / "b" / "test" / "bent" / "1.png")  # a late guest, before its category's turn
    assert len(next(sets).images) == 3
    assert next(sets, None) is None


def test_only_the_categories_that_are_asked_for(tmp_path: Path) -> None:
    for category in "abc":
        for name in ("train/good/0", "test/good/0", "test/bent/0"):
            photograph(tmp_path / category / f"{name}.png")
    assert [data.category for data in folder_sets(tmp_path, 16, categories=("c", "a"))] == ["c", "a"]
    with pytest.raises(ValueError, match="categories: expected one of a, b, c, got 'd'"):
        folder_sets(tmp_path, 16, categories=("a", "d"))


def test_folders_that_are_no_test_sets(tmp_path: Path) -> None:
    photograph(tmp_path / "plain" / "0.png")
    with pytest.raises(ValueError, match="expected folders that say which parts are good"):
        folder_sets(tmp_path / "plain", 16)
    photograph(tmp_path / "good" / "train" / "good" / "0.png")
    photograph(tmp_path / "good" / "test" / "good" / "0.png")
    with pytest.raises(ValueError, match="expected normal and defective images of good to test on, got one kind"):
        next(folder_sets(tmp_path / "good", 16))
    photograph(tmp_path / "good" / "test" / "bent" / "0.png").write_bytes(b"")
    (tmp_path / "good" / "test" / "good" / "0.png").write_bytes(b"")
    with pytest.raises(ValueError, match="expected images of good to test on, got none that can be read"):
        next(folder_sets(tmp_path / "good", 16))
    with pytest.raises(ValueError, match="size: expected a whole number from 2"):
        folder_sets(tmp_path / "good", 1)


@pytest.fixture
def textiles(tmp_path: Path) -> Path:
    """A folder laid out as that of conformal-clip-data, with few and small images."""
    root = tmp_path / "conformal_clip_data" / "data" / "textile_images" / "simulated"
    draw = np.random.default_rng(0)
    for kind, count in (("nominal", 6), ("local", 3), ("global", 2)):
        (root / kind).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(draw.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(
                root / kind / f"textile_{i:04}.png"
            )
    return root


def test_textiles_are_two_sets_with_the_same_good_ones(textiles: Path, tmp_path: Path) -> None:
    local, everywhere = textile_sets(textiles, 16)
    assert (local.category, everywhere.category) == ("textiles, local", "textiles, global")
    assert local.defects == ("good",) * 3 + ("local",) * 3
    assert everywhere.defects == ("good",) * 3 + ("global",) * 2
    assert len(local.references) == 3
    assert torch.equal(local.references, everywhere.references)
    assert torch.equal(local.images[:3], everywhere.images[:3])
    few, _ = textile_sets(textiles, 16, each=1)
    assert few.defects == ("good", "local")
    wheel = tmp_path / "conformal_clip_data-0.1.4-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in sorted(tmp_path.rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path))
    assert torch.equal(textile_sets(wheel, 16)[0].images, local.images)


def test_textiles_that_are_not_there(textiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gadkit.data.testsets.TEXTILES", "no_such_package")
    with pytest.raises(ValueError, match="expected `pip install conformal-clip-data`, or its wheel or folder"):
        textile_sets()
    shutil.rmtree(textiles / "global")
    with pytest.raises(ValueError, match="expected a folder global beside nominal, got good, local"):
        textile_sets(textiles, 16)


def test_the_benchmark_knows_their_folder(textiles: Path) -> None:
    assert [*ImageFolder(textiles).categories] == ["simulated"]
    assert {entry.defect for entry in ImageFolder(textiles).entries} == {"good", "local", "global"}
