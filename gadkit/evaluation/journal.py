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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gadkit.checks import checked
from gadkit.files import explain

SUFFIX = ".rows"
Row = dict[str, Any]


@contextmanager
def journal(out: Path) -> Iterator[Callable[[Row], None]]:
    """Give a function that keeps a row on the disk at once; other runs leave the journal alone until the block ends.

    The journal stays when the block ends: `left` reads it, and `clear` removes it.  A row that cannot be written is an
    OSError with the journal's name.
    """
    path = out.with_name(f"{out.name}.{secrets.token_hex(4)}{SUFFIX}")
    lock = _lock(path)
    lock.acquire()
    try:
        with open(path, "ab", buffering=0) as file:

            def keep(row: Row) -> None:
                line = json.dumps(row).encode() + b"\n"
                try:
                    if file.write(line) != len(line):  # a disk that is full may take a part
                        file.write(line)  # and says so now
                    os.fsync(file.fileno())
                except OSError as error:
                    raise OSError(error.errno, error.strerror, str(path)) from error

            yield keep
    finally:
        lock.release()


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
def clear(journals: list[Path]) -> None:
    """Remove journals whose rows are in the results file."""
    for path in journals:
        for file in (path, Path(_lock(path).lock_file)):
            with suppress(OSError):  # Windows keeps a file that is open; its rows are taken in again
                file.unlink()


def words(error: OSError, out: Path) -> str:
    """What to say where rows could not go into the results file: where they are now."""
    there = [path for path, rows in left(out).items() if rows]
    kept = f"; what was measured is in {', '.join(map(str, there))}, and the same command goes on from there"
    return explain(error) + kept * bool(there)


def _lock(path: Path) -> FileLock:
    return FileLock(path.with_name(f".{path.name}.lock"))


def _escaped(name: str) -> str:
    """A name for `glob` in which no character stands for others."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
