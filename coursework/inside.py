"""Runs the cells of one submission, in a process that has nothing to lose.

It is started by `coursework.contain`, which sends a cell a line and gets an answer a line.  Before the first cell the
process gives up what it does not need: it can read the libraries and its own empty folder only, write into that folder
only, and is killed beyond its memory, its seconds of processor time or its size of a file.  What can't be given up by
a process itself, the network above all, `contain` takes away from outside.

Book: coursework/teachers
"""

import ctypes
import io
import json
import os
import re
import resource
import signal
import sys
import sysconfig
from pathlib import Path
from typing import Any

RULESET, RULE, RESTRICT = 444, 445, 446  # the system calls of Landlock, the same on every architecture
NO_NEW_PRIVILEGES = 38
READ = 0b1101  # run a file, read a file, list a folder
EVERYTHING = (1 << 15) - 1  # what the third version of Landlock knows of: reading, writing, making, moving, cutting
CELL = re.compile(r"<ipython-input-(\d+)-")  # how IPython calls the code of a cell in a traceback
MOST = 4000  # characters of what a cell printed, and of a message, that are kept


class OutOfTime(BaseException):
    """A cell took too long; no `except Exception` of a student's swallows it."""


class Rule(ctypes.Structure):
    """Landlock's `path_beneath_attr`."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


class Kept(io.StringIO):
    """A stream that keeps the beginning of what is printed, and throws the rest away."""

    def write(self, text: str) -> int:
        """As a stream does."""
        super().write(text[: max(0, MOST - self.tell())])
        return len(text)


def landlock() -> int:
    """The version of Landlock that the kernel has, 0 for none."""
    if sys.platform != "linux":
        return 0
    return max(0, ctypes.CDLL(None, use_errno=True).syscall(RULESET, None, 0, 1))


def shut(readable: list[str], writable: list[str]) -> None:
    """Let this process and its children reach these folders only, for good.  Raises OSError where it can't be done."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(number: int, *arguments: Any) -> int:
        result = libc.syscall(number, *arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), "Landlock")
        return result

    handled = ctypes.c_uint64(EVERYTHING)
    rules = call(RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0)
    for folders, allowed in ((readable, READ), (writable, EVERYTHING)):
        for folder in filter(os.path.exists, folders):
            handle = os.open(folder, os.O_PATH)
            right = allowed if os.path.isdir(folder) else allowed & 0b111  # of a file: run, write, read
            call(RULE, rules, 1, ctypes.byref(Rule(right, handle)), 0)
            os.close(handle)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    call(RESTRICT, rules, 0)


def limit(memory: int, seconds: int, file: int) -> None:
    """The most bytes of memory, seconds of processor time and bytes of a file that this process may use."""
    sizes = {"DATA": memory, "CPU": seconds, "FSIZE": file, "CORE": 0, "NPROC": 64}
    for name, value in sizes.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


def libraries(package: Path) -> list[str]:
    """The folders that hold Python, what is installed, and gadkit: not the book, and not other people's work."""
    installed = [*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix]
    beside = [path for path in sys.path if path.endswith("-packages")]
    system = ["/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/sys", "/dev"]
    return [*installed, *beside, *system, str(package)]


class Shell:
    """IPython without a terminal, a history or a kernel: one cell after the other, each within its seconds."""

    def __init__(self, seconds: float) -> None:
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        config = Config({"HistoryManager": {"enabled": False}, "InteractiveShell": {"colors": "nocolor"}})
        self.shell, self.seconds = InteractiveShell.instance(config=config), seconds
        self.shell.showtraceback = self.shell.showsyntaxerror = lambda *_, **__: None  # they would print hidden tests
        for alarm in (signal.SIGPROF, signal.SIGALRM):
            signal.signal(alarm, self._late)

    def _late(self, *_: Any) -> None:
        raise OutOfTime(f"the cell took more than {self.seconds:g} seconds")

    def _clock(self, seconds: float) -> None:
        """Seconds of the processor, and, for a cell that sleeps, four times as many of the clock on the wall."""
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, 4 * seconds)

    def run(self, code: str) -> dict[str, Any]:
        """What a cell printed, and the error that it ended with: its type, its message and the cell it came from."""
        kept = Kept()
        out, sys.stdout, sys.stderr = (sys.stdout, sys.stderr), kept, kept
        self._clock(self.seconds)
        try:
            result = self.shell.run_cell(code, store_history=True)
            error = result.error_before_exec or result.error_in_exec
        except BaseException as raised:  # whatever a cell does, the next one has its turn
            error = raised
        finally:
            self._clock(0)
            sys.stdout, sys.stderr = out
        return {"text": kept.getvalue(), "error": error and describe(error)}


def describe(error: BaseException) -> dict[str, Any]:
    """An error without its traceback: its type, its message, and the innermost line of a cell that it passed."""
    place, step = None, error.__traceback__
    while step:
        if found := CELL.match(step.tb_frame.f_code.co_filename):
            place = [int(found[1]), step.tb_lineno]
        step = step.tb_next
    return {"name": type(error).__name__, "says": str(error)[:MOST], "place": place}


def main(order: dict[str, Any]) -> None:
    """Shut the doors and serve."""
    asks, answers = os.fdopen(os.dup(0), "r"), os.fdopen(order["answers"], "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)  # a library that prints past Python, or a cell that reads, meets nothing
    sys.path.insert(0, str(Path(order["package"]).parent))
    import torch

    import gadkit  # noqa: F401 - found while its folder can still be listed

    torch.set_num_threads(1)
    shell = Shell(order["cell_seconds"])
    if order["shut"]:
        shut(libraries(Path(order["package"])), [os.getcwd(), os.devnull])
    limit(order["memory"], order["seconds"], order["file"])
    answers.write("ready\n")
    answers.flush()
    for line in asks:
        answers.write(json.dumps(shell.run(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
