"""`gadkit prompts`, run as a user runs it, and what `gadkit detect` makes of its file."""

import json
from pathlib import Path

import pytest
from photographs import Run

from gadkit.anomaly.hybrid import HybridPrompts


def test_a_file_for_ones_own_part(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "nut.json"
    asked = ["--object", "metal nut", "--defect", "scratch", "--defect", "dent on {}", "--area", "0.3", "--count", 2]
    code, printed, err = run("prompts", *asked, "--inside", "0.5", "--keep", 3, "--out", out)
    assert (code, printed) == (0, "")
    assert f"prompts: {out}" in err
    assert "saa+ will look for defect on metal nut, damage on metal nut, flaw on metal nut, scratch, dent on" in err
    expected = HybridPrompts(
        specific=("scratch", "dent on {}"), noun="metal nut", count=2, area=0.3, inside=0.5, keep=3
    )
    assert HybridPrompts.read(out) == expected
    assert run("prompts", *asked, "--out", out)[0] == 0, "one of ours may be replaced"
    assert HybridPrompts.read(out).keep == 5


def test_without_a_file_it_is_printed(run: Run) -> None:
    code, printed, _ = run("prompts", "--object", "pill", "--general", "crack in {}")
    assert code == 0
    assert json.loads(printed)["general"] == ["crack in {}"]
    assert json.loads(printed)["noun"] == "pill"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--object", " "], "noun: expected a text"),
        (["--object", "nut", "--area", "2"], "area: expected a share in (0, 1], got float 2.0"),
        (["--object", "nut", "--keep", "0"], "keep: expected a whole number from 1"),
        (["--object", "nut", "--defect", " "], "specific: expected texts"),
        (["--object", "nut", "--out", "nut.txt"], "--out: expected a name that ends in .json"),
        (["--object", "nut", "--out", "other.json"], "got another file, other.json"),
        (["--object", "nut", "--out", "other.json/nut.json"], "--out: expected a folder that can be written to"),
        ([], "--object"),
    ],
    ids=str,
)
def test_errors_that_help(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.json").write_text("{}")
    code, out, err = run("prompts", *arguments)
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--object", "nut", "--prompts", "nut.json"], "--prompts: expected it with saa, saa+, got it with winclip"),
        (["--object", "nut", "--finder", "owl-vit"], "--finder: expected it with saa, saa+, got it with winclip"),
        (["--detector", "saa+", "--object", "nut", "--segmenter", "clip"], "--segmenter: expected one of"),
    ],
    ids=str,
)
def test_options_for_detectors_that_have_them(run: Run, parts: Path, arguments: list[str], message: str) -> None:
    code, out, err = run("detect", parts, *arguments)
    assert (code, out) == (2, "")
    assert message in err
