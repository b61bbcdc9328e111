"""`gadkit data export` and `gadkit train clip`: what is asked for arrives where it should."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from photographs import Run

from gadkit import factory, methods
from gadkit.data.folders import ImageFolder
from gadkit.factory.mvtec import MANIFEST
from gadkit.factory.pool import unlabelled
from gadkit.files import claimed

FEW = ["--category", "gear", "--per-class", "3", "--size", "32"]


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def test_an_exported_category_reads_back_as_what_was_rendered(run: Run, tmp_path: Path) -> None:
    code, out, err = run("data", "export", tmp_path, *FEW, "--regime", "fixture", "--seed", "5")
    folder = ImageFolder(tmp_path, split="test")
    expected = factory.test_set("gear", 0, 5, "fixture", 3, 1, 3, 32)
    assert (code, out, folder.layout, folder.categories) == (0, "", "mvtec", ["gear"])
    assert f"{3 + len(folder)} images in {tmp_path}: gear" in err
    found = {(photo.defect, photo.image.numpy().tobytes()) for photo in folder}
    assert found == {(d, x.numpy().tobytes()) for d, x in zip(expected.defects, expected.images, strict=True)}
    masks = torch.stack([photo.mask for photo in folder])
    assert int(masks.sum()) == int(expected.masks.sum())


def test_same_seed_same_pixels(run: Run, tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert run("data", "export", tmp_path / name, *FEW, "--seed", seed)[0] == 0
    assert files(tmp_path / "a") == files(tmp_path / "b") != files(tmp_path / "c")


def test_a_split_is_what_the_factory_says(run: Run, tmp_path: Path) -> None:
    code, _, _ = run("data", "export", tmp_path, "--split", "development", "--per-class", "1", "--size", "16")
    assert code == 0
    assert {path.name for path in tmp_path.iterdir()} == {*factory.split("development"), MANIFEST}


def test_a_folder_that_is_there_stays_as_it_is(run: Run, tmp_path: Path) -> None:
    run("data", "export", tmp_path, *FEW)
    before = files(tmp_path)
    code, _, err = run("data", "export", tmp_path, *FEW, "--seed", "9")
    assert (code, files(tmp_path)) == (2, before)
    assert f"expected seed 0, as {tmp_path} was begun with, got seed 9: take another folder; nothing was written" in err
    (tmp_path / "washer").mkdir()
    code, _, err = run("data", "export", tmp_path, *FEW, "--category", "washer")
    assert (code, files(tmp_path)) == (2, before)
    assert f"{tmp_path / 'washer'} exists; nothing was written" in err
    code, _, err = run("data", "export", tmp_path, *FEW, "--category", "bottle")
    assert code == 0, "another category of the same kind has a place beside it"
    assert {name: data for name, data in files(tmp_path).items() if name.startswith("gear")} == before


def test_a_manifest_that_is_none_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('["gear"]')
    code, _, err = run("data", "export", tmp_path, *FEW)
    assert (code, files(tmp_path)) == (2, {})
    assert f"{tmp_path / MANIFEST}: expected what an export wrote down" in err


def test_weights_of_somebody_elses_run_are_kept(run: Run, tmp_path: Path) -> None:
    (tmp_path / "rotation.safetensors").write_text("mine")
    code, out, err = run("train", "rotation", "--photographs", 256, "--out", tmp_path)
    assert (code, out) == (2, "")
    assert f"--out: expected a folder for a new run or that of an earlier one, got one with {tmp_path}" in err
    assert [path.name for path in tmp_path.iterdir()] == ["rotation.safetensors"]


def test_a_folder_is_tried_before_the_work(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for arguments in (["train", "clip", "--out"], ["data", "export"]):
        code, out, err = run(*arguments, tmp_path / "file")
        assert (code, out) == (2, "")
        assert f"expected a folder that can be written to, got {tmp_path / 'file'}" in err
        with claimed(tmp_path / "busy"):
            process = subprocess.run(
                [sys.executable, "-m", "gadkit", *arguments, tmp_path / "busy"], capture_output=True, text=True
            )
        assert process.returncode == 2
        assert "expected a folder that no other run writes to" in process.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "export", "x", "--category", "sprocket"], "got 'sprocket'"),
        (["data", "export", "x", "--per-class", "0"], "per_class: expected a whole number from 1 to 2048, got int 0"),
        (["data", "export", "x", "--per-class", "99999999999999999999"], "from 1 to 2048, got int"),
        (["data", "export", "x", "--size", "1"], "size: expected"),
        (["data", "export", "x", "--split", "everything"], "--split"),
        (["data"], "COMMAND"),
        (["train", "clip", "--steps", "0", "--out", "x"], "--steps: expected a whole number from 1, got int 0"),
        (["train", "clip", "--steps", "many"], "--steps"),
    ],
)
def test_errors_that_help(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert not any(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [(["--help"], "examples:"), (["data", "export", "--help"], "MVTec"), (["--version"], "gadkit 0.")],
)
def test_it_explains_itself(run: Run, arguments: list[str], shown: str) -> None:
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert shown in out


def test_a_training_says_how_it_goes_where_there_is_no_terminal(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = unlabelled(256)
    monkeypatch.setattr(methods, "training_data", lambda needs, seed, folder: {"images": few.images})
    arguments = ["train", "rotation", "--photographs", 256, "--out", tmp_path]
    code, out, err = run(*arguments)
    assert (code, out) == (0, f"{tmp_path / 'rotation.safetensors'}\n")
    assert "gadkit: step 2 of 2, loss 1." in err
    code, _, err = run(*arguments)
    assert code == 0
    assert f"gadkit: {tmp_path}: going on from step 2 of 2" in err
