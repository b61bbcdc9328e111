"""`gadkit benchmark`: a table, a results file that goes on where it stopped, and errors that help."""

import json
import signal
from pathlib import Path

import pytest
from photographs import Run

from gadkit import factory
from gadkit.anomaly import benchmark
from gadkit.anomaly.detectors import DETECTORS

FEW = ("--split", "development", "--categories", "mesh", "--products", "1", "--size", "48", "--detectors", "patch-knn")


def kept(path: Path) -> list[dict]:
    return json.loads(path.read_text())["rows"]


def test_a_killed_run_loses_one_cell_at_most_and_ends_with_the_same_table(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (*FEW, "knn", "--shots", "0", "1", "2", "--seeds", "0", "1")
    code, whole, err = run("benchmark", *command, "--out", tmp_path / "whole.json")
    assert code == 0
    assert "patch-knn is left out at 0 shots, which it cannot do" in err
    assert len(kept(tmp_path / "whole.json")) == 8, "2 detectors, 2 shots, 2 seeds"
    measures, count = benchmark.measures, []

    def interrupted(*arguments):
        count.append(1)
        if len(count) == 3:
            signal.raise_signal(signal.SIGINT)
        return measures(*arguments)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(benchmark, "measures", interrupted)
    try:
        code, out, _ = run("benchmark", *command, "--out", tmp_path / "part.json")
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130
    assert len(kept(tmp_path / "part.json")) == 2
    assert len(out.splitlines()) == 4, "what was measured is printed: a head, and patch-knn at 1 and 2 shots"
    code, out, _ = run("benchmark", *command, "--out", tmp_path / "part.json")
    assert (code, out) == (0, whole)
    assert len(count) == 3 + 6, "two cells of eight were there"
    code, out, _ = run("benchmark", *command, "--out", tmp_path / "part.json")
    assert (code, out, len(count)) == (0, whole, 9), "now nothing is left to measure"


def test_a_folder_and_its_table(run: Run, tmp_path: Path) -> None:
    factory.export(tmp_path / "data", ("mesh",), regime="fixture", per_class=4, size=48)
    options = ("--detectors", "winclip", "patch-knn", "--shots", "0", "2", "--seeds", "0", "1", "--size", "48")
    code, out, _ = run("benchmark", "--folder", tmp_path / "data", *options, "--out", tmp_path / "r.json")
    head, _, *lines = out.splitlines()
    assert code == 0
    assert [cell.strip() for cell in head.split("|")[1:4]] == ["detector", "backbone", "shots"]
    assert [line.split("|")[1].strip() for line in lines] == ["patch-knn", "winclip", "winclip"]
    rows = kept(tmp_path / "r.json")
    assert [(r["detector"], r["seed"], r["shots"]) for r in rows] == [
        *(("winclip", 0, 0), ("winclip", 0, 2), ("winclip", 1, 2)),
        *(("patch-knn", 0, 2), ("patch-knn", 1, 2)),
    ]
    assert all(0 <= row[name] <= 1 for row in rows for name in benchmark.MEASURES)
    assert {row["data"] for row in rows} == {str((tmp_path / "data").resolve())}
    assert rows[0]["versions"]["torch"]


BAD = [
    (["--detectors", "magic"], f"--detectors: expected one of {', '.join(DETECTORS)}, got 'magic'"),
    (["--detectors", "knn", "--shots", "0"], "--shots: expected some that knn can do, got 0"),
    (["--shots", "-1"], "--shots: expected a whole number from 0"),
    (["--categories", "nut"], "--categories: expected some of"),
    (["--split", "lost"], "got 'lost'"),
    (["--regime", "wild"], "got 'wild'"),
    (["--products", "0"], "expected a whole number from 1"),
    (["--size", "1"], "--size: expected a whole number from 2"),
    (["--backbone", "eyes"], "--backbone: expected one of"),
    (
        ["--detectors", "winclip", "--backbone", "random"],
        "--backbone: winclip reads, so it expects one of clip-random, clip, clip-scratch, got 'random'",
    ),
    (["--folder", "nowhere"], "no such folder"),
    (["--preset", "huge"], "expected one of tiny, paper, got 'huge'"),
    (["--device", "abacus"], "got 'abacus'"),
    (["--out", "notes.txt"], "expected a results file"),
    (["--out", "other.json"], "expected a new file or one of this command"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_errors_that_help(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("mine")
    other = '{"rows": [{"method": "mae"}, {"method": "dino"}]}'
    Path("other.json").write_text(other)
    split = [] if {"--split", "--folder"} & set(arguments) else ["--split", "development"]
    code, out, err = run("benchmark", *split, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert (Path("notes.txt").read_text(), Path("other.json").read_text()) == ("mine", other), "nothing is overwritten"
