"""`gadkit fit` and `gadkit detect --fitted`: the same answers as with the good parts at hand."""

import re
from pathlib import Path

import pytest
from photographs import Run, photograph

from gadkit.anomaly import fitted


def answers(run: Run, parts: Path, out: Path, *options: str | Path) -> tuple[str, str, str, list[str]]:
    """The table, scores.csv, the report and the summary."""
    code, table, err = run("detect", parts, "--out", out, *options)
    assert code == 0, err
    summary = [line for line in err.splitlines() if "threshold" in line]
    return table, (out / "scores.csv").read_text(), (out / "report.html").read_text(encoding="utf-8"), summary


@pytest.mark.parametrize(
    ("options", "more"),
    [
        (["--object", "nut"], []),
        (["--detector", "knn", "--backbone", "random"], ["--threshold-quantile", "0.5"]),
        (["--detector", "patch-knn", "--backbone", "random", "--tiles", "32"], []),
        (["--detector", "patch-knn", "--backbone", "random", "--bank", "0.1"], ["--threshold", "0.3"]),
    ],
    ids=" ".join,
)
def test_the_same_as_with_the_good_parts(
    run: Run, parts: Path, good: Path, tmp_path: Path, options: list[str], more: list[str]
) -> None:
    code, out, err = run("fit", "--normal", good, *options, "--out", tmp_path / "nut.gad")
    assert (code, out) == (0, "")
    assert f"with 4 good parts: {tmp_path / 'nut.gad'}" in err
    there = answers(run, parts, tmp_path / "a", "--normal", good, *options, *more)
    here = answers(run, parts, tmp_path / "b", "--fitted", tmp_path / "nut.gad", *more)
    assert here == there
    assert "threshold" in here[3][0]


def test_a_detector_fitted_before_replaces_only_its_like(run: Run, good: Path, tmp_path: Path) -> None:
    options = ("--normal", good, "--detector", "knn")
    (tmp_path / "mine.gad").write_text("my notes")
    code, _, err = run("fit", *options, "--out", tmp_path / "mine.gad")
    assert (code, (tmp_path / "mine.gad").read_text()) == (2, "my notes")
    assert "--out: expected a new name, or that of a fitted detector, got another file" in err
    assert run("fit", *options, "--out", tmp_path / "nut.gad")[0] == 0
    (good / "3.png").unlink()
    assert run("fit", *options, "--out", tmp_path / "nut.gad")[0] == 0
    assert fitted.read(tmp_path / "nut.gad")[1].parts == 3


def test_what_goes_wrong_is_named(run: Run, parts: Path, good: Path, tmp_path: Path) -> None:
    path = tmp_path / "nut.gad"
    assert run("fit", "--normal", good, "--detector", "knn", "--backbone", "random", "--out", path)[0] == 0
    words = ("--normal", good, "--detector", "winclip")
    bad = {
        ("fit", "--normal", good, "--out", tmp_path / "nut.txt"): "expected a name that ends in .gad",
        ("fit", *words, "--out", path): '--object: expected a text such as "metal nut", got nothing',
        ("fit", *words, "--object", "n", "--bank", "9", "--out", path): "--bank: expected it with patch-knn",
        ("fit", "--normal", good, "--detector", "knn", "--weights", "no", "--out", path): "--weights: expected a file",
        ("fit", *words, "--object", "n", "--backbone", "random", "--out", path): "winclip reads, so",
        ("fit", "--out", path): "the following arguments are required: --normal",
        ("detect", parts, "--fitted", tmp_path / "none.gad"): "no such file",
        ("detect", parts, "--fitted", path, "--normal", good): "not allowed with argument",
        ("detect", parts, "--fitted", path, "--object", "n"): "--fitted: expected it without --object",
        ("detect", parts, "--fitted", path, "--detector", "knn"): "--fitted: expected it without --detector",
        ("detect", parts, "--fitted", path, "--tiles", "none"): "--fitted: expected it without --tiles",
        ("detect", parts, "--fitted", parts / "b" / "0.png"): "which is none or has been torn",
    }
    for command, message in bad.items():
        code, out, err = run(*command)
        assert (code, out) == (2, "")
        assert message in err, err
    path.write_bytes(path.read_bytes()[:-3])
    code, _, err = run("detect", parts, "--fitted", path)
    assert code == 2
    assert "torn or damaged" in err


def test_other_eyes_are_refused(run: Run, parts: Path, good: Path, tmp_path: Path) -> None:
    """A checkpoint of one's own: it has to be named again, and has to be the same one."""
    from gadkit.weights import ASSETS

    path, own = tmp_path / "nut.gad", tmp_path / "own.safetensors"
    own.write_bytes((ASSETS / "simclr.safetensors").read_bytes())
    options = ("--normal", good, "--detector", "patch-knn", "--backbone", "simclr", "--weights", own)
    assert run("fit", *options, "--out", path)[0] == 0
    code, _, err = run("detect", parts, "--fitted", path)
    assert (code, "--weights: expected the checkpoint that it was fitted with, own.safetensors" in err) == (2, True)
    assert run("detect", parts, "--fitted", path, "--weights", own)[0] == 0
    assert run("fit", "--normal", good, "--detector", "patch-knn", "--backbone", "dino", "--out", path)[0] == 0
    code, _, err = run("detect", parts, "--fitted", path, "--weights", own)
    assert code == 2
    assert re.search(r"weights: expected those of dino|one of other weights", err)


def test_large_photographs_are_cut_into_tiles_by_themselves(run: Run, tmp_path: Path) -> None:
    for i in range(2):
        photograph(tmp_path / "good" / f"{i}.png", 200, 260, seed=i)
    photograph(tmp_path / "new" / "spot.png", 200, 260, spot=4, seed=5)
    photograph(tmp_path / "new" / "small.png", 60, 90, seed=6)
    options = ("--normal", tmp_path / "good", "--detector", "patch-knn", "--backbone", "random")
    code, out, err = run("detect", tmp_path / "new", *options)
    assert code == 1
    assert "tiles of 96 x 96 pixels, 12 for a photograph of 200 x 260: at most" in err
    assert f"skipped {tmp_path / 'new' / 'small.png'}: expected at least 96 x 96 pixels, a tile, got 60 x 90" in err
    assert len(out.splitlines()) == 2
    code, out, err = run("detect", tmp_path / "new", *options, "--tiles", "none")
    assert (code, len(out.splitlines()), "tiles of" in err) == (0, 3, False)


def test_photographs_that_are_too_large_or_too_small_are_named(run: Run, parts: Path, good: Path) -> None:
    dot = photograph(parts / "dot.png", 5, 7)
    options = ("--normal", good, "--detector", "knn", "--backbone", "random")
    code, out, err = run("detect", parts, *options)
    assert (code, len(out.splitlines())) == (1, 5)
    assert f"skipped {dot}: expected at least 8 pixels along one side, as a patch has, got 5 x 7" in err
    code, out, err = run("detect", parts, *options, "--max-pixels", "2300")
    assert (code, len(out.splitlines())) == (1, 5)
    assert f"skipped {good / '0.png'}: expected at most 2300 pixels (--max-pixels), got 5040" in err
