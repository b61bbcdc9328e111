"""The work of `gadkit detect`: check the question, fit, draw the line, score.

Book: intro/run-it
"""

import argparse
import logging
import math
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from gadkit import runtime, zoo
from gadkit.anomaly.detectors import WinCLIP
from gadkit.anomaly.prompts import WINCLIP
from gadkit.anomaly.thresholds import held_out, threshold
from gadkit.backbones import OpenCLIP
from gadkit.cli import outputs, sources
from gadkit.data.folders import Run
from gadkit.protocols import AnomalyResult


@dataclass
class Inspection:
    """One run of the command: what is asked, and what is found out on the way."""

    object_name: str
    preset: str
    device: torch.device
    files: list[Path]
    normal_files: list[Path]
    run: Run  # what the files and the normal ones have in common
    labels: dict[Path, int]  # of `files`, as far as a data set's layout knows them
    line: float | None  # the threshold, given or drawn
    quantile: float | None  # of the held-out scores, to draw the threshold at; None where it is given
    left_out: int = 0  # of the images asked for: those that are among the normal ones
    references: int = 0
    copies: int = 0  # among them, of others
    prompts: tuple[int, int, int] = (0, 0, 0)  # that fill the model's context, all, and the tokens of that context
    normal: AnomalyResult | None = None  # of normal images, each held out
    rows: list[outputs.Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def skip(self, path: Path, reason: str) -> None:
        """Name a file that cannot be read, at once and for the report."""
        self.skipped.append(f"{path}: {reason}")
        outputs.tell(f"skipped {self.skipped[-1]}")

    def fit(self) -> WinCLIP:
        """Load the model, show it the normal images if there are any, and draw the line.

        Normal images are squashed to what the network sees before they are collected, so any number and size of them
        fits into memory.
        """
        clip = _load(self.preset, self.device)
        detector, texts = WinCLIP(clip, self.object_name), [*chain(*WINCLIP.texts(self.object_name))]
        self.prompts = clip.full(texts), len(texts), clip.context_length
        read = sources.read(self.normal_files, "normal", self.skip, clip.image_size, depth=self.run.depth)
        images = [image for _, image in read]
        if self.normal_files and not images:
            raise ValueError(f"--normal: none of the {len(self.normal_files)} files could be read")
        self.references = len(images)
        self.copies = len(images) - len({hash(image.numpy().tobytes()) for image in images})
        if not images:
            return detector.fit()
        detector.fit(torch.stack(images))
        if len(images) > 1:
            self.normal = held_out(detector, torch.stack(images), quiet=False)
            if self.quantile is not None:
                self.line = threshold(self.normal.scores, self.quantile)
        return detector

    def score(self, detector: WinCLIP) -> Iterator[tuple[outputs.Row, Path, Tensor, Tensor]]:
        """Row, path, image and map of one file after the other."""
        read = sources.read(self.files, "detect", self.skip, depth=self.run.depth)
        with closing(read) as photos:  # an interrupt takes the bar away
            for paths, images in sources.batches(photos):
                result = detector.score(images)
                for path, image, heat, score in zip(paths, images, result.maps, result.scores.tolist(), strict=True):
                    self.rows.append(outputs.Row(str(path), score, self.line))
                    yield self.rows[-1], path, image, heat


def check(arguments: argparse.Namespace) -> Inspection:
    """Everything that can be found wrong before any work is done.  Raises ValueError."""
    if arguments.threshold_quantile is not None and not 0 < arguments.threshold_quantile <= 1:
        raise ValueError(f"--threshold-quantile: expected above 0 and at most 1, got {arguments.threshold_quantile}")
    if arguments.threshold_quantile is not None and arguments.normal is None:
        raise ValueError("--threshold-quantile: expected --normal with it: the scores are those of normal images")
    if arguments.threshold is not None and not math.isfinite(arguments.threshold):
        raise ValueError(f"--threshold: expected a finite number, got {arguments.threshold}")
    WINCLIP.texts(arguments.object)
    files = sources.files_to_score(arguments.images)
    normal = [] if arguments.normal is None else sources.normal_files(arguments.normal)
    known = {os.path.realpath(path) for path in normal}  # through links, too
    new = [path for path in files if os.path.realpath(path) not in known]
    if not new:
        raise ValueError("IMAGES: expected some that are not among the normal images; there is nothing left to score")
    for folder, option in ((arguments.out, "--out"), (arguments.maps, "--maps")):
        if folder is not None:
            outputs.prepare(folder, option)
    return Inspection(
        object_name=arguments.object.strip(),
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


def _load(preset: str, device: torch.device) -> OpenCLIP:
    """The model, without the pages that the hub's libraries log where there is no network: the error says it all."""
    if preset == "paper":
        published = zoo.find("clip", preset)
        outputs.tell(f"loading {published.id} ({published.size:.0f} MB, downloaded when first used)")
    logging.disable(logging.ERROR)
    try:
        return zoo.load("clip", preset, str(device))
    finally:
        logging.disable(logging.NOTSET)
