"""`gadkit curate`, run as a user runs it: on files, with a shipped representation."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from photographs import Run, photograph
from PIL import Image

from gadkit import factory
from gadkit.evaluation.features import encode


def save(folder: Path, name: str, images: torch.Tensor) -> None:
    """Write photographs as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{name}{i}.png")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen gears and four bottles; two of the gears are there twice."""
    folder = tmp_path_factory.mktemp("parts")
    gears = factory.render("gear", torch.arange(16), torch.arange(16), size=64).images
    save(folder / "a", "gear", gears)
    save(folder / "b", "gear", gears[:2])
    save(folder / "b", "bottle", factory.render("bottle", torch.arange(4), torch.arange(4), size=64).images)
    return folder


def table(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / "curation.csv", newline="", encoding="utf-8") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def test_what_is_written(run: Run, parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "chosen"
    code, printed, err = run("curate", parts, "--keep", 8, "--clusters", 6, 2, "--duplicates", 0.99999, "--out", out)
    assert code == 0
    assert sorted(path.name for path in out.iterdir()) == ["contact.png", "curation.csv", "kept.txt"]
    rows = table(out)
    assert set(rows) == {str(path) for path in parts.rglob("*.png")}
    kept = (out / "kept.txt").read_text(encoding="utf-8").splitlines()
    assert len(kept) == 8
    assert set(kept) == {path for path, row in rows.items() if row["status"] == "kept"}
    for i in range(2):
        copy, first = (rows[str(parts / where / f"gear{i}.png")] for where in "ba")
        assert (copy["status"], copy["duplicate_of"]) == ("duplicate", first["path"])
        assert (copy["cluster_1"], copy["cluster_2"]) == (first["cluster_1"], first["cluster_2"])
    assert sum(row["status"] == "duplicate" for row in rows.values()) == 2
    assert {row["cluster_1"] for row in rows.values()} == {"1", "2"}
    head, *lines = printed.splitlines()
    assert head.split() == ["cluster", "images", "near-duplicates", "dropped", "kept"]
    assert [sum(column) for column in zip(*(map(int, line.split()) for line in lines), strict=True)][1:] == [
        22,
        2,
        12,
        8,
    ]
    assert "22 images: 2 near-duplicates of others (cosine 1.0000 or more), 12 dropped, 8 kept" in err
    sheet = np.asarray(Image.open(out / "contact.png"))
    assert sheet.shape[1] > 1000
    assert len(np.unique(sheet.reshape(-1, sheet.shape[2]), axis=0)) > 500, "there are photographs on it"

    again = tmp_path / "again"
    run("curate", parts, "--keep", 8, "--clusters", 6, 2, "--duplicates", 0.99999, "--out", again)
    assert (again / "kept.txt").read_bytes() == (out / "kept.txt").read_bytes(), "the same seed, the same choice"


def test_a_broken_file_is_named_and_skipped(run: Run, tmp_path: Path) -> None:
    for i in range(9):
        photograph(tmp_path / "in" / f"{i}.png", *((40, 56) if i % 2 else (60, 40)), spot=4 * i, seed=i)
    (tmp_path / "in" / "torn.png").write_bytes(b"\x89PNG no more")
    code, _, err = run("curate", tmp_path / "in", "--keep", 20, "--out", tmp_path / "out")
    rows = table(tmp_path / "out")
    assert code == 1
    assert f"skipped {tmp_path / 'in' / 'torn.png'}" in err
    assert "1 file could not be read" in err
    assert "asked to keep 20 images, but there are only" in err
    assert "(1 file could not be read" in err
    assert rows[str(tmp_path / "in" / "torn.png")] == {
        "path": str(tmp_path / "in" / "torn.png"),
        "status": "unreadable",
        "duplicate_of": "",
        "cluster_1": "",
    }


def test_more_than_there_is(run: Run, parts: Path, tmp_path: Path) -> None:
    many = ["--keep", 40, "--clusters", 22, 21, "--out", tmp_path]
    code, _, err = run("curate", parts, *many, "--duplicates", 0.99999)
    assert code == 0
    because = "(2 images went as near-duplicates)\n"
    assert f"asked to keep 40 images, but there are only 20 {because}" in err
    assert f"asked for 22 clusters, but there are only 20 images to fill them {because}" in err
    assert len({row["cluster_2"] for row in table(tmp_path).values()}) == 20
    code, _, err = run("curate", parts / "b" / "bottle0.png", parts / "b" / "bottle3.png", *many[:2], *many[-2:])
    assert code == 0
    assert "asked to keep 40 images, but there are only 2\n" in err, "nothing is put down to what was not the cause"


def test_one_product_in_one_fixture(run: Run, tmp_path: Path) -> None:
    photographs = factory.render("gear", torch.arange(32), 7, size=64, nuisance=0.15).images
    save(tmp_path / "in", "gear", photographs)
    Image.open(tmp_path / "in" / "gear5.png").save(tmp_path / "in" / "zz.jpg", quality=90)
    save(tmp_path / "in", "zzz", photographs[:1])
    code, _, err = run("curate", tmp_path / "in", "--keep", 30, "--out", tmp_path / "out")
    rows = {Path(path).name: row for path, row in table(tmp_path / "out").items()}
    gone = {name for name, row in rows.items() if row["status"] == "duplicate"}
    assert code == 0
    assert {"zz.jpg", "zzz0.png"} <= gone, "what was copied or saved again goes"
    assert len(gone) <= 5
    assert "too much alike for this backbone to distinguish a second shot from another part" in err
    assert "so only images saved again (cosine" in err
    assert "more than half" not in err

    code, _, err = run("curate", tmp_path / "in", "--duplicates", 0.2, "--out", tmp_path / "out")
    assert code == 0
    assert "more than half of the images, 33 of 34, went as near-duplicates of others: look at contact.png" in err


def test_an_interrupt_leaves_whole_files_alone(
    run: Run, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "contact.png").write_text("of an earlier run")
    (tmp_path / "curation.csv").write_text("path,status,duplicate_of,cluster_1\n")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    code, _, _ = run("curate", parts, "--keep", 4, "--out", tmp_path)
    assert code == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["contact.png", "curation.csv"]
    assert (tmp_path / "contact.png").read_text() == "of an earlier run"


@pytest.mark.parametrize("name", ["contact.png", "kept.txt", "curation.csv", "curation.unfinished.csv"])
def test_what_somebody_else_has_written_is_not_replaced(run: Run, parts: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    code, out, err = run("curate", parts, "--keep", 2, "--out", tmp_path)
    assert (code, out) == (2, "")
    assert f"--out: expected a folder whose {name} is that of an earlier run, or none, got yours" in err
    assert (tmp_path / name).read_text() == "mine"


def test_a_name_that_looks_like_an_option_is_listed_as_a_path(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in (1, 2):
        photograph(tmp_path / f"-{i}.png", seed=i)
    monkeypatch.chdir(tmp_path)
    assert run("curate", ".", "--keep", 2, "--duplicates", 1, "--out", "out")[0] == 0
    listed = sorted((tmp_path / "out/kept.txt").read_text().splitlines())
    assert listed == ["./-1.png", "./-2.png"]
    assert all((tmp_path / path).is_file() for path in listed)


def test_another_backbone(run: Run, parts: Path, tmp_path: Path) -> None:
    code, _, err = run(
        "curate", parts / "b", "--keep", 2, "--backbone", "clip", "--choice", "closest", "--out", tmp_path
    )
    assert (code, len((tmp_path / "kept.txt").read_text().splitlines())) == (0, 2)
    assert "6 images" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--keep", "0"], "--keep: expected a whole number from 1 to 1000000000, got int 0"),
        (["--keep", "99999999999999999999"], "--keep: expected a whole number from 1 to 1000000000, got int 99"),
        (["--duplicates", "1.5"], "--duplicates: expected a cosine"),
        (["--clusters", "4", "9"], "--clusters: expected numbers that fall from at most 6"),
        (["--clusters", "7"], "--clusters: expected numbers that fall from at most 6"),
        (["--backbone", "nobody"], "--backbone: expected one of random, clip-random, efficientnet-lite0,"),
        (["--preset", "huge"], "preset"),
    ],
)
def test_wrong_questions(run: Run, parts: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    code, out, err = run("curate", parts / "b", *arguments, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "out").exists()


def test_nothing_to_look_at(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"nothing")
    assert run("curate", tmp_path / "none")[0] == 2
    code, _, err = run("curate", tmp_path / "in", "--out", tmp_path / "out")
    assert code == 2
    assert "none of the 1 files could be read" in err
    assert not any((tmp_path / "out").iterdir())


def test_taken_again_is_nearly_the_same_and_not_quite(images: torch.Tensor) -> None:
    from gadkit import zoo
    from gadkit.curation.likeness import retaken, taken_again

    again = taken_again(images)
    assert again.shape == images.shape
    assert 0.5 < (again.float() - images.float()).abs().mean() < 20
    backbone = zoo.load("simclr")
    line = retaken(backbone, images)
    assert 0 < line < 1
    assert retaken(backbone, images, encode(backbone, images).pooled) == pytest.approx(line, abs=1e-5)
    assert retaken(backbone, images, quantile=0.0) <= line
