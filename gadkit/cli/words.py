"""The words of `gadkit detect` about a run, on the terminal and in the report.

Book: intro/run-it
"""

from collections.abc import Iterator
from pathlib import Path

import torch

import gadkit
from gadkit.anomaly.detectors import DETECTORS
from gadkit.anomaly.fitted import Fitting
from gadkit.anomaly.thresholds import counted, doubts, promised
from gadkit.cli.inspection import Inspection
from gadkit.cli.outputs import REPORT, count
from gadkit.report import Facts


def before(run: Inspection) -> Iterator[str]:
    """Remarks that one wants to read before the work is done."""
    if run.left_out:
        yield f"{count(run.left_out, 'image')} left out: they are among the good parts to compare with"
    yield from run.remarks
    yield from of_good_parts(run.fitting)
    if run.fitting.parts == 1 and run.line is None:
        yield "no threshold: a single good part has no others to be compared with; give 2 or more, better 20"


def of_good_parts(fitting: Fitting) -> Iterator[str]:
    """What is odd about the good parts."""
    if fitting.copies:
        yield (
            f"{fitting.copies} of {count(fitting.parts, 'good part')} are copies of others: held out, a copy scores as "
            "if nothing could be wrong, so a threshold drawn from them lies too low"
        )


def of_fitting(fitting: Fitting, out: Path) -> Iterator[str]:
    """The summary of a detector that was fitted and written."""
    yield f"{how(fitting)}: {out} ({out.stat().st_size / 1e6:.1f} MB)"
    if fitting.scores:
        low, high = min(fitting.scores), max(fitting.scores)
        yield f"held out, the good parts score {low:.4f} to {high:.4f}; the highest is the threshold"
        yield from doubts(torch.tensor(fitting.scores), high)
    else:
        yield "no threshold: a single good part has no others to be compared with; give 2 or more, better 20"


def after(run: Inspection, out: Path | None) -> Iterator[str]:
    """The summary."""
    yield verdict(run)
    if run.line is not None and run.scores is not None:
        yield where_from(run)
        if run.drawn:
            yield from doubts(run.scores, run.line)
    yield from run.known.lines(run.rows, run.line)
    if run.skipped.lines:
        yield f"{count(len(run.skipped.lines), 'file')} could not be read"
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
    k, kind = len(run.scores), "given by hand"
    rate = promised(run.scores, run.line) if run.drawn else counted(int((run.scores > run.line).sum()), k)
    if run.alarms is not None:
        kind = f"the lowest with at most {run.alarms:.0%} false alarms, from the scores"
    elif run.drawn:
        kind = "the highest score" if run.quantile == 1 else f"the {run.quantile:g} quantile of the scores"
    kind += f" of {k} good parts, each scored as if it were new" * run.drawn
    return f"the threshold is {kind}; expect good parts above it: {rate}"


def how(fitting: Fitting) -> str:
    """The detector's name in a report, and how many good parts it has, or images of the set that it scores."""
    row = DETECTORS[fitting.detector]
    if row.batched:
        return f"{row.batched}, batched: {count(fitting.parts, 'image')} compared with each other"
    few = f"{row.few_shot} with {count(fitting.parts, 'good part')}"
    return few if fitting.parts else f"{row.zero_shot}, zero-shot"


def report_facts(run: Inspection) -> Facts:
    """The facts of the run, for the report."""
    heading, fitting = run.fitting.object_name or "parts", run.fitting
    return Facts(
        heading=heading[:1].upper() + heading[1:],
        about=f"{verdict(run)}. {how(fitting)}, preset {fitting.preset}, gadkit {gadkit.__version__}.",
        notes=notes(run),
        threshold=run.line,
        normal=fitting.scores,
        skipped=run.skipped.lines,
    )


def notes(run: Inspection) -> list[tuple[str, str]]:
    """Terms of the report, each with its explanation."""
    compare = "Scores compare within a run: same detector, object, preset and good parts."
    score = f"{run.explained}. Higher is more anomalous. {compare}"
    colour = "Where nothing is strange the photograph shows through in grey. All images share one scale: "
    if run.scores is None:
        colour += "it is fixed, as there were no two good parts to measure it on."
        line = "There is none without two or more images of good parts (--normal) or a number (--threshold)."
    else:
        colour += "colour begins where good parts are and is in its middle at their extreme, so good parts stay clear."
        line = where_from(run)[0].upper() + where_from(run)[1:] + "."
    if run.line is not None and run.scores is None:
        line = "Given by hand."
    labels = ". ".join(text[:1].upper() + text[1:] for text in run.known.lines(run.rows, run.line))
    return [("Score", score), ("Threshold", line), ("Heat", colour)] + [("Labels", f"{labels}.")] * bool(labels)
