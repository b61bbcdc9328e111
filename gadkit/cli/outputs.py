"""The outputs of a command: a table on the terminal, and files that are never half-written.

Book: intro/run-it
"""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from gadkit import viz
from gadkit.cli.streams import printable, remark
from gadkit.files import explain, replacing

SCORES, REPORT, UNFINISHED = "scores.csv", "report.html", "scores.unfinished.csv"  # what `gadkit detect` writes
MADE = "gadkit"  # in the pictures that it writes
HEADER = ("path", "score", "threshold", "verdict")
RUN = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # how cells begin that a spreadsheet would run


@dataclass(frozen=True)
class ImageScore:
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


def table(rows: Iterable[ImageScore]) -> Iterator[str]:
    """Lines for a terminal, highest score first."""
    rows = sorted(rows, key=lambda row: (-row.score, row.path))
    compared = any(row.verdict for row in rows)
    yield " score  " + ("verdict    " if compared else "") + "image"
    for row in rows:
        yield f"{row.score:6.4f}  " + (f"{row.verdict:9}  " if compared else "") + printable(row.path)


@contextmanager
def atomic(path: Path, mode: str = "w", **options: Any) -> Iterator[IO]:
    """Open a file that takes its name only when it is complete; an error or an interrupt leaves nothing behind."""
    with replacing(path) as part, open(part, mode, **options) as file:
        yield file


@contextmanager
def attempt(failed: list[str]) -> Iterator[None]:
    """Let the other outputs be delivered when one cannot be: it is named, at once and in `failed`."""
    try:
        yield
    except (OSError, ValueError) as error:
        failed.append(explain(error))
        remark(f"not written: {failed[-1]}")


def check_own(folder: Path, header: Sequence[str], tables: tuple[str, str], *others: str) -> None:
    """Raise ValueError where a folder holds a file of these names that no earlier run has written.

    A run leaves the first of its two `tables` with all others beside it, or the second if it was interrupted; each
    begins with the `header`.
    """
    whole, unfinished = (_begins(folder / table, header) for table in tables)
    taken = [] if whole else [name for name in (*others, tables[0]) if os.path.lexists(folder / name)]
    taken += [] if unfinished else [name for name in tables[1:] if os.path.lexists(folder / name)]
    if taken:
        raise ValueError(f"--out: expected a folder whose {taken[0]} is that of an earlier run, or none, got yours")


def _begins(table: Path, header: Sequence[str]) -> bool:
    begins = ",".join(header).encode()
    if os.path.isfile(table):  # a pipe would keep us waiting; a name that is too long is none
        with suppress(OSError), open(table, "rb") as file:
            return file.read(len(begins)) == begins
    return False


def safe(path: Path | str) -> str:
    """A path that no program takes for something else: `./-n.png` is no option, and `./=1+1.png` no formula."""
    return f"./{path}" if str(path).startswith(RUN) else str(path)


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file: UTF-8, text in quotes, as in some countries a semicolon parts cells.

    No cell is run by a spreadsheet: paths are as `safe` gives them, and an apostrophe stands before other text that
    begins like a formula.
    """
    with atomic(path, newline="", encoding="utf-8", errors="backslashreplace") as file:
        file.write(",".join(header) + "\r\n")
        lines = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        lines.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, Path):
        return safe(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(RUN) else value


def write_csv(path: Path, rows: Sequence[ImageScore]) -> None:
    """Path, score, threshold and verdict, highest score first; the last two are empty where there is no threshold."""
    ordered = sorted(rows, key=lambda row: (-row.score, row.path))
    cells = ([safe(row.path), row.score, row.threshold, row.verdict] for row in ordered)
    write_table(path, HEADER, cells)


def write_map(folder: Path, image: Path, root: Path, heat: Float[np.ndarray, "h w"]) -> None:
    """Save a map as float32 under the image's own name below `root`, extension and folders kept, with `.npy` behind it.

    So `a/1.png`, `a/1.jpg` and `b/1.png` give three files.  Raises ValueError for a name that leads out of `folder`,
    and where a file of that name holds no map.
    """
    with atomic(_beside(folder, image, root, ".npy", _is_map), "wb") as file:
        np.save(file, heat.astype(np.float32), allow_pickle=False)


def write_pictures(
    folder: Path,
    image: Path,
    root: Path,
    photo: UInt8[Tensor, "3 h w"],
    heat: Float[Tensor, "h w"],
    scale: viz.Scale,
    contour: float | None,
) -> None:
    """Save a photograph with its map over it, and one with lines around what lies above `contour`, if there is one.

    Both are PNG at the photograph's size, named as `write_map` does it, with `.heat.png` and `.outline.png` behind.
    Raises ValueError for a name that leads out of `folder`, and where a file of that name is no such picture.
    """
    photos, maps = photo[None].cpu(), heat[None].cpu()
    marked = PngInfo()
    marked.add_text("Software", MADE)  # by which a later run knows that it may write there
    pictures = {"heat": viz.overlay(photos, maps, scale)}
    if contour is not None:
        pictures["outline"] = viz.outlined(photos, maps > contour)
    for kind, picture in pictures.items():
        with atomic(_beside(folder, image, root, f".{kind}.png", _is_picture), "wb") as file:
            Image.fromarray(picture[0].permute(1, 2, 0).numpy()).save(file, "PNG", pnginfo=marked)


def _beside(folder: Path, image: Path, root: Path, ending: str, own: Callable[[Path], bool]) -> Path:
    """The image's own name below `root`, in `folder` and with an ending; `own` knows files of an earlier run.

    Raises ValueError for a name that leads out, and for one that somebody else's file has.
    """
    path = folder / (os.path.relpath(image, root) + ending)
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{path}: expected the name of a map below {folder}, got one outside")
    if os.path.lexists(path) and not own(path):
        what = "map" if own is _is_map else "picture"
        raise ValueError(f"{path}: expected a {what} of an earlier run in this place, or none, got yours")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _is_picture(path: Path) -> bool:
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            return picture.info.get("Software") == MADE
    except (OSError, ValueError):
        return False


def _is_map(path: Path) -> bool:
    try:
        held = np.load(path, mmap_mode="r", allow_pickle=False) if os.path.isfile(path) else None
    except (OSError, ValueError, EOFError):
        return False
    return isinstance(held, np.ndarray) and held.dtype == np.float32 and held.ndim == 2


def write_text(path: Path, pieces: Iterable[str], errors: str = "backslashreplace") -> None:
    """Write text piece by piece, as UTF-8; `errors` says what becomes of names that are no text."""
    with atomic(path, encoding="utf-8", newline="\n", errors=errors) as file:
        file.writelines(pieces)


def count(number: int, noun: str) -> str:
    """1 image, 2 images."""
    return f"{number} {noun}" + "s" * (number != 1)
