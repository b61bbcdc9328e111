"""Commands that are interrupted or killed at work, and two at once: whatever happens, no file is half or mixed."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from photographs import Run, photograph

from gadkit.files import LOCK

# a shell's background jobs ignore Ctrl-C, and so does what they start
START = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
START += "from gadkit.cli import main; sys.exit(main(sys.argv[1:]))"
CATEGORIES = ("gear", "bottle", "washer")


def start(*arguments: str | Path) -> subprocess.Popen:
    """The command in a process of its own."""
    command = [sys.executable, "-c", START, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait(process: subprocess.Popen, until: Callable[[], bool]) -> None:
    """Return as soon as something has happened; an error if the process ends before."""
    while not until():
        assert process.poll() is None, f"it ended before: {process.stderr.read()}"
        time.sleep(0.002)


def export(root: Path, *options: str | int) -> list[str | Path]:
    """An export of three categories, long enough to be stopped."""
    names = [word for name in CATEGORIES for word in ("--category", name)]
    return ["data", "export", root, *names, "--per-class", "6", "--size", "48", *options]


def files(folder: Path) -> dict[str, bytes]:
    """What can be seen in a folder: hidden files are the command's own."""
    found = (path for path in folder.rglob("*.png") if not path.relative_to(folder).parts[0].startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, bytes]]:
    """Undisturbed exports with two seeds."""
    from gadkit.cli import main

    folders = {seed: tmp_path_factory.mktemp(f"seed{seed}") for seed in (0, 1)}
    assert [main([str(a) for a in export(folder, "--seed", seed)]) for seed, folder in folders.items()] == [0, 0]
    return {seed: files(folder) for seed, folder in folders.items()}


@pytest.mark.parametrize(
    ("moment", "how"),
    [
        ("*", signal.SIGKILL),
        (".gear.part/train/good/*", signal.SIGKILL),
        (".bottle.part/test/*", signal.SIGKILL),
        (".bottle.part/test/*", signal.SIGINT),
        (".washer.part/ground_truth/*", signal.SIGTERM),
    ],
)
def test_a_stopped_export_goes_on(whole: dict, run: Run, tmp_path: Path, moment: str, how: signal.Signals) -> None:
    with start(*export(tmp_path)) as process:
        wait(process, lambda: any(path.name != LOCK for path in tmp_path.glob(moment)))
        process.send_signal(how)
        code = process.wait()
    assert code in ((130,) if how == signal.SIGINT else (-how,)) or code == 0, "it may have been done just then"
    there = files(tmp_path)
    names = {name.split("/")[0] for name in there}
    assert there == {k: v for k, v in whole[0].items() if k.split("/")[0] in names}, "no half category"
    before = {
        path: path.stat().st_mtime_ns
        for path in tmp_path.rglob("*.png")
        if path.relative_to(tmp_path).parts[0] in names
    }
    assert run(*export(tmp_path))[0] == 0
    assert files(tmp_path) == whole[0]
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what was finished is not made again"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == sorted(CATEGORIES)


def test_two_exports_into_one_folder_do_not_mix(whole: dict, run: Run, tmp_path: Path) -> None:
    both = [start(*export(tmp_path, "--seed", seed)) for seed in (0, 1)]
    errors = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 2], errors
    winner, loser = codes.index(0), errors[codes.index(2)]
    assert files(tmp_path) == whole[winner]
    assert "expected a folder that no other run writes to" in loser or "was begun with" in loser
    code, _, err = run(*export(tmp_path, "--seed", 1 - winner))
    assert (code, files(tmp_path)) == (2, whole[winner])
    assert f"expected seed {winner}, as {tmp_path} was begun with, got seed {1 - winner}" in err


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Thousands of names for a few photographs, behind forty of which one cannot be read."""
    shots = [photograph(tmp_path / "shots" / f"{i}.png", spot=4 * i, seed=i) for i in range(8)]
    (tmp_path / "in").mkdir()
    for i in range(3000):
        os.link(shots[i % len(shots)], tmp_path / "in" / f"{i:04}.png")
    (tmp_path / "in" / "0040.png").unlink()
    (tmp_path / "in" / "0040.png").write_bytes(b"\x89PNG")
    return tmp_path / "in"


def read_until_skipped(process: subprocess.Popen) -> None:
    """Wait for the remark on the unreadable file, forty files after the first."""
    for line in process.stderr:
        if line.startswith("gadkit: skipped"):
            return
    pytest.fail("it ended without a remark")


def test_an_interrupt_keeps_what_was_read(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "curation.csv").write_text("path,status,duplicate_of\r\nearlier,kept,\r\n")
    with start("curate", many, "--out", out) as process:
        read_until_skipped(process)
        process.send_signal(signal.SIGINT)
        assert process.stderr.read().endswith("gadkit: interrupted\n")
        assert process.wait() == 130
    assert sorted(os.listdir(out)) == ["curation.csv", "curation.unfinished.csv"]
    assert "earlier,kept" in (out / "curation.csv").read_text(), "the results of an earlier run stay"
    with open(out / "curation.unfinished.csv", newline="", encoding="utf-8") as file:
        rows = [(row["path"], row["status"]) for row in csv.DictReader(file)]
    assert rows[-1] == (str(many / "0040.png"), "unreadable")
    known = [str(many / f"{i:04}.png") for i in range(3000) if i != 40]
    assert rows[:-1] == [(path, "undecided") for path in known[: len(rows) - 1]]
    assert len(rows) > 32


def test_an_interrupt_keeps_the_scores_so_far(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with start("detect", many, "--detector", "colour", "--normal", tmp_path / "shots", "--out", out) as process:
        read_until_skipped(process)
        process.send_signal(signal.SIGINT)
        table, error = process.communicate()
    assert (process.returncode, error.splitlines()[-1]) == (130, "gadkit: interrupted")
    assert f"the scores until now: {out / 'scores.unfinished.csv'}" in error
    assert os.listdir(out) == ["scores.unfinished.csv"]
    with open(out / "scores.unfinished.csv", newline="", encoding="utf-8") as file:
        scored = [row["path"] for row in csv.DictReader(file)]
    assert len(scored) >= 32
    assert sorted(scored) == [str(many / f"{i:04}.png") for i in range(3000) if i != 40][: len(scored)]
    assert len(table.splitlines()) == 1 + len(scored)


def test_a_killed_run_gives_its_folder_free(many: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    with start("curate", many, "--out", out) as process:
        read_until_skipped(process)
        code, _, error = run("curate", tmp_path / "shots", "--out", out)
        process.kill()
        process.wait()
    assert code == 2
    assert f"--out: expected a folder that no other run writes to, but one has {out} at this moment" in error
    assert [name for name in os.listdir(out) if name != LOCK] == []
    assert run("curate", tmp_path / "shots", "--keep", 2, "--duplicates", 1, "--out", out)[0] == 0
    assert sorted(os.listdir(out)) == ["contact.png", "curation.csv", "kept.txt"]
    shutil.rmtree(many)
