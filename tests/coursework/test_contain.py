"""A submission costs only itself, whatever it does."""

import os
from pathlib import Path

import pytest

from coursework import contain

LIMITS = contain.Limits(cell_seconds=2.0, seconds=120.0, memory=2 << 30, disk=1 << 20)
needs_fence = pytest.mark.skipif(bool(contain.missing()), reason=f"this machine lacks {contain.missing()}")


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that no submission may read or change."""
    path = tmp_path_factory.mktemp("teacher") / "solutions.txt"
    path.write_text("the solution")
    return path


@pytest.fixture(scope="module")
def hostile(outside: Path) -> dict[str, contain.Outcome]:
    """What becomes of cells that each do something bad, one after the other in one process."""
    cells = {
        "harmless": "x = 1\nprint('fine')",
        "error": "def f(a):\n    return 1 / a",
        "called": "f(0)",
        "loop": "while True:\n    try:\n        pass\n    except Exception:\n        pass",
        "prints": "for _ in range(2000): print('x' * 10_000)",
        "prints past python": "import os\nfor _ in range(200): os.write(1, b'x' * 100_000)",
        "reads": f"open({str(outside)!r}).read()",
        "writes": f"open({str(outside.parent / 'new')!r}, 'w')",
        "reads the book": f"open({str(Path(contain.__file__).parents[1] / '_toc.yml')!r}).read()",
        "network": "import socket\nsocket.create_connection(('127.0.0.1', 9), 1)",
        "asks": "input('your grade?')",
        "memory": "y = bytearray(3 << 30)",
        "environment": "import os\nprint(sorted(os.environ))",
        "leaves": "import sys\nsys.exit(0)",
        "syntax": "def broken(:",
        "still there": "print(x)",
        "disk": "import time\nfor n in range(9): open(str(n), 'wb').write(b'x' * 500_000)\ntime.sleep(1)",
        "after the end": "print(x)",
    }
    os.environ["TOKEN_OF_THE_TEACHER"] = "secret"
    try:
        return dict(zip(cells, contain.run([*cells.values()], LIMITS), strict=True))
    finally:
        del os.environ["TOKEN_OF_THE_TEACHER"]


@needs_fence
def test_one_cell_s_failure_is_its_own(hostile: dict[str, contain.Outcome]) -> None:
    errors = {name: outcome.error for name, outcome in hostile.items()}
    assert errors == {
        **dict.fromkeys(("harmless", "error", "prints", "prints past python", "environment", "still there"), ""),
        "called": "ZeroDivisionError",
        "loop": "OutOfTime",
        "asks": "EOFError",
        "memory": "MemoryError",
        **dict.fromkeys(("reads", "writes", "reads the book"), "PermissionError"),
        "network": "OSError",
        "leaves": "SystemExit",
        "syntax": "SyntaxError",
        **dict.fromkeys(("disk", "after the end"), "Ended"),
    }
    assert hostile["still there"].text == "1\n"
    assert "more than 1 MB" in hostile["disk"].says
    assert hostile["after the end"].says.startswith("not run, because before it")


@needs_fence
def test_what_a_cell_prints_is_kept_in_part(hostile: dict[str, contain.Outcome]) -> None:
    assert hostile["harmless"].text == "fine\n"
    assert 0 < len(hostile["prints"].text) <= 4000
    assert "x" not in hostile["prints past python"].text


@needs_fence
def test_an_error_says_which_cell_and_line_it_came_from(hostile: dict[str, contain.Outcome]) -> None:
    assert hostile["called"].place == (2, 2)
    assert hostile["called"].text == ""  # no traceback, in which a hidden test would stand


@needs_fence
def test_no_file_and_no_secret_gets_in_or_out(hostile: dict[str, contain.Outcome], outside: Path) -> None:
    assert hostile["environment"].text
    assert "TOKEN_OF_THE_TEACHER" not in hostile["environment"].text
    assert outside.read_text() == "the solution"
    assert not (outside.parent / "new").exists()


@needs_fence
@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("import ctypes\nctypes.string_at(0)", "ended by itself"),
        ("import os\nfor n in range(3, 64):\n    try: os.write(n, b'nonsense\\n')\n    except OSError: pass", "stead"),
    ],
)
def test_a_process_that_ends_takes_its_later_cells_with_it(cell: str, reason: str) -> None:
    before, bad, after = contain.run(["print(1)", cell, "print(2)"], LIMITS)
    assert (before.text, before.error) == ("1\n", "")
    assert (bad.error, after.error) == ("Ended", "Ended")
    assert reason in bad.says


@needs_fence
@pytest.mark.slow
def test_a_loop_that_swallows_every_signal_ends_with_the_submission() -> None:
    deaf = "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nsignal.setitimer(signal.ITIMER_PROF, 0)\n"
    deaf += "while True: pass"
    (bad,) = contain.run([deaf], contain.Limits(cell_seconds=1.0, seconds=12.0))
    assert (bad.error, bad.says) == ("Ended", "the submission took more than 12 seconds")


@needs_fence
@pytest.mark.slow
def test_a_gigabyte_is_thrown_away() -> None:
    (bad, good) = contain.run(["print('x' * 10**9)", "print('on')"], contain.Limits(cell_seconds=60.0))
    assert len(bad.text) == 4000
    assert good.text == "on\n"


@pytest.mark.slow
def test_without_the_fence_cells_still_run_apart_and_within_limits() -> None:
    cells = ["import os\nprint(os.getpid())", "while True: pass", "print('on')"]
    first, loop, last = contain.run(cells, LIMITS, contained=False)
    assert int(first.text) != os.getpid()
    assert (loop.error, last.text) == ("OutOfTime", "on\n")
