"""What the command does with standard output and standard error, and the code that it ends with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from photographs import Run, photograph

from gadkit.cli import curate, main, streams
from gadkit.cli.streams import printable

GADKIT = [sys.executable, "-m", "gadkit"]
BROKEN = "import sys; sys.modules['torch'] = None; from gadkit.cli import main; sys.exit(main({!r}))"  # without torch
full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    """A command that writes a table, quickly."""
    for i in range(2):
        photograph(tmp_path / "in" / f"{i}.png", spot=9 * i, seed=i)
    return ["curate", str(tmp_path / "in"), "--keep", "1", "--duplicates", "1", "--out", str(tmp_path / "out")]


def shell(line: str, arguments: list[str]) -> subprocess.CompletedProcess:
    """Run the command with the redirections of a shell line."""
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["sh", "-c", f'"$@" {line}', "sh", *GADKIT, *arguments], capture_output=True, text=True, env=usual
    )


@pytest.mark.parametrize(
    "closed", [*(pytest.param(one, marks=pytest.mark.slow) for one in (">&-", "2>&-")), ">&- 2>&-"]
)
def test_a_service_has_no_streams(two: list[str], tmp_path: Path, closed: str) -> None:
    assert shell(closed, two).returncode == 0
    assert (tmp_path / "out" / "kept.txt").is_file()


@full_device
def test_a_full_disk_behind_standard_output_is_named_and_the_files_are_written(two: list[str], tmp_path: Path) -> None:
    done = shell(">/dev/full", two)
    assert (done.returncode, done.stdout) == (1, "")
    assert "gadkit: not written: standard output: the disk is full\n" in done.stderr
    assert "Exception" not in done.stderr
    assert len((tmp_path / "out" / "kept.txt").read_text().splitlines()) == 1
    done = shell(">/dev/full", ["--help"])
    assert (done.returncode, done.stderr) == (74, "gadkit: error: standard output: the disk is full\n")


@full_device
def test_the_work_goes_on_when_remarks_cannot_be_written(two: list[str], tmp_path: Path) -> None:
    assert shell("2>/dev/full", two).returncode == 0
    assert (tmp_path / "out" / "kept.txt").is_file()


def test_a_reader_of_remarks_who_leaves_does_not_stop_the_work(two: list[str], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*GADKIT, *two], stdout=subprocess.DEVNULL, stderr=writer)
    os.close(writer)
    assert done.returncode == 0
    assert (tmp_path / "out" / "kept.txt").is_file()


def test_no_streams_within_a_program(two: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(two) == 0
    assert sys.stdout is None
    assert main(["curate", str(tmp_path / "none")]) == 2


def test_a_mistake_in_the_program_is_told_from_all_that_was_foreseen(
    run: Run, two: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(_: object) -> int:
        return len(None)

    monkeypatch.setattr(curate, "run", wrong)
    code, out, err = run(*two)
    assert (code, out) == (70, "")
    assert err == (
        "gadkit: internal error: TypeError: object of type 'NoneType' has no len() (GADKIT_DEBUG=1 shows where)\n"
    )
    monkeypatch.setenv("GADKIT_DEBUG", "1")
    done = subprocess.run([sys.executable, "-c", BROKEN.format(two)], capture_output=True, text=True)
    assert done.returncode == 70
    assert "Traceback" in done.stderr


def test_a_broken_installation_is_not_a_skipped_file(two: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", BROKEN.format(two)], capture_output=True, text=True)
    assert done.returncode == 70
    assert done.stderr.startswith("gadkit: internal error: ModuleNotFoundError: ")
    assert len(done.stderr.splitlines()) == 1


def test_the_system_stops_it(run: Run, two: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: object) -> int:
        raise PermissionError(13, "Permission denied", "/somewhere/file")

    monkeypatch.setattr(curate, "run", stop)
    assert run(*two) == (74, "", "gadkit: error: /somewhere/file: no permission\n")


@pytest.mark.parametrize("seed", ["-1", "4294967296", "one", "1.5"])
def test_seeds_that_no_generator_takes(run: Run, two: list[str], seed: str) -> None:
    for arguments in (two, ["train", "clip"], ["data", "export", "x"]):
        code, out, err = run(*arguments, "--seed", seed)
        assert (code, out) == (2, "")
        assert "argument --seed: " in err


def test_help_waits_for_no_library() -> None:
    code = "import sys; from gadkit.cli import COMMANDS, main\n"
    code += "codes = [main([name, '--help']) for name in COMMANDS] + [main(['--help'])]\n"
    code += "print({*codes}, {'torch', 'numpy', 'tqdm', 'PIL'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "{0} set()"
    assert "exit codes:" in done.stdout


def test_names_do_not_move_the_cursor() -> None:
    assert printable("a\x1b[2Jb\n\udcff螺.png") == r"a\x1b[2Jb\n\udcff螺.png"
    assert streams.results()
