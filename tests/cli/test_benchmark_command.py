"""`gadkit benchmark`: a table, a results file that goes on where it stopped, and errors that help."""

import io
import json
import os
import re
import shutil
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from photographs import Run

from gadkit import factory, weights, zoo
from gadkit.anomaly import benchmark, comparison
from gadkit.anomaly.detectors import DETECTORS, DetectorSpec, colour
from gadkit.anomaly.detectors.colour import Colour
from gadkit.cli import measuring
from gadkit.evaluation import journal, results
from gadkit.protocols import AnomalyResult, Backbone
from gadkit.weights import Weights
from gadkit.zoo.row import HEADS, Row

DIGITS = ("--semantic", "digits", "--protocol", "one-vs-all", "--categories", "3", "5", "--each", "2", "--size", "32")
CHEAP = (*DIGITS, "--detectors", "colour", "knn", "--backbone", "random", "--shots", "0", "1", "2", "--seeds", "0", "1")
TIMES = re.compile(r"\| +\d+\.\d +\|(?= +\d+\.\d +\|)")  # milliseconds; the next column is megabytes


def kept(path: Path) -> list[dict]:
    return sorted(results.read(path), key=lambda row: (row["detector"], row["heads"] or "", *comparison.cell(row)))


def same(one: str, two: str) -> bool:
    """Whether tables are the same apart from times."""
    return TIMES.sub("| ms |", one) == TIMES.sub("| ms |", two)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The table and the file of an undisturbed run: 2 detectors, 2 classes, 2 seeds, 1 and 2 shots."""
    from gadkit.cli import main

    out, told = tmp_path_factory.mktemp("whole") / "r.json", io.StringIO()
    with redirect_stdout(told), redirect_stderr(sys.__stderr__):
        assert main(["benchmark", *CHEAP, "--out", str(out)]) == 0
    return told.getvalue(), out


def test_a_killed_run_loses_one_cell_at_most_and_ends_with_the_same_table(
    run: Run, whole: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, rows = whole[0], kept(whole[1])
    assert len(rows) == 16
    measures, count, out = benchmark.measures, [], tmp_path / "part.parquet"

    def interrupted(*arguments):
        count.append(1)
        if len(count) == 4:
            signal.raise_signal(signal.SIGINT)
        return measures(*arguments)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(benchmark, "measures", interrupted)
    try:
        code, told, err = run("benchmark", *CHEAP, "--out", out)
    finally:
        signal.signal(signal.SIGINT, before)
    assert "colour is left out at 0 shots, which it cannot do" in err
    assert (code, len(kept(out))) == (130, 3)
    assert len(told.splitlines()) == 4, "what was measured is printed: a head, and colour at 1 and 2 shots"
    with journal.writing(out) as book:  # what a kill leaves: cells in a journal, and half of one
        book.keep(rows[9]), book.keep(rows[12])
    with open(book.path, "ab") as file:
        file.write(json.dumps(rows[5]).encode()[:100])
    code, told, _ = run("benchmark", *CHEAP, "--out", out)
    assert code == 0
    assert same(told, table)
    assert len(count) == 4 + 16 - 3 - 2, "three cells were in the file, and two in the journal"
    assert [os.path.basename(path) for path in tmp_path.iterdir()] == ["part.parquet"], "nothing is left beside it"
    code, again, _ = run("benchmark", *CHEAP, "--out", out)
    assert (code, again, len(count)) == (0, told, 15), "now nothing is left to measure"
    plain = [{name: value for name, value in row.items() if name != "ms"} for row in rows]
    assert [{name: value for name, value in row.items() if name != "ms"} for row in kept(out)] == plain


def test_a_full_disk_is_said_in_words_and_the_next_run_goes_on(
    run: Run, whole: tuple[str, Path], small_disk: Path
) -> None:
    out, filler = small_disk / "r.json", small_disk / "filler"
    results.merge(out, kept(whole[1])[:3], measuring.key, measuring.WHAT)
    before = out.read_bytes()
    room = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    filler.write_bytes(bytes(room - 20_000))  # for the file itself, twice, and a few rows
    code, told, err = run("benchmark", *CHEAP, "--out", out)
    assert code == 74
    assert "the disk is full" in err
    assert "the same command goes on from there" in err
    assert len(told.splitlines()) > 2
    assert out.read_bytes() == before, "the old file is whole"
    filler.unlink()
    code, told, _ = run("benchmark", *CHEAP, "--out", out)
    assert code == 0
    assert same(told, whole[0])
    assert os.listdir(small_disk) == ["r.json"]


def test_folders_and_their_table(run: Run, tmp_path: Path) -> None:
    factory.export(tmp_path / "one", ("mesh",), regime="fixture", per_class=3, size=32)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "two" / "mesh").rename(tmp_path / "two" / "net")
    options = ("--detectors", "colour", "knn", "--backbone", "random", "simclr", "--shots", "2")
    where = ("--folder", tmp_path / "one", tmp_path / "two")
    code, out, _ = run("benchmark", *where, *options, "--seeds", "0", "1", "--size", "32", "--rank", "--out", "r.json")
    Path("r.json").rename(tmp_path / "r.json")
    head, _, *lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.split("\n\n")[0].splitlines()]
    assert code == 0
    assert head[:4] == ["data", "detector", "backbone", "shots"]
    assert [line[:3] for line in lines] == [
        *(["one", "colour", "pixels"], ["one", "knn", "random"], ["one", "knn", "simclr"]),
        *(["two", "colour", "pixels"], ["two", "knn", "random"], ["two", "knn", "simclr"]),
    ]
    assert [line[3:-3] for line in lines[:3]] == [line[3:-3] for line in lines[3:]], "the same photographs"
    assert out.count("clearly behind") == 2 + 1, "a ranking for each folder, and the rule"
    rows = kept(tmp_path / "r.json")
    assert len(rows) == 2 * 3 * 2
    assert all(0 <= row[name] <= 1 for row in rows for name in benchmark.MEASURES)
    assert {(row["category"], row["kind"]) for row in rows} == {("mesh", "texture"), ("net", None)}
    assert {(row["backbone"], row["trained_on"]) for row in rows} == {
        *(("pixels", "nothing"), ("random", "nothing"), ("simclr", "the factory")),
    }
    assert [line[-1] for line in lines[:3]] == ["no", "no", "yes"]
    assert rows[0]["versions"]["torch"]


class Gained(Colour):
    """Colours with a part that was trained before: the sign of the score."""

    def __init__(self, backbone: Backbone, cells: int = 4, *, heads: dict[str, torch.Tensor]) -> None:
        super().__init__(backbone, cells)
        if heads["gain"].shape != (1,):
            raise ValueError(f"heads: expected a gain of shape (1,), got {tuple(heads['gain'].shape)}")
        self.heads = heads

    def _score(self, features: dict[str, torch.Tensor], size: tuple[int, int]) -> AnomalyResult:
        found = super()._score(features, size)
        return AnomalyResult(found.maps * self.heads["gain"], found.scores * self.heads["gain"])


@pytest.fixture
def gained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector with a trained part in the tables, and two files for it."""
    nothing = Weights("gadkit", "gained", "MIT", 0.0, "", "the factory's seen defects", "")
    monkeypatch.setattr(colour, "Gained", Gained, raising=False)
    row = DetectorSpec("colour", "Gained", "colours", few_shot="Colours", backbone="random", heads=True)
    monkeypatch.setitem(DETECTORS, "gained", row)
    monkeypatch.setitem(zoo._BY_NAME, "gained", Row("gained", (HEADS,), nothing, nothing))
    for name, gain in (("plus", torch.ones(1)), ("minus", -torch.ones(1)), ("odd", torch.ones(2))):
        weights.write({"gain": gain}, tmp_path / f"{name}.safetensors", {})


def test_heads_of_ones_own(run: Run, gained: None, tmp_path: Path) -> None:
    options = (*DIGITS, "--detectors", "gained", "colour", "--shots", "2", "--seeds", "0", "--out", tmp_path / "r.json")
    for heads in (f"gained={tmp_path / 'plus.safetensors'}", tmp_path / "minus.safetensors"):
        assert run("benchmark", *options, "--heads", heads)[0] == 0
    rows = [row for row in kept(tmp_path / "r.json") if row["detector"] == "gained"]
    plus, minus = ([row for row in rows if row["heads"].startswith(name)] for name in ("plus", "minus"))
    assert (len(plus), len(minus)) == (2, 2), "heads tell rows apart"
    for one, other in zip(plus, minus, strict=True):
        assert one["image_auroc"] == pytest.approx(1 - other["image_auroc"])
        assert one["trained_on"] == "nothing; heads: unknown"
    code, out, err = run("benchmark", *options, "--heads", tmp_path / "odd.safetensors")
    assert code == 0
    assert "gained on random is left out: heads: expected a gain of shape (1,), got (2,)" in err
    assert "gained" not in out
    assert run("benchmark", *options[:-4], "--heads", "colour=x")[2].endswith("got 'colour=x'\n")


BAD = [
    (["--detectors", "magic"], f"--detectors: expected one of {', '.join(DETECTORS)}, got 'magic'"),
    (["--detectors", "knn", "--shots", "0"], "--shots: expected some that knn can do, got 0"),
    (["--shots", "-1"], "--shots: expected a whole number from 0"),
    (["--categories", "nut"], "--categories: expected some of"),
    (["--split", "lost"], "got 'lost'"),
    (["--regime", "wild"], "got 'wild'"),
    (["--products", "0"], "expected a whole number from 1"),
    (["--size", "1"], "--size: expected a whole number from 2"),
    (["--each", "3"], "--each: expected it with --textiles or --semantic, got it without"),
    (["--protocol", "one-vs-all"], "--protocol: expected it with --semantic, got it without"),
    (["--semantic", "letters"], "--semantic: expected one of digits, mnist, cifar10, got 'letters'"),
    (["--semantic", "digits", "--protocol", "both"], "protocol: expected one of one-vs-all, multi-class, got 'both'"),
    (["--semantic", "mnist", "--data", "nowhere"], "--semantic: expected MNIST in nowhere, as torchvision"),
    (["--textiles", "nowhere"], "no such folder"),
    (["--rank", "speed"], "--rank: expected one of image_auroc"),
    (["--detectors", "patch-knn", "--shots", "1", "--heads", "x"], "nothing: no detector of this run has a trained"),
    (["--backbone", "eyes"], "--backbone: expected one of"),
    (
        ["--detectors", "winclip", "--backbone", "random"],
        "--backbone: winclip reads, so it expects one of clip-random, clip, clip-scratch, clip-pairs, siglip, siglip2, "
        "clip-large, got 'random'",
    ),
    (["--folder", "nowhere"], "no such folder"),
    (["--preset", "huge"], "expected one of tiny, paper, got 'huge'"),
    (["--device", "abacus"], "got 'abacus'"),
    (["--out", "/dev/full"], "/dev/full: expected a results file, got a folder or a device"),
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
    split = [] if {"--split", "--folder", "--semantic", "--textiles"} & set(arguments) else ["--split", "development"]
    code, out, err = run("benchmark", *split, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert (Path("notes.txt").read_text(), Path("other.json").read_text()) == ("mine", other), "nothing is overwritten"
