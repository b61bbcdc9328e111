"""Results files: rows by what was measured, each with its time, device and versions, in JSON or Parquet.

Book: selfsup/comparison
"""

import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from filelock import FileLock

from gadkit import runtime, zoo
from gadkit.checks import checked
from gadkit.evaluation import parquet
from gadkit.files import provenance, replacing
from gadkit.protocols import Backbone

Evaluate = Callable[..., Iterable[tuple[str, float]]]
Measured = dict[str, Any]  # one line of a results file
PARQUET = ".parquet"


@checked
def measure(
    name: str, protocol: str, evaluate: Evaluate, backbone: Backbone, seeds: Sequence[int], preset: str | None = None
) -> Measured:
    """Run a protocol on a backbone: a row with every value by seed, the time it took, and on what."""
    began, worked = time.monotonic(), time.process_time()
    values: dict[str, list[float]] = {}
    for key, value in evaluate(backbone, seeds):
        values.setdefault(key, []).append(round(float(value), 5))
    return {
        "method": name,
        "protocol": protocol,
        "preset": zoo.preset(preset),
        "seeds": list(seeds),
        "values": values,
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(time.process_time() - worked, 1),
    } | provenance(backbone.device)


@checked
def key(row: Measured) -> tuple[str, str, str]:
    """The key of a row: a later row with the same key takes its place."""
    return row["method"], row["protocol"], row["preset"]


@checked
def read(path: Path) -> list[Measured]:
    """The rows of a results file; none if there is no file.  One that ends in .parquet is Parquet, all others are JSON.

    Raises ValueError for a file of another kind, and for a torn one.
    """
    if not path.exists():
        return []
    if not path.is_file():  # /dev/zero has no end
        raise ValueError(f"{path}: expected a results file, got a folder or a device")
    if path.suffix == PARQUET:
        return parquet.read(path)
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise TypeError("rows are no list of records")
        return rows
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected a results file, JSON with rows, got something else ({error})") from error


@checked
def merge(
    path: Path,
    rows: Sequence[Measured],
    key: Callable[[Measured], tuple[Any, ...]] = key,
    what: str = "every representation by one protocol; values by seed",
) -> None:
    """Add rows to a results file, in the place of those of the same `key`; `what` says what the file is about.

    The file changes as a whole or not at all, and processes that write to one file take turns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _turns(path), replacing(path) as part:
        merged = [*{key(row): row for row in (*read(path), *rows)}.values()]
        if path.suffix == PARQUET:
            parquet.write(part, merged, what)
            return
        record = {"what": what, "rows": merged}
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _turns(path: Path) -> FileLock:
    """The lock that processes of one user share for one file; it lies with temporary files, not beside the results.

    The user goes by number: in a container that number often has no name.
    """
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")  # no numbers on Windows
    name = hashlib.sha256(f"{user} {path.resolve()}".encode()).hexdigest()[:24]
    return FileLock(Path(tempfile.gettempdir()) / f"gadkit-{name}.lock")


@checked
def summary(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation over seeds; the deviation of one seed is 0."""
    return mean(values), stdev(values) if len(values) > 1 else 0.0


@checked
def table(rows: Sequence[Measured]) -> str:
    """Markdown: a line a measure, a column a method."""
    import pandas

    columns = {
        row["method"]: {name: "{:.3f} ± {:.3f}".format(*summary(values)) for name, values in row["values"].items()}
        | {"seconds": str(row["seconds"])}
        for row in rows
    }
    frame = pandas.DataFrame(columns).fillna("")
    frame = frame.loc[[*frame.index.drop("seconds"), "seconds"]]  # a later row may have brought more measures
    return frame.to_markdown(disable_numparse=True)


@checked
def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, its cells as they are.  Raises ValueError for a row of another length than `columns`."""
    import pandas

    return pandas.DataFrame([*rows], columns=[*columns]).to_markdown(index=False, disable_numparse=True)


@checked
def run(
    names: Sequence[str],
    protocol: str,
    evaluate: Evaluate,
    seeds: Sequence[int] = (0, 1, 2),
    preset: str | None = None,
    out: Path | None = None,
    device: str | None = None,
) -> None:
    """Measure networks of the zoo one after the other, and print a table; each is in `out` as soon as it is done.

    What was measured is printed whatever comes after, an interrupt too.  Raises, before anything is measured,
    ValueError for an unknown name, preset or device or a file of another kind, OSError for one that cannot be written,
    and `WeightsUnavailable` for names without weights; the last also for those that only loading finds missing.
    """
    zoo.check(names, preset)  # all of them, and the file, before hours go into the first
    where = str(runtime.device(device))
    if out:
        merge(out, [])
    rows: list[Measured] = []
    try:
        for name in names:
            rows.append(measure(name, protocol, evaluate, zoo.load(name, preset, where), seeds, preset))
            if out:
                merge(out, rows[-1:])
            sys.stderr.write(f"{name}: {rows[-1]['seconds']} s\n")
    finally:
        if rows:
            sys.stdout.write(table(rows) + "\n")
