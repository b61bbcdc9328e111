"""Run the cells of a submission so that it costs only itself.

Every submission gets a new Python in a new folder, without a network (a network namespace of its own), without the
other processes of the machine (a process namespace, which ends with it), without the files of the machine (Landlock,
see `coursework.inside`), and with an end to its time, memory and disk.  What a cell prints is kept in part.

It is a fence against accidents and curiosity.  In the process itself a student's code and the tests stand side by side,
as in every grader of notebooks: code that sets out to deceive the tests can, and a reader of it will see that.

Book: coursework/teachers
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from select import select
from typing import Any

import gadkit
from coursework import inside

NAMESPACES = ("unshare", "--user", "--map-current-user", "--net", "--ipc", "--pid", "--fork", "--kill-child")
GLANCE = 0.2  # seconds between two looks at the disk
ANSWER = 1 << 20  # bytes, the longest answer to a cell
KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "SYSTEMROOT")  # of the environment; no token of the teacher's gets in


@dataclass(frozen=True)
class Limits:
    """What a submission may use: seconds a cell and in all, bytes of memory, of one file and of its whole folder."""

    cell_seconds: float = 30.0
    seconds: float = 300.0
    memory: int = 4 << 30
    disk: int = 64 << 20


USUAL = Limits()


@dataclass(frozen=True)
class Outcome:
    """What a cell printed, and the error it ended with: type, message, and (cell, line) of code of a cell, or None."""

    text: str = ""
    error: str = ""
    says: str = ""
    place: tuple[int, int] | None = None


class Ended(Exception):
    """The process is no more, or must not go on."""


def missing() -> list[str]:
    """What this machine lacks to contain a submission, in words; nothing on a Linux that has both."""
    found = []
    if inside.landlock() < 3:
        found.append("Landlock, which keeps a submission from the machine's files (Linux 6.2 or newer)")
    tried = shutil.which(NAMESPACES[0]) and subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False)
    if not tried or tried.returncode:
        found.append("user namespaces (the command unshare), which keep it from the network")
    return found


def run(cells: Sequence[str], limits: Limits = USUAL, contained: bool = True) -> list[Outcome]:
    """An outcome a cell.  Once the process has ended, all cells from that one on have the reason as their error.

    `contained` off leaves network and files open, for machines without the means, and code that one has read.
    """
    outcomes: list[Outcome] = []
    with _process(limits, contained) as (process, answers, folder):
        try:
            talk = _Talk(process, answers, folder, limits)
            talk.listen()
            for cell in cells:
                outcomes.append(talk.ask(cell))
        except Ended as end:
            rest = len(cells) - len(outcomes)
            first = Outcome(error="Ended", says=str(end))
            outcomes += [first, *[Outcome(error="Ended", says=f"not run, because before it {end}")] * (rest - 1)]
    return outcomes[: len(cells)]


@contextmanager
def _process(limits: Limits, contained: bool) -> Iterator[tuple[subprocess.Popen, int, Path]]:
    """A new Python in a new folder; at the end both are gone, with all that it started."""
    with tempfile.TemporaryDirectory(prefix="submission-", ignore_cleanup_errors=True) as folder:
        reads, writes = os.pipe()
        order = {"answers": writes, "package": str(Path(gadkit.__file__).parent), "shut": contained}
        order |= {"memory": limits.memory, "seconds": int(limits.seconds) + 1, "file": limits.disk}
        order |= {"cell_seconds": limits.cell_seconds}
        own = {name: os.environ[name] for name in KEPT if name in os.environ}
        own |= {"HOME": folder, "TMPDIR": folder, "MPLBACKEND": "agg", "PYTHONHASHSEED": "0"}
        own |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "GADKIT_DEVICE": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(
            [*(NAMESPACES if contained else ()), sys.executable, "-P", inside.__file__, json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=own,
            pass_fds=[writes],
            start_new_session=True,
        )
        os.close(writes)
        try:
            yield process, reads, Path(folder)
        finally:
            _end(process)
            os.close(reads)
            with suppress(BrokenPipeError):  # a cell that nobody took
                process.stdin.close()


def _end(process: subprocess.Popen) -> int:
    """Kill a process, and whatever it started, and say how it ended; at the second call it only says so."""
    if process.returncode is None:  # not waited for yet, so its number is still its own
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


class _Talk:
    """The lines to and from the process, with an eye on the clock, on the disk and on the length of the answers."""

    def __init__(self, process: subprocess.Popen, answers: int, folder: Path, limits: Limits) -> None:
        self.process, self.answers, self.folder, self.limits = process, answers, folder, limits
        self.end = time.monotonic() + limits.seconds

    def ask(self, cell: str) -> Outcome:
        """The outcome of a cell.  Raises Ended."""
        try:
            self.process.stdin.write(json.dumps(cell).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise Ended(self.farewell()) from None
        try:
            return _outcome(json.loads(self.listen()))
        except (ValueError, KeyError, TypeError):
            raise Ended("it answered in the grader's stead") from None

    def listen(self) -> bytes:
        """The next line.  Raises Ended."""
        line = b""
        while not line.endswith(b"\n"):
            if time.monotonic() > self.end:
                raise Ended(f"the submission took more than {self.limits.seconds:g} seconds")
            if used(self.folder) > self.limits.disk:
                raise Ended(f"the submission wrote more than {self.limits.disk >> 20} MB")
            if not select([self.answers], [], [], GLANCE)[0]:
                continue
            some = os.read(self.answers, 1 << 16)
            line += some
            if not some:
                raise Ended(self.farewell())
            if len(line) > ANSWER:
                raise Ended("it answered in the grader's stead")
        return line

    def farewell(self) -> str:
        """Why a process ended by itself."""
        code = _end(self.process)
        return f"the submission's process ended by itself or by a limit (exit code {code})"


def _outcome(answer: dict[str, Any]) -> Outcome:
    error = answer["error"] or {"name": "", "says": "", "place": None}
    place = tuple(map(int, error["place"])) if error["place"] else None
    return Outcome(str(answer["text"]), str(error["name"]), str(error["says"]), place)


def used(folder: Path) -> int:
    """Bytes of the files in a folder; one that vanishes meanwhile has none."""
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except OSError:
                continue
    return total
