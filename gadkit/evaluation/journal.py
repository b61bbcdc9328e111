"""A journal beside a results file: each row is on the disk as soon as it is measured, at the cost of that row alone.

A large results file takes longer to write than a row to measure.  So a run appends its rows to a journal, a line each,
and a results file takes them in at the end, or when the next run begins.  A kill can tear the last line at most.

    results.parquet
    results.parquet.8d03a5f1.rows      the journal of a run that is at work, or was killed

Book: anomaly/benchmark
"""

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gadkit.checks import checked

SUFFIX = ".rows"
Row = dict[str, Any]


class Journal:
    """A run's journal beside a results file; `keep` puts a row on the disk at once."""

    def __init__(self, out: Path) -> None:
        self.path = out.with_name(f"{out.name}.{secrets.token_hex(4)}{SUFFIX}")

    def keep(self, row: Row) -> None:
        """Append a row.  Raises OSError, with the journal's name, where it cannot be written."""
        line = json.dumps(row).encode() + b"\n"
        try:
            with open(self.path, "ab", buffering=0) as file:
                written = file.write(line)
                while written < len(line):  # a disk that is nearly full takes a part, and then says so
                    written += file.write(line[written:])
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error


@contextmanager
def writing(out: Path) -> Iterator[Journal]:
    """A new journal, which other runs leave alone until the block ends; then `left` reads and `clear` removes it."""
    journal = Journal(out)
    with _lock(journal.path):
        yield journal


@checked
def left(out: Path) -> dict[Path, list[Row]]:
    """The rows in the journals beside a results file of runs that have ended, or were killed, by journal.

    A last line without its end was torn by a kill, and is left out.  Raises ValueError for a journal that is damaged
    elsewhere.
    """
    found = {}
    for path in sorted(out.parent.glob(f"{_escaped(out.name)}.????????{SUFFIX}")):
        lock = _lock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue  # its run is at work
        try:
            *lines, _ = path.read_bytes().split(b"\n")
            found[path] = [json.loads(line) for line in lines]
        except FileNotFoundError:
            continue  # another process of this run has just taken it in
        except ValueError as error:
            raise ValueError(f"{path}: expected rows in JSON, a line each, got something else ({error})") from error
        finally:
            lock.release()
    return found


@checked
def clear(journals: Sequence[Path]) -> None:
    """Remove journals whose rows are in the results file."""
    for path in journals:
        for file in (path, Path(_lock(path).lock_file)):
            with suppress(OSError):  # Windows keeps a file that is open; its rows are taken in again
                file.unlink()


def _lock(path: Path) -> FileLock:
    return FileLock(path.with_name(f".{path.name}.lock"))


def _escaped(name: str) -> str:
    """A name for `glob` in which no character stands for others."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
