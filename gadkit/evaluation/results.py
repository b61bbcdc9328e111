"""One results file for all representations: rows by method and protocol, each with its seeds, time, device, versions.

Book: selfsup/comparison
"""

import argparse
import getpass
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from filelock import FileLock

from gadkit import runtime, weights
from gadkit.protocols import Backbone

Evaluate = Callable[..., Iterable[tuple[str, float]]]
Row = dict[str, Any]
UNTRAINED = ("random", "clip-random")  # what is known without weights


def load(name: str, preset: str | None = None, device: str | None = None) -> Backbone:
    """A backbone by name: "clip" and "clip-random" (the tiny one untrained), or whatever `load_encoder` knows."""
    from gadkit import backbones

    if name == "clip":
        return backbones.load_clip(preset, device)
    if name == "clip-random":
        from gadkit.backbones.tiny import load_tiny_clip

        clip = load_tiny_clip(random=True)
        clip.model.to(runtime.device(device))
        return clip
    return backbones.load_encoder(name, preset, device)


def check(names: Sequence[str], preset: str | None = None, what: str = "NAME") -> None:
    """Whether `load` knows all names, without loading any; messages call them `what`.

    Raises ValueError for one that is unknown and for an unknown preset, and `WeightsUnavailable` for one that has no
    weights under it.
    """
    weights.preset(preset)
    known = [*UNTRAINED, *dict.fromkeys(name for name, _ in weights.WEIGHTS)]
    for name in names:
        if name not in known:
            raise ValueError(f"{what}: expected one of {', '.join(known)}, got {name!r}")
        if name not in UNTRAINED:
            weights.lookup(name, preset)


def measure(
    name: str, protocol: str, evaluate: Evaluate, backbone: Backbone, seeds: Sequence[int], preset: str | None = None
) -> Row:
    """Run a protocol on a backbone: a row with every value by seed, the time it took, and on what."""
    began, worked = time.monotonic(), time.process_time()
    values: dict[str, list[float]] = {}
    for key, value in evaluate(backbone, seeds):
        values.setdefault(key, []).append(round(float(value), 5))
    return {
        "method": name,
        "protocol": protocol,
        "preset": weights.preset(preset),
        "seeds": list(seeds),
        "values": values,
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(time.process_time() - worked, 1),
        "device": str(getattr(backbone, "device", runtime.device())),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }


def key(row: Row) -> tuple[str, str, str]:
    """What tells a row from the others: a later one of the same key takes its place."""
    return row["method"], row["protocol"], row["preset"]


def read(path: Path) -> list[Row]:
    """The rows of a results file; none if there is no file.  Raises ValueError for a file of another kind."""
    if not path.exists():
        return []
    try:
        return json.loads(path.read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected a results file, JSON with rows, got something else ({error})") from error


def merge(
    path: Path,
    rows: Sequence[Row],
    key: Callable[[Row], tuple[Any, ...]] = key,
    what: str = "every representation by one protocol; values by seed",
) -> None:
    """Add rows to a results file, in the place of those of the same `key`; `what` says what the file is about.

    The file changes as a whole or not at all, and processes that write to one file take turns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with _turns(path):
        merged = {key(row): row for row in (*read(path), *rows)}
        try:
            record = {"what": what, "rows": list(merged.values())}
            part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _turns(path: Path) -> FileLock:
    """The lock that processes of one user share for one file; it lies with temporary files, not beside the results."""
    name = hashlib.sha256(f"{getpass.getuser()} {path.resolve()}".encode()).hexdigest()[:24]
    return FileLock(Path(tempfile.gettempdir()) / f"gadkit-{name}.lock")


def summary(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation over seeds; the deviation of one seed is 0."""
    return mean(values), stdev(values) if len(values) > 1 else 0.0


def table(rows: Sequence[Row]) -> str:
    """Markdown: a line a measure, a column a method."""
    names = list(dict.fromkeys(name for row in rows for name in row["values"]))
    lines = ["| | " + " | ".join(row["method"] for row in rows) + " |", "|---" * (1 + len(rows)) + "|"]
    for name in names:
        cells = [
            "{:.3f} ± {:.3f}".format(*summary(row["values"][name])) if name in row["values"] else "" for row in rows
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "| seconds | " + " | ".join(str(row["seconds"]) for row in rows) + " |"])


def main(protocol: str, evaluate: Evaluate, argv: Sequence[str] | None = None) -> int:
    """Measure the named methods one after the other; each is in the file as soon as it is done."""
    parser = argparse.ArgumentParser(description=f"Run the {protocol} protocol on frozen representations.")
    parser.add_argument("names", nargs="+", metavar="NAME", help='"random", "simclr", ..., "clip", "clip-random"')
    parser.add_argument("--out", type=Path, metavar="FILE", help="results file to merge into (default: none)")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2), metavar="N")
    parser.add_argument("--preset", choices=weights.PRESETS, help="default: GADKIT_PRESET, else tiny")
    given = parser.parse_args(argv)
    rows: list[Row] = []
    try:
        check(given.names, given.preset)  # all of them, and the file, before hours go into the first
        runtime.device()
        if given.out:
            merge(given.out, [])
    except (ValueError, OSError, weights.WeightsUnavailable) as error:
        parser.error(str(error))
    try:
        for name in given.names:
            rows.append(measure(name, protocol, evaluate, load(name, given.preset), given.seeds, given.preset))
            if given.out:
                merge(given.out, rows[-1:])
            sys.stderr.write(f"{name}: {rows[-1]['seconds']} s\n")
    except weights.WeightsUnavailable as error:  # published ones, which only loading can find missing
        parser.error(str(error))
    finally:
        if rows:  # what was measured is said, whatever came after
            sys.stdout.write(table(rows) + "\n")
    return 0
