"""The work of `gadkit detect`: check the question, fit, draw the line, score.

Book: intro/run-it
"""

import argparse
import math
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from gadkit import runtime, zoo
from gadkit.anomaly.detectors import DETECTORS, build, default
from gadkit.anomaly.thresholds import held_out, threshold
from gadkit.checks import one_of, share
from gadkit.cli import outputs, sources, streams
from gadkit.data.folders import FileRun
from gadkit.protocols import AnomalyResult, Detector


@dataclass
class Inspection:
    """One run of the command: what is asked, and what is found out on the way."""

    method: str  # the detector's name in the table
    object_name: str | None  # None where it was not given, and the detector does not read
    preset: str
    device: torch.device
    files: list[Path]
    normal_files: list[Path]
    run: FileRun  # what the files and the normal ones have in common
    labels: dict[Path, int]  # of `files`, as far as a data set's layout knows them
    line: float | None  # the threshold, given or drawn
    quantile: float | None  # of the held-out scores, to draw the threshold at; None where it is given
    left_out: int = 0  # of the images asked for: those that are among the normal ones
    references: int = 0
    copies: int = 0  # among them, of others
    remarks: list[str] = field(default_factory=list)  # the detector's own
    explained: str = ""  # how its scores come about
    normal: AnomalyResult | None = None  # of normal images, each held out
    rows: list[outputs.Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # outputs that could not be written, and why

    def skip(self, path: Path, reason: str) -> None:
        """Name a file that cannot be read, at once and for the report."""
        self.skipped.append(f"{path}: {reason}")
        streams.remark(f"skipped {self.skipped[-1]}")

    def fit(self) -> Detector:
        """Load the model, show it the normal images if there are any, and draw the line.

        Normal images are squashed to the network's size before they are collected, so any number and size of them
        fits into memory.
        """
        name = DETECTORS[self.method].backbone
        streams.loading(name, self.preset)
        backbone = zoo.load(name, self.preset, str(self.device))
        detector = build(self.method, backbone, self.object_name)
        size = detector.image_size
        read = sources.read(self.normal_files, "normal", self.skip, size, depth=self.run.depth)
        images = [image for _, image in read]
        if self.normal_files and not images:
            raise ValueError(f"--normal: none of the {len(self.normal_files)} files could be read")
        self.references = len(images)
        self.copies = len(images) - len({hash(image.numpy().tobytes()) for image in images})
        normal = torch.stack(images) if images else None
        detector.fit(normal)
        self.remarks, self.explained = list(detector.remarks()), detector.explain()
        if len(images) > 1:
            self.normal = held_out(detector, normal, quiet=False)
            if self.quantile is not None:
                self.line = threshold(self.normal.scores, self.quantile)
        return detector

    def score(self, detector: Detector) -> Iterator[tuple[outputs.Row, Path, Tensor, Tensor]]:
        """Row, path, image and map of one file after the other."""
        read = sources.read(self.files, "detect", self.skip, depth=self.run.depth)
        with closing(read) as photos:  # an interrupt takes the bar away
            for paths, images in sources.batches(photos):
                result = detector.score(images)
                for path, image, heat, score in zip(paths, images, result.maps, result.scores.tolist(), strict=True):
                    self.rows.append(outputs.Row(str(path), score, self.line))
                    yield self.rows[-1], path, image, heat


def planned(arguments: argparse.Namespace) -> Inspection:
    """Everything that can be found wrong before any work is done.  Raises ValueError."""
    if arguments.threshold_quantile is not None:
        share("--threshold-quantile", arguments.threshold_quantile)
    if arguments.threshold_quantile is not None and arguments.normal is None:
        raise ValueError("--threshold-quantile: expected --normal with it: the scores are those of normal images")
    if arguments.threshold is not None and not math.isfinite(arguments.threshold):
        raise ValueError(f"--threshold: expected a finite number, got {arguments.threshold}")
    method = arguments.detector or default(normal=arguments.normal is not None)
    row = DETECTORS[one_of("--detector", method, DETECTORS)]
    name = arguments.object
    if (row.object_name and name is None) or (name is not None and not name.strip()):
        came = "nothing" if name is None else repr(name)
        raise ValueError(f'--object: expected a text such as "metal nut", got {came}')
    if arguments.normal is not None and not row.few_shot:
        raise ValueError(f"--normal: expected nothing, for {method} compares with no good parts")
    if arguments.normal is None and not row.zero_shot:
        raise ValueError(f"--normal: expected images of good parts, for {method} compares with them, got nothing")
    files = sources.files_to_score(arguments.images)
    normal = [] if arguments.normal is None else sources.normal_files(arguments.normal)
    known = {os.path.realpath(path) for path in normal}  # through links, too
    new = [path for path in files if os.path.realpath(path) not in known]
    if not new:
        raise ValueError("IMAGES: expected some that are not among the normal images; there is nothing left to score")
    if arguments.out is not None:
        outputs.check_own(arguments.out, outputs.SCORES, outputs.HEADER, outputs.REPORT)
    return Inspection(
        method=method,
        object_name=None if name is None else name.strip(),
        preset=zoo.preset(arguments.preset),
        device=runtime.device(arguments.device),
        files=new,
        normal_files=normal,
        run=sources.run_of([*normal, *new], arguments.bits),
        labels=sources.labels(arguments.images),
        line=arguments.threshold,
        quantile=None if arguments.threshold is not None else arguments.threshold_quantile or 1.0,
        left_out=len(files) - len(new),
    )
