"""What a command leaves behind: lines on the terminal, and files that are never half-written.

Book: intro/run-it
"""

import csv
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Float
from tqdm import tqdm


@dataclass(frozen=True)
class Row:
    """One image's result; `threshold` and `verdict` are None where there is nothing to compare with."""

    path: str
    score: float
    threshold: float | None = None

    @property
    def verdict(self) -> str | None:
        """Whether the score is above the threshold, as a word."""
        return None if self.threshold is None else "anomalous" if self.score > self.threshold else "normal"

    def json(self) -> str:
        """One line of JSON: path and score, threshold and verdict where there are any."""
        verdict = {} if self.threshold is None else {"threshold": self.threshold, "verdict": self.verdict}
        return json.dumps({"path": self.path, "score": self.score} | verdict)


def table(rows: Iterable[Row]) -> Iterator[str]:
    """Lines for a terminal, highest score first."""
    rows = sorted(rows, key=lambda row: (-row.score, row.path))
    judged = any(row.verdict for row in rows)
    yield " score  " + ("verdict    " if judged else "") + "image"
    for row in rows:
        yield f"{row.score:6.4f}  " + (f"{row.verdict:9}  " if judged else "") + plain(row.path)


def plain(text: str) -> str:
    """A file name as printable characters: none that would move the terminal's cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


@contextmanager
def atomic(path: Path, mode: str = "w", **options: Any) -> Iterator[IO]:
    """Open a file that takes its name only when it is complete; an error or an interrupt leaves nothing behind."""
    unfinished = path.with_name(f".gadkit-{os.getpid()}.part")
    try:
        with open(unfinished, mode, **options) as file:
            yield file
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Path, score, threshold and verdict, highest score first; the last two are empty where there is no threshold."""
    with atomic(path, newline="", encoding="utf-8", errors="backslashreplace") as file:
        lines = csv.writer(file)
        lines.writerow(["path", "score", "threshold", "verdict"])
        for row in sorted(rows, key=lambda row: (-row.score, row.path)):
            lines.writerow([row.path, row.score, row.threshold, row.verdict])


def write_map(folder: Path, image: Path, root: Path, heat: Float[np.ndarray, "h w"]) -> None:
    """Save a map as float32 under the image's own name below `root`, extension and folders kept, with `.npy` behind it.

    So `a/1.png`, `a/1.jpg` and `b/1.png` give three files.
    """
    path = folder / (os.path.relpath(image, root) + ".npy")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path, "wb") as file:
        np.save(file, heat.astype(np.float32), allow_pickle=False)


def write_text(path: Path, pieces: Iterable[str]) -> None:
    """Write text piece by piece."""
    with atomic(path, encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(pieces)


def prepare(folder: Path, option: str) -> Path:
    """Make a folder and see that it can be written to, before any work is done for it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(
            f"{option}: expected a folder that can be written to, got {folder} ({error.strerror})"
        ) from error
    return folder


def say(*lines: str) -> None:
    """Results, to standard output."""
    for line in lines:
        tqdm.write(line, file=sys.stdout)  # past the progress bar, if both meet on a terminal
    sys.stdout.flush()


def heard(*lines: str) -> bool:
    """As `say`; False, and no error, if nobody reads any more (`gadkit detect ... | head`), for files to be written."""
    try:
        say(*lines)
    except BrokenPipeError:
        silence()
        return False
    return True


def silence() -> None:
    """Nothing reaches standard output from here on, not even what the interpreter flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(*lines: str) -> None:
    """Remarks, to standard error."""
    for line in lines:
        tqdm.write(f"gadkit: {plain(line)}", file=sys.stderr)


def count(number: int, noun: str) -> str:
    """1 image, 2 images."""
    return f"{number} {noun}" + "s" * (number != 1)
