"""What `gadkit benchmark` has to measure, what of it is there already, and how processes share the rest.

Each process keeps its cells in a journal of its own; the first one brings all into the results file.

Book: anomaly/benchmark
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import gadkit
from gadkit import distributed, zoo
from gadkit.anomaly.benchmark import Case, Result, run
from gadkit.anomaly.comparison import cell
from gadkit.anomaly.detectors import DETECTORS, build, networks
from gadkit.cli import streams
from gadkit.evaluation import journal, results
from gadkit.files import provenance

WHAT = "detectors on test sets with known defects, a row for each product, seed and number of shots"
SETTINGS = ("detector", "backbone", "heads", "preset", "size", "bits", "references", "each")
KEY = (*SETTINGS, "data", "category", "variant", "seed", "shots")
PIXELS = "pixels"  # the backbone of detectors that need none
SHIPPED = "shipped"  # the trained part that the zoo has
Row = dict[str, Any]


class Unfit(ValueError):
    """A detector that cannot be built on a backbone: its trained part has other shapes, say."""


@dataclass(frozen=True)
class Job:
    """One detector on one backbone; `settings` are what its rows have in common, and `trained_on` names the data."""

    settings: Mapping[str, Any]
    backbone: str  # in the zoo
    heads: Path | None
    shots: Sequence[int]
    trained_on: str

    def kept(self, rows: Sequence[Row], cases: Sequence[Case]) -> list[Row]:
        """Those rows that are asked for again."""
        wanted = {(c.category, c.data, c.variant, seed, k) for c in cases for seed, k in c.cells(self.shots)}
        return [row for row in rows if self.settings.items() <= row.items() and cell(row) in wanted]

    def measured(self, cases: Sequence[Case], kept: Sequence[Row], device: torch.device) -> Iterator[Row]:
        """The rows of these cases that are not there yet, one after the other.

        Raises `Unfit`, before anything is measured, where the detector cannot be built on the backbone.
        """
        done = {cell(row) for row in kept}
        if not any(case.open(self.shots, done) for case in cases):
            return  # without waiting for a backbone
        preset, name = self.settings["preset"], self.settings["detector"]
        streams.loading(self.backbone, preset)
        eyes = zoo.load(self.backbone, preset, str(device))
        heads = self.heads
        if DETECTORS[name].heads:  # read once, not for each case
            heads = zoo.load(name, preset, str(device), file=heads)
        objects = networks(name, str(device), preset)  # likewise
        try:
            build(name, eyes, "object", heads, preset, **objects)
        except ValueError as error:
            raise Unfit(str(error)) from error
        for result in run(lambda noun: build(name, eyes, noun, heads, preset, **objects), cases, self.shots, done):
            row = {**self.settings, **_row(result), "trained_on": self.trained_on}
            yield row | {"gadkit": gadkit.__version__} | provenance(device)


def job(name: str, backbone: str, heads: Path | None, shots: Sequence[int], fixed: Mapping[str, Any]) -> Job:
    """The job of a detector of the table on a backbone of the zoo; `fixed` are the settings that all jobs share.

    `heads` is a checkpoint in place of the shipped trained part.  Raises `WeightsUnavailable` where that has no weights
    under the preset.
    """
    row, part = DETECTORS[name], None
    trained_on = "nothing" if row.pixels else zoo.find(backbone, fixed["preset"]).trained_on
    if row.heads and heads is None:
        part, trained_on = SHIPPED, f"{trained_on}; heads: {zoo.find(name, fixed['preset']).trained_on}"
    elif row.heads:
        content = hashlib.sha256(heads.read_bytes()).hexdigest()
        part, trained_on = f"{heads.name} {content[:12]}", f"{trained_on}; heads: unknown"
    for what, known in zip(("finder", "segmenter"), row.objects, strict=False):
        trained_on = f"{trained_on}; {what}: {zoo.find(known, fixed['preset']).trained_on}"
    settings = {"detector": name, "backbone": PIXELS if row.pixels else backbone, "heads": part, **fixed}
    return Job(settings, backbone, heads, shots, trained_on)


def _row(result: Result) -> Row:
    values = {name: getattr(result, name) for name in Result.__dataclass_fields__}
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}


def key(row: Row) -> tuple[Any, ...]:
    """What tells one row of a results file from another."""
    return tuple(row.get(name) for name in KEY)


def own(cases: Sequence[Case], turn: int) -> list[Case]:
    """This process's cases; another process begins with every turn, so that all get about as many."""
    return [case for i, case in enumerate(cases, turn) if i % distributed.world() == distributed.rank()]


def earlier(out: Path | None) -> list[Row]:
    """The rows of a results file, which can be written to, with those that runs before have left in their journals.

    The same in all processes.  Raises ValueError for a file of something else.
    """
    if out is None:
        return []
    left = journal.left(out)
    everybody = distributed.to_first([row for rows in left.values() for row in rows])
    content = None
    if everybody is not None:
        rows = results.read(out)
        if any(name not in row for row in rows for name in KEY):
            raise ValueError(f"--out: expected a new file or one of this command, got other results in {out}")
        results.merge(out, [row for some in everybody for row in some], key, WHAT)  # before hours go into a cell
        content = json.dumps(results.read(out)).encode()
    rows = json.loads(distributed.from_first(content))
    journal.clear([*left])
    return rows


@contextmanager
def keeping(out: Path | None, found: list[Row]) -> Iterator[Callable[[Row], None]]:
    """Give a function that keeps a row in this process's journal; at the end all go into the results file.

    Of several processes the first one then has in `found` what all have found.  After an error the rows go into the
    file too, or stay in the journal, and a remark says so; the next run takes them in.
    """
    if out is None:
        yield lambda row: None
        _gathered(found)
        return
    try:
        with journal.writing(out) as book:
            yield book.keep
            if _gathered(found):
                results.merge(out, found, key, WHAT)
        distributed.from_first(None)  # nobody goes on before all rows are in the file
        journal.clear([book.path])
    except BaseException:
        _rescue(out)
        raise


def _gathered(found: list[Row]) -> bool:
    """Bring what all processes have found into the first one's list; whether this is the first."""
    everybody = distributed.to_first(found)
    if everybody is None:
        return False
    found[:] = [row for rows in everybody for row in rows]
    return True


def _rescue(out: Path) -> None:
    """Bring the rows of journals into the results file where that can be done, else say where they are."""
    left = journal.left(out)
    try:
        if distributed.world() == 1:
            results.merge(out, [row for rows in left.values() for row in rows], key, WHAT)
            journal.clear([*left])
            return
    except (OSError, ValueError):  # the first error is on its way
        pass
    if there := [str(path) for path, rows in left.items() if rows]:
        streams.remark(f"what was measured is kept in {', '.join(there)}; the same command goes on from there")
