"""Which files a command looks at, and what it says of those that it does not."""

import csv
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from photographs import Run, photograph
from PIL import Image

from gadkit.cli import curate, sources


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Photographs as they gather: loose ones, folders of some, and in one of these a little data set with a mask."""
    for i in range(3):
        photograph(tmp_path / "photos" / f"loose{i}.png", seed=i)
    nut = tmp_path / "photos" / "nut"
    for i, name in enumerate(("train/good/0", "test/good/0", "test/hole/0", "val/good/0", "ground_truth/hole/0_mask")):
        photograph(nut / f"{name}.png", spot=5 * i, seed=10 + i)
    for name in ("summer.HEIC", "day/b.heic", "day/plan.pdf", "notes.txt", "list.csv", ".hidden.heic"):
        (tmp_path / "photos" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "photos" / name).touch()
    return tmp_path / "photos"


def test_curate_looks_at_every_image_below_a_folder_but_masks(run: Run, mixed: Path, tmp_path: Path) -> None:
    code, _, err = run("curate", mixed, "--duplicates", 1, "--out", tmp_path / "out")
    with open(tmp_path / "out" / "curation.csv", newline="", encoding="utf-8") as file:
        found = {row["path"] for row in csv.DictReader(file)}
    assert found == {str(path) for path in mixed.rglob("*.png") if "ground_truth" not in path.parts}
    assert len(found) == 7
    assert code == 0
    assert "left out: 3 pictures of a kind that is not read (2 .heic, 1 .pdf)" in err


def test_detect_says_what_a_layout_leaves_out(run: Run, mixed: Path) -> None:
    code, out, err = run("detect", mixed, mixed / "day" / "..", "--object", "nut", "--json")
    found = {Path(json.loads(line)["path"]).parent.name for line in out.splitlines()}
    assert (code, found) == (0, {"good", "hole"})
    assert f"left out: 3 of the 7 images below {mixed}: it is taken for a data set in MVTec AD's layout" in err
    assert "left out: 3 pictures of a kind that is not read (2 .heic, 1 .pdf)" in err, "each is counted once"

    named = [mixed, *mixed.glob("loose*.png"), "--normal", mixed / "nut" / "val"]
    code, out, err = run("detect", *named, "--object", "nut", "--json")
    assert len(out.splitlines()) == 5
    assert "does not cover" not in err, "what is named by itself is looked at"


def test_nothing_is_said_where_nothing_is_left_out(run: Run, mixed: Path, tmp_path: Path) -> None:
    for command in (["detect", mixed / "nut" / "test", "--object", "nut"], ["curate", mixed / "nut" / "test"]):
        options = ["--out", tmp_path / command[0]]
        code, _, err = run(*command, *options)
        assert code == 0
        assert "left out" not in err


def test_a_link_to_nothing_is_an_unreadable_file(run: Run, parts: Path, tmp_path: Path) -> None:
    (parts / "gone.png").symlink_to(tmp_path / "nowhere.png")
    for command in (["detect", parts, "--object", "nut"], ["curate", parts, "--out", tmp_path / "out"]):
        code, _, err = run(*command)
        assert code == 1
        assert f"skipped {parts / 'gone.png'}: a link to nothing" in err
        assert "1 file could not be read" in err


def test_a_second_run_does_not_curate_the_first_one_s_sheet(
    run: Run, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(parts)
    images = sorted(str(path.relative_to(parts)) for path in parts.rglob("*.png"))
    assert run("curate", ".", "--duplicates", 1)[0] == 0
    photograph(parts / "curated" / "copies" / "0.png")
    for options in ([], ["--out", "elsewhere"], ["--out", "."]):
        more = [] if not options else ["curated/copies/0.png"]  # beside another DIR, that is a photograph like others
        code, _, err = run("curate", ".", "--duplicates", 1, *options)
        folder = Path(options[1] if options else "curated")
        with open(folder / "curation.csv", newline="", encoding="utf-8") as file:
            assert sorted(row["path"] for row in csv.DictReader(file)) == sorted([*images, *more])
        assert code == 0
        assert "in the output folder, or contact sheets of earlier runs" in err


def test_nothing_but_what_the_command_has_written(run: Run, tmp_path: Path) -> None:
    photograph(tmp_path / "out" / "0.png")
    code, _, err = run("curate", tmp_path, "--out", tmp_path / "out")
    assert code == 2
    assert "got none but 1 in the output folder" in err
    code, _, err = run("curate", tmp_path / "out" / "0.png", "--out", tmp_path / "out")
    assert code == 0, "who names a file wants it"


@pytest.mark.skipif(not shutil.which("tar"), reason="the recipe needs tar")
@pytest.mark.parametrize("given", ["photos", "./photos/", "../work/photos", "{absolute}"])
def test_the_recipe_of_the_help_copies_what_stays(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    folder = tmp_path / "work" / "photos"
    names = [
        "a/0.png",
        "b/0.png",
        "b/deep/two words.png",
        "it's.png",
        "two\nlines.png",
        r"back\tslash.png",
        "../elsewhere.png",
    ]
    for i, name in enumerate(names):
        photograph(folder / name, spot=6 * i, seed=i)
    (folder / "link.png").symlink_to("../elsewhere.png")
    (folder / "torn.png").write_bytes(b"\x89PNG no more")
    monkeypatch.chdir(tmp_path / "work")
    (recipe,) = (line.strip() for line in curate.EXAMPLES.splitlines() if "kept.txt |" in line)
    source = given.format(absolute=folder)
    assert run("curate", source, "--keep", 9, "--duplicates", 1, "--null")[0] == 1, "one is torn"
    subprocess.run(["sh", "-c", recipe], check=True, capture_output=True)
    copies = [path for path in Path("copies").rglob("*") if path.is_file()]
    assert not any(path.is_symlink() for path in copies)
    assert sorted(path.read_bytes() for path in copies) == sorted((folder / name).read_bytes() for name in names)


def test_masks_that_are_named_are_no_photographs(run: Run, tmp_path: Path) -> None:
    for i in range(2):
        photograph(tmp_path / "good" / f"{i}.png", seed=i)
        photograph(tmp_path / "bad" / f"{i}.png", seed=2 + i)
        photograph(tmp_path / "beside" / f"{i}.jpg", seed=4 + i)
        for place in ("masks", "beside"):
            (tmp_path / place).mkdir(exist_ok=True)
            mask = Image.new("L", (64, 48))
            mask.paste(255, (5, 5, 20, 20))
            mask.save(tmp_path / place / f"{i}_mask.png")
    code, out, err = run("detect", *sorted(tmp_path.glob("*")), "--object", "nut", "--json")
    found = {Path(json.loads(line)["path"]).parent.name for line in out.splitlines()}
    assert (code, found) == (0, {"good", "bad", "beside"})
    for command in (["detect", "--object", "nut", "--json"], ["curate", "--out", tmp_path / "out", "--keep", 2]):
        code, out, err = run(command[0], *sorted(tmp_path.glob("beside/*")), *command[1:])
        assert code == 0
        assert len(out.splitlines()) == 2
        assert f"left out: 2 masks of defects ({tmp_path / 'beside' / '0_mask.png'}, " in err
        code, _, err = run(command[0], tmp_path / "masks", *command[1:])
        assert code == 2
        assert "expected photographs, got nothing but masks of defects" in err
    code, _, err = run("detect", tmp_path / "bad", "--object", "nut", "--normal", tmp_path / "masks")
    assert code == 2
    assert "it holds masks of defects" in err


def test_good_parts_are_never_what_the_data_set_around_a_folder_calls_defective(run: Run, tmp_path: Path) -> None:
    names = ("train/good/0", "test/good/0", "test/good/1", "test/hole/0", "test/hole/1")
    for i, name in enumerate(names):
        photograph(tmp_path / "a" / "b" / "c" / "nut" / f"{name}.png", seed=i)
    photograph(tmp_path / "new.png", seed=9)
    for normal, good in (("a/b/c/nut/test", 2), ("a", 3)):
        assert [path.parent.name for path in sources.normal_files(tmp_path / normal)] == ["good"] * good
        code, _, err = run("detect", tmp_path / "new.png", "--object", "nut", "--normal", tmp_path / normal)
        assert code == 0
        assert f"--normal: left out: 2 images that the data set around {tmp_path / normal} labels as defective" in err
    for name in ("good/0", "scratch/0", "masks/scratch/0"):
        photograph(tmp_path / "classes" / f"{name}.png")
    with pytest.raises(ValueError, match="labels them as defective \\(scratch\\)"):
        sources.normal_files(tmp_path / "classes" / "scratch")


def test_a_name_below_a_file_or_too_long_is_no_folder(run: Run, parts: Path, tmp_path: Path) -> None:
    photograph(tmp_path / "new.png")
    for nowhere in (tmp_path / "new.png" / "below", tmp_path / ("x" * 300)):
        code, _, err = run("detect", tmp_path / "new.png", "--object", "nut", "--normal", nowhere)
        assert (code, "no such folder" in err) == (2, True)
    code, _, err = run("detect", tmp_path / "new.png", "--object", "nut", "--out", tmp_path / ("x" * 300))
    assert (code, "the name is longer than the file system allows" in err) == (2, True)
