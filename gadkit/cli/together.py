"""Several processes that share the photographs of a run; the first one delivers what all have found.

    accelerate launch --num_processes 4 -m gadkit detect photos/ --normal good/ ...

Book: intro/run-it
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from gadkit import distributed
from gadkit.anomaly import fitted
from gadkit.anomaly.fitted import Fitting
from gadkit.cli import streams
from gadkit.cli.good_parts import Skipped
from gadkit.cli.known import Known
from gadkit.cli.outputs import ImageScore
from gadkit.cli.sources import BATCH
from gadkit.protocols import Detector
from gadkit.report import Report


@runtime_checkable
class Shared(Protocol):
    """What the processes of a run have to agree on, and what each of them finds."""

    fitting: Fitting
    files: list[Path]
    rows: list[ImageScore]
    skipped: Skipped
    failed: list[str]
    known: Known


def first() -> bool:
    """Whether this is the process that speaks and delivers: the only one, or the first of several."""
    return distributed.rank() == 0


def own(files: Sequence[Path]) -> list[Path]:
    """This process's files: every so many batches, so that each is batched as if one process had them all."""
    return [path for i, path in enumerate(files) if i // BATCH % distributed.world() == distributed.rank()]


def agreed(task: Shared, detector: Detector) -> Detector:
    """The detector of the first process, for all: machines that differ may differ in the last digit."""
    if distributed.world() == 1:
        return detector
    content = distributed.from_first(fitted.pack(detector.state(), task.fitting) if first() else None)
    state, task.fitting = fitted.unpack(content)
    return detector.load_state(state)


def gather(task: Shared, report: Report | None, skipped_before: int) -> None:
    """Bring to the first process what all have found, in the order of the files.

    `skipped_before` files were named before the photographs were shared out: each process has named them.
    """
    if distributed.world() == 1:
        return
    lines = task.skipped.lines
    mine = (task.rows, lines[skipped_before:], task.failed, task.known.kept, [] if report is None else report.parts())
    everybody = distributed.to_first(mine)
    if everybody is None:
        return
    for rows, skipped, failed, kept, pictures in everybody[1:]:
        task.rows += rows
        lines += skipped
        streams.remark(*(f"skipped {line}" for line in skipped))
        task.failed += failed
        task.known.kept += kept
        if report is not None:
            report.take(pictures)
    place = {str(path): i for i, path in enumerate(task.files)}
    task.rows.sort(key=lambda row: place[row.path])
