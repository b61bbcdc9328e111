"""The work of `gadkit detect`: check the question, fit or take what was fitted, draw the line, score.

Book: intro/run-it
"""

import argparse
import math
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from gadkit import runtime, zoo
from gadkit.anomaly import fitted
from gadkit.anomaly.detectors import DETECTORS
from gadkit.anomaly.fitted import Fitting
from gadkit.anomaly.thresholds import threshold
from gadkit.anomaly.tiles import Tiled
from gadkit.checks import share
from gadkit.cli import good_parts, outputs, sources, streams, together
from gadkit.cli.good_parts import Question, Skipped
from gadkit.cli.known import Known
from gadkit.data.folders import Depth, FileRun
from gadkit.protocols import Detector, DetectorState

# what a fitted file says itself
EXCLUDED = (
    *("normal", "object", "detector", "backbone", "heads", "tiles", "bank", "preset"),
    *("prompts", "finder", "segmenter"),
)


@dataclass
class Inspection:
    """One run of the command: what is asked, and what is found out on the way."""

    question: Question
    kept: DetectorState | None  # of a detector that was fitted before
    fitting: Fitting | None  # known from the start, or from `fit` on
    files: list[Path]
    normal_files: list[Path]
    run: FileRun  # what the files and the normal ones have in common
    skipped: Skipped  # files that are passed over
    known: Known  # labels and masks of `files`, as far as a data set's layout has them
    line: float | None  # the threshold, given or drawn
    quantile: float | None  # of the held-out scores, to draw the threshold at; None where something else sets it
    alarms: float | None  # the share of false alarms that the threshold shall promise
    left_out: int = 0  # of the images asked for: those that are among the normal ones
    contour: float | None = None  # where a map is above it, a spot is outlined
    remarks: list[str] = field(default_factory=list)  # the detector's own
    explained: str = ""  # how its scores come about
    rows: list[outputs.ImageScore] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # outputs that could not be written, and why
    check: Callable[[Tensor], str | None] = lambda _: None  # why an image can't be scored

    @property
    def drawn(self) -> bool:
        """Whether the threshold comes from the good parts' scores, and not by hand."""
        return self.quantile is not None or self.alarms is not None

    @property
    def scores(self) -> Tensor | None:
        """The good parts' scores, each held out; None where there are not two."""
        return torch.tensor(self.fitting.scores) if self.fitting.scores else None

    def fit(self) -> Detector:
        """Load the model, show it the normal images if there are any, and draw the line; or take what was fitted."""
        backbone = self.question.load()
        if self.kept is None:
            with sources.up_to(self.skipped.most):
                files = self.files if DETECTORS[self.question.detector].batched else self.normal_files
                detector, self.fitting = good_parts.fit(self.question, backbone, files, self.run, self.skipped)
        else:
            detector = fitted.restore(self.kept, self.fitting, backbone)
        detector = together.agreed(self, detector)
        self.check, self.explained = good_parts.usable(detector, backbone), detector.explain()
        self.remarks = [*detector.remarks(), *_of_tiles(detector, self)]
        self.contour = self.line
        if self.scores is not None:
            where = {"quantile": 1.0 if self.quantile is None else self.quantile, "alarms": self.alarms}
            self.contour = threshold(torch.tensor(self.fitting.peaks), **where)
            self.line = threshold(self.scores, **where) if self.drawn else self.line
        return detector

    def score(self, detector: Detector) -> Iterator[tuple[outputs.ImageScore, Path, Tensor, Tensor]]:
        """Row, path, image and map of one file after the other."""
        read = sources.read(
            together.own(self.files),
            "detect",
            self.skipped,
            depth=self.run.depth,
            refuse=self.skipped.refuse,
            check=self.check,
        )
        with sources.up_to(self.skipped.most), closing(read) as photos:  # an interrupt takes the bar away
            for paths, images in sources.batches(photos):
                with streams.remarking():
                    result = detector.score(images)
                for path, image, heat, score in zip(paths, images, result.maps, result.scores.tolist(), strict=True):
                    self.rows.append(outputs.ImageScore(str(path), score, self.line))
                    self.known.add(path, heat)
                    yield self.rows[-1], path, image, heat


def _of_tiles(detector: Detector, run: Inspection) -> Iterator[str]:
    """How photographs are cut, what that takes, and whether they differ in size from good parts."""
    new = {size for path in run.files if (size := run.run.sizes.get(path))}
    if not isinstance(detector, Tiled) or not new:
        return
    side, (height, width) = detector.size, max(new, key=math.prod)
    if min(height, width) >= side:
        count = len(detector.starts(height)) * len(detector.starts(width))
        most = detector.bytes_at_once(height, width) / 1e6
        yield (
            f"tiles of {side} x {side} pixels, {count} for a photograph of {height} x {width}: "
            f"at most {most:.0f} MB at once for it and its map, beside the network"
        )
    good = {tuple(sorted(size)) for size in run.fitting.sizes}
    if good and (other := {tuple(sorted(size)) for size in new} - good):
        yield (
            f"{outputs.count(len(other), 'size')} of photographs that no good part has: tiles are compared pixel by "
            "pixel, so a part that is larger or smaller in its photograph looks strange"
        )


def planned(arguments: argparse.Namespace) -> Inspection:
    """Everything that can be found wrong before any work is done.  Raises ValueError."""
    for option, value in (("--threshold-quantile", arguments.threshold_quantile), ("--alarms", arguments.alarms)):
        if value is not None:
            share(option, value)
        if value is not None and arguments.normal is None and arguments.fitted is None:
            raise ValueError(f"{option}: expected --normal with it: the scores are those of normal images")
    if arguments.threshold is not None and not math.isfinite(arguments.threshold):
        raise ValueError(f"--threshold: expected a finite number, got {arguments.threshold}")
    question, kept, fitting = _fitted(arguments) if arguments.fitted else (good_parts.asked(arguments), None, None)
    files = sources.files_to_score(arguments.images)
    normal = [] if arguments.normal is None else sources.normal_files(arguments.normal)
    known = {os.path.realpath(path) for path in normal}  # through links, too
    new = [path for path in files if os.path.realpath(path) not in known]
    if not new:
        raise ValueError("IMAGES: expected some that are not among the normal images; there is nothing left to score")
    if arguments.out is not None:
        tables = outputs.SCORES, outputs.UNFINISHED
        outputs.check_own(arguments.out, outputs.HEADER, tables, outputs.REPORT)
    run = _run([*normal, *new], arguments, fitting)
    given = (arguments.threshold, arguments.threshold_quantile, arguments.alarms) != (None,) * 3
    return Inspection(
        question=question,
        kept=kept,
        fitting=fitting,
        files=new,
        normal_files=normal,
        run=run,
        skipped=Skipped(run, arguments.max_pixels),
        known=Known(arguments.images),
        line=arguments.threshold,
        quantile=arguments.threshold_quantile if given else 1.0,
        alarms=arguments.alarms,
        left_out=len(files) - len(new),
    )


def _fitted(arguments: argparse.Namespace) -> tuple[Question, DetectorState, Fitting]:
    """What was fitted before, and the question that it answers."""
    if given := [f"--{name}" for name in EXCLUDED if getattr(arguments, name) is not None]:
        raise ValueError(f"--fitted: expected it without {given[0]}: the file says that already")
    kept, fitting = fitted.read(arguments.fitted)
    good_parts.check_weights(arguments.weights)
    if fitting.weights is not None and arguments.weights is None:
        raise ValueError(f"--weights: expected the checkpoint that it was fitted with, {fitting.weights}, got nothing")
    zoo.check([fitting.backbone], fitting.preset, "--fitted")
    question = Question(
        detector=fitting.detector,
        object_name=fitting.object_name,
        backbone=fitting.backbone,
        preset=fitting.preset,
        device=runtime.device(arguments.device),
        weights=arguments.weights,
        tiles="none",
        bank=good_parts.BANK,
    )
    return question, kept, fitting


def _run(files: list[Path], arguments: argparse.Namespace, fitting: Fitting | None) -> FileRun:
    """What the files have in common; with the white of the good parts, where these are known from before."""
    if fitting is None or (fitting.bits is None and fitting.floats == 1):
        return sources.run_of(files, arguments.bits, arguments.max_pixels)
    if arguments.bits not in (None, fitting.bits):
        raise ValueError(f"--bits: expected {fitting.bits}, as for the good parts of the file, got {arguments.bits}")
    run = sources.run_of(files, fitting.bits, arguments.max_pixels)
    return replace(run, depth=Depth(fitting.bits, fitting.floats))
