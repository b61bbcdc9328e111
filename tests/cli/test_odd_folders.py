"""Folders as people have them: deep pixels, labels in folder names, masks, pipes and closed doors."""

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from photographs import Run, photograph
from PIL import Image

DETECT = ["--object", "nut", "--json"]


def deep(path: Path, white: int, spot: int = 0, seed: int = 0) -> Path:
    """The usual photograph in grey of 16 bits that ends at `white`, with one hot pixel above it."""
    values = np.asarray(Image.open(photograph(path, spot=spot, mode="L", seed=seed))).astype(float)
    values = (values * (white / 255)).astype(np.uint16)
    values[3, 3] = min(65535, white + 1)
    Image.fromarray(values).save(path)
    return path


def scores(out: str) -> dict[str, float]:
    return {Path(row["path"]).name: row["score"] for row in map(json.loads, out.splitlines())}


def test_a_camera_of_twelve_bits_gives_the_scores_of_eight(run: Run, tmp_path: Path) -> None:
    for i in range(2):
        eight = np.array(Image.open(photograph(tmp_path / "eight" / f"{i}.png", spot=14 * i, mode="L", seed=i)))
        eight[3, 3] = 255
        Image.fromarray(eight).save(tmp_path / "eight" / f"{i}.png")
        deep(tmp_path / "twelve" / f"{i}.png", 4095, spot=14 * i, seed=i)
    _, out, err = run("detect", tmp_path / "eight", *DETECT)
    expected = scores(out)
    assert "bits" not in err
    code, out, err = run("detect", tmp_path / "twelve", *DETECT)
    assert code == 0
    assert scores(out) == pytest.approx(expected, abs=0.003)
    remark = "2 files of more than 8 bits, of which the values need 12: white is 4095 in all of them; give --bits 12"
    assert remark in err
    code, out, err = run("detect", tmp_path / "twelve", *DETECT, "--bits", 16)
    assert scores(out) != pytest.approx(expected, abs=0.003), "nearly black"
    assert "2 files that would fit into 12 of the 16 bits, so read as dark" in err


def test_good_parts_and_the_others_share_what_is_white(run: Run, tmp_path: Path) -> None:
    good = [deep(tmp_path / "good" / f"{i}.png", 4095, seed=i) for i in range(2)]
    deep(tmp_path / "new" / "bright.png", 16000)
    code, _, err = run("detect", tmp_path / "new", "--normal", tmp_path / "good", *DETECT)
    assert code == 0
    assert "3 files of more than 8 bits, of which the values need 14: white is 16383 in all of them" in err
    assert len(good) == 2


@pytest.mark.parametrize("bits", ["7", "17", "twelve", "12.0"])
@pytest.mark.parametrize("command", ["detect", "curate"])
def test_bits_that_no_camera_has(run: Run, command: str, bits: str) -> None:
    code, out, err = run(command, "folder", "--bits", bits)
    assert (code, out) == (2, "")
    assert f"argument --bits: expected a whole number from 8 to 16, got '{bits}'" in err


def test_good_parts_of_a_folder_with_labels(run: Run, tmp_path: Path) -> None:
    for i, name in enumerate(("good/0", "good/1", "good/2", "bad/3", "bad/4", "unsure/5")):
        photograph(tmp_path / "nut" / f"{name}.png", spot=14 * (i in (3, 4)), seed=i)
    photograph(tmp_path / "nut" / "masks" / "3.png", spot=14)
    code, out, err = run("detect", tmp_path / "nut", "--normal", tmp_path / "nut", *DETECT)
    assert code == 0
    assert set(scores(out)) == {"3.png", "4.png", "5.png"}, "good parts are compared with, masks are no parts"
    assert "3 images left out: they are among the good parts" in err
    assert f"no mask for 1 of 2 photographs of defects below {tmp_path / 'nut'}" in err
    code, out, err = run("detect", tmp_path / "nut", "--normal", tmp_path / "nut" / "bad", *DETECT)
    assert (code, out) == (2, "")
    assert "--normal: expected images of good parts, got" in err
    assert "its data set labels them as defective (bad)" in err


def test_folders_whose_names_say_nothing_are_said_to_be_taken_for_good(run: Run, tmp_path: Path) -> None:
    for i, name in enumerate(("red/0", "green/1")):
        photograph(tmp_path / "parts" / f"{name}.png", seed=i)
    photograph(tmp_path / "new.png", seed=7)
    code, _, err = run("detect", tmp_path / "new.png", "--normal", tmp_path / "parts", *DETECT)
    assert code == 0
    expected = "(green, red) do not say which parts are good, so all 2 images are taken for good ones"
    assert f"--normal: the names of the 2 folders below {tmp_path / 'parts'} {expected}" in err


def test_masks_are_left_out_by_name(run: Run, tmp_path: Path) -> None:
    for i in range(3):
        photograph(tmp_path / "in" / "images" / f"{i}.png", spot=6 * i, seed=i)
    marks = tmp_path / "in" / "masks" / "1.png"
    marks.parent.mkdir()
    Image.new("L", (56, 40)).save(marks)
    for command in (["detect", *DETECT], ["curate", "--duplicates", 1, "--out", tmp_path / "out"]):
        code, _, err = run(command[0], tmp_path / "in", *command[1:])
        assert code == 0
        assert f"left out: 1 mask of defects ({marks})" in err
    with open(tmp_path / "out" / "curation.csv", newline="", encoding="utf-8") as file:
        assert len([*csv.DictReader(file)]) == 3


def test_the_image_with_most_pixels_stands_for_its_copies(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    image = Image.open(photograph(folder / "b" / "small.png", 64, 96))
    for name, size in (("a/small2", (90, 60)), ("c/large10", (192, 128)), ("c/large9", (192, 128))):
        (folder / name).parent.mkdir(exist_ok=True)
        image.resize(size, Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / "other.png")
    options = ["--duplicates", 0.9, "--keep", 9, "--clusters", 1, "--out", tmp_path / "out"]
    code, _, _ = run("curate", folder, *options)
    with open(tmp_path / "out" / "curation.csv", newline="", encoding="utf-8") as file:
        found = {Path(row["path"]).stem: row for row in csv.DictReader(file)}
    assert code == 0
    kept = {Path(line).stem for line in (tmp_path / "out" / "kept.txt").read_text().splitlines()}
    assert kept == {"large9", "other"}, "of two as large, the first by name"
    assert {name for name, row in found.items() if row["status"] == "duplicate"} == {"small", "small2", "large10"}
    assert {Path(row["duplicate_of"]).stem for row in found.values() if row["duplicate_of"]} == {"large9"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes with names")
def test_a_pipe_is_named_and_never_waited_for(run: Run, parts: Path, tmp_path: Path) -> None:
    os.mkfifo(parts / "pipe.png")
    (tmp_path / "out").mkdir()
    for command in (["detect", *DETECT], ["curate", "--out", tmp_path / "out"]):
        code, _, err = run(command[0], parts, *command[1:])
        assert code == 1
        assert f"skipped {parts / 'pipe.png'}: a named pipe, not a file" in err
    code, _, err = run("detect", parts / "pipe.png", *DETECT)
    assert code == 2
    assert "none of the 1 files could be read" in err
    for name in ("curation.csv", "contact.png"):
        (tmp_path / "out" / name).unlink()
        os.mkfifo(tmp_path / "out" / name)
    code, _, err = run("curate", parts / "a", "--out", tmp_path / "out")
    assert code == 2
    assert "--out: expected a folder whose" in err


@pytest.fixture
def reached() -> Iterator[Path]:
    """A folder that is reached without the rights of the user who runs the tests."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_a_closed_folder_is_named_and_costs_the_exit_code(run: Run, reached: Path) -> None:
    for i, name in enumerate(("0", "sub/1", "sub/deep/2")):
        photograph(reached / "in" / f"{name}.png", spot=5 * i, seed=i)
    closed = reached / "in" / "sub" / "deep"
    run("detect", reached / "in", *DETECT)  # libraries are loaded with the rights that they need
    closed.chmod(0)
    user = os.geteuid()
    os.seteuid(user or 65534)  # permissions do not bind the superuser
    try:
        for command in (["detect", *DETECT], ["curate", "--duplicates", 1, "--out", reached / "out"]):
            code, _, err = run(command[0], reached / "in", *command[1:])
            assert code == 1
            assert f"skipped {closed}: a folder that cannot be opened (Permission denied)" in err
            assert "2 images" in err
    finally:
        os.seteuid(user)
        closed.chmod(0o755)
