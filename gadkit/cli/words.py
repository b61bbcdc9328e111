"""The words of `gadkit detect` about a run, on the terminal and in the report.

Book: intro/run-it
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import gadkit
from gadkit.anomaly.detectors import DETECTORS
from gadkit.anomaly.metrics import auroc
from gadkit.anomaly.thresholds import false_alarm_rate
from gadkit.cli.inspection import Inspection
from gadkit.cli.outputs import REPORT, count
from gadkit.report import Facts


def before(run: Inspection) -> Iterator[str]:
    """Remarks that one wants to read before the work is done."""
    if run.left_out:
        yield f"{count(run.left_out, 'image')} left out: they are among the good parts to compare with"
    yield from run.remarks
    if run.copies:
        yield (
            f"{run.copies} of {count(run.references, 'good part')} are copies of others: held out, a copy scores as if "
            "nothing could be wrong, so a threshold drawn from them lies too low"
        )
    if run.references == 1 and run.line is None:
        yield "no threshold: a single good part has no others to be compared with; give 2 or more, better 20"


def after(run: Inspection, out: Path | None) -> Iterator[str]:
    """The summary."""
    yield verdict(run)
    if run.line is not None and run.normal is not None:
        yield where_from(run)
    known = [(row.score, run.labels[path]) for row in run.rows if (path := Path(row.path)) in run.labels]
    if {0, 1} <= {label for _, label in known}:
        value = auroc(*(np.array(values) for values in zip(*known, strict=True)))
        yield f"image AUROC {value:.3f}, by the folder's own labels"
    if run.skipped:
        yield f"{count(len(run.skipped), 'file')} could not be read"
    if run.failed:
        yield f"{count(len(run.failed), 'output')} could not be written"
    if out is not None and (out / REPORT).is_file():
        yield f"report: {out / REPORT}"


def verdict(run: Inspection) -> str:
    """How many images are above the threshold."""
    total = count(len(run.rows), "image")
    if run.line is None:
        return f"{total} scored, without a threshold"
    return f"{sum(row.score > run.line for row in run.rows)} of {total} above the threshold {run.line:.4f}"


def where_from(run: Inspection) -> str:
    """The threshold in terms of normal images, and its promise."""
    k, rate = run.references, false_alarm_rate(run.normal.scores, run.line)
    kind = "given by hand"
    if run.quantile is not None:
        kind = "the highest score" if run.quantile == 1 else f"the {run.quantile:g} quantile of the scores"
        kind += f" of {k} good parts, each compared with the other {k - 1}"
    return f"the threshold is {kind}; expect about {rate:.0%} of good parts above it"


def report_facts(run: Inspection) -> Facts:
    """The facts of the run, for the report."""
    row = DETECTORS[run.method]
    how = f"{row.few_shot} with {count(run.references, 'good part')}"
    if not run.references:
        how = f"{row.zero_shot}, zero-shot"
    heading = run.object_name or "parts"
    return Facts(
        heading=heading[:1].upper() + heading[1:],
        about=f"{verdict(run)}. {how}, preset {run.preset}, gadkit {gadkit.__version__}.",
        notes=notes(run),
        threshold=run.line,
        normal=[] if run.normal is None else run.normal.scores.tolist(),
        skipped=run.skipped,
    )


def notes(run: Inspection) -> list[tuple[str, str]]:
    """Terms of the report, each with its explanation."""
    compare = "Scores compare within a run: same detector, object, preset and good parts."
    score = f"{run.explained}. Higher is more anomalous. {compare}"
    colour = "Where nothing is strange the photograph shows through in grey. All images share one scale: "
    if run.normal is None:
        colour += "it is fixed, as there were no two good parts to measure it on."
        line = "There is none without two or more images of good parts (--normal) or a number (--threshold)."
    else:
        colour += "colour begins where good parts are and is in its middle at their extreme, so good parts stay clear."
        line = where_from(run)[0].upper() + where_from(run)[1:] + "."
    if run.line is not None and run.normal is None:
        line = "Given by hand."
    return [("Score", score), ("Threshold", line), ("Heat", colour)]
