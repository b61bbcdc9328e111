"""From a question and photographs of good parts to a fitted detector: the common work of `fit` and `detect`.

Book: intro/run-it
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit import runtime, viz, zoo
from gadkit.anomaly.detectors import DETECTORS, backbone_of, build, default
from gadkit.anomaly.fitted import Fitting
from gadkit.anomaly.hybrid import HybridPrompts
from gadkit.anomaly.tiles import Tiled
from gadkit.checks import one_of
from gadkit.cli import sources, streams
from gadkit.data.folders import FileRun, read_image, resize
from gadkit.protocols import Backbone, Detector

BANK = 32.0  # megabytes
KEEP = 2**28  # bytes of photographs that are kept between one reading and the next
COLOURS = 64  # pixels a side that are taken of each map to measure what is usual


@dataclass(frozen=True)
class Question:
    """The detector that is asked for."""

    detector: str  # its name in the table
    object_name: str | None  # None where it was not given, and the detector does not read
    backbone: str
    preset: str
    device: torch.device
    weights: Path | None
    tiles: str | int  # "auto", "none", or the side of a tile in pixels
    bank: float
    heads: Path | None = None  # a checkpoint to read in place of the detector's own trained part
    objects: Mapping[str, Any] = field(default_factory=dict)  # arguments of a detector on models that see objects

    def load(self) -> Backbone:
        """The backbone, from the file that was named or from its usual place."""
        if self.weights is None:
            streams.loading(self.backbone, self.preset)
        for name in (self.objects.get(what) for what in ("finder", "segmenter")):
            if name is not None:
                streams.loading(name, self.preset)
        return zoo.load(self.backbone, self.preset, str(self.device), file=self.weights)

    def build(self, backbone: Backbone, sizes: Sequence[tuple[int, int]]) -> Detector:
        """The detector, not fitted, for photographs of these sizes: those of good parts, if there are any."""
        bank = {"bank": self.bank} if DETECTORS[self.detector].bank else {}
        given = {**bank, **self.objects}
        detector = build(self.detector, backbone, self.object_name, self.heads, self.preset, **given)
        side = self.tiles
        if side == "auto" and self.objects:  # a tile does not show the part
            side = "none"
        if side == "auto":
            side = backbone.image_size if sizes and min(map(min, sizes)) > 2 * backbone.image_size else "none"
        return detector if side == "none" else Tiled(detector, side)

    def fitting(self, **seen: Any) -> Fitting:
        """How the detector was made, with what is known of the good parts that it has seen."""
        return Fitting(
            detector=self.detector,
            object_name=self.object_name,
            backbone=self.backbone,
            preset=self.preset,
            weights=None if self.weights is None else self.weights.name,
            **seen,
        )


def asked(arguments: argparse.Namespace) -> Question:
    """The question, if it makes sense.  Raises ValueError, and `WeightsUnavailable` for a backbone without weights."""
    preset = zoo.preset(arguments.preset)
    named = arguments.object is not None or preset != "tiny"  # what needs no name has shipped heads only
    name = one_of("--detector", arguments.detector or default(arguments.normal is not None, named), DETECTORS)
    row, objects = DETECTORS[name], _objects(arguments, name, preset)
    noun = objects["prompts"].noun if arguments.object is None and "prompts" in objects else arguments.object
    if (row.object_name and noun is None) or (noun is not None and not noun.strip()):
        came = "nothing" if noun is None else repr(noun)
        raise ValueError(f'--object: expected a text such as "metal nut", got {came}')
    if arguments.normal is not None and not row.few_shot:
        raise ValueError(f"--normal: expected nothing, for {name} compares with no good parts")
    if arguments.normal is None and not (row.zero_shot or row.batched):
        raise ValueError(f"--normal: expected images of good parts, for {name} compares with them, got nothing")
    if arguments.bank is not None and not row.bank:
        able = ", ".join(name for name, row in DETECTORS.items() if row.bank)
        raise ValueError(f"--bank: expected it with {able}, got it with {name}, whose memory can't be thinned")
    if arguments.heads is not None and not row.heads:
        able = ", ".join(name for name, row in DETECTORS.items() if row.heads) or "a detector that has some"
        raise ValueError(f"--heads: expected it with {able}, got it with {name}, which has no trained part")
    check_weights(arguments.weights), check_weights(arguments.heads, "--heads")
    return Question(
        detector=name,
        object_name=None if noun is None else noun.strip(),
        backbone=backbone_of(name, arguments.backbone, preset),
        preset=preset,
        device=runtime.device(arguments.device),
        weights=arguments.weights,
        tiles=arguments.tiles or "auto",
        bank=arguments.bank or BANK,
        heads=arguments.heads,
        objects=objects,
    )


def _objects(arguments: argparse.Namespace, name: str, preset: str) -> dict[str, Any]:
    """What a detector on models that see objects takes beside its backbone; empty for others.

    Raises ValueError where others are given such a thing, for a name that is none of theirs, and for a file that holds
    no prompts; `WeightsUnavailable` for a model that has no weights under the preset.
    """
    kinds, usual = {"finder": zoo.OPEN_VOCABULARY, "segmenter": zoo.PROMPTABLE}, DETECTORS[name].objects
    given = {what: value for what in (*kinds, "prompts") if (value := getattr(arguments, what)) is not None}
    if not usual:
        if given:
            able = ", ".join(name for name, row in DETECTORS.items() if row.objects)
            raise ValueError(f"--{next(iter(given))}: expected it with {able}, got it with {name}")
        return {}
    found = dict(zip(kinds, usual, strict=True)) | given
    for what, gives in kinds.items():
        zoo.find(one_of(f"--{what}", found[what], zoo.list(gives)), preset, f"--{what}")
    if "prompts" in found:
        found["prompts"] = HybridPrompts.read(found["prompts"])
    return found


def check_weights(file: Path | None, option: str = "--weights") -> None:
    """Raise ValueError for a checkpoint that is not there."""
    if file is not None and not file.is_file():
        raise ValueError(f"{option}: expected a file, got {str(file)!r}: no such file")


class Skipped:
    """The files of a run that are passed over, each named at once and kept for the report."""

    def __init__(self, run: FileRun, most: int | None = None) -> None:
        self.run, self.most = run, most
        self.lines: list[str] = []

    def __call__(self, path: Path, reason: str) -> None:
        """Name a file that can't be used, and why; once, however often it is read."""
        if (line := f"{path}: {reason}") not in self.lines:
            self.lines.append(line)
            streams.remark(f"skipped {line}")

    def refuse(self, path: Path) -> str | None:
        """Why a file shall not be opened: it has more than `most` pixels."""
        count = self.run.pixels.get(path, 0)
        too_large = self.most is not None and count > self.most
        return f"expected at most {self.most} pixels (--max-pixels), got {count}" if too_large else None


class GoodParts:
    """Photographs of good parts in batches of one size, as often as they are read.

    Photographs are squashed to `size` pixels a side if given.  Some stay in memory; the others are read again each
    time, so that any number of any size will do.  The first reading finds out the rest: `sizes` of the photographs,
    their number `count`, and how many `copies` of others are among them.  Files that can't be read are skipped then.
    """

    def __init__(
        self,
        files: Sequence[Path],
        skipped: Skipped,
        size: int | None,
        check: Callable[[Tensor], str | None],
        option: str = "--normal",
    ) -> None:
        self.files, self.skipped, self.size, self.check, self.option = files, skipped, size, check, option
        self.sizes: tuple[tuple[int, int], ...] = ()
        self.count = self.copies = 0
        self._paths: list[Path] | None = None
        self._kept: dict[Path, Tensor] = {}

    def __iter__(self) -> Iterator[UInt8[Tensor, "b 3 h w"]]:
        """Raises ValueError where no file could be read."""
        photos = self._first() if self._paths is None else self._again(self._paths)
        for _, images in sources.batches(photos):
            yield images

    def _first(self) -> Iterator[tuple[Path, Tensor]]:
        paths, sizes, hashes, room = [], set(), set(), KEEP
        depth, refuse = self.skipped.run.depth, self.skipped.refuse
        read = sources.read(self.files, "normal", self.skipped, depth=depth, refuse=refuse, check=self.check)
        for path, photo in read:
            image = photo if self.size is None else resize(photo, self.size)
            paths.append(path)
            sizes.add(tuple(photo.shape[1:]))
            hashes.add(hash(image.numpy().tobytes()))
            if image.numel() <= room:
                self._kept[path] = image
                room -= image.numel()
            yield path, image
        if not paths:
            raise ValueError(f"{self.option}: none of the {len(self.files)} files could be read")
        self._paths, self.sizes, self.count = paths, tuple(sorted(sizes)), len(paths)
        self.copies = len(paths) - len(hashes)

    def _again(self, paths: Sequence[Path]) -> Iterator[tuple[Path, Tensor]]:
        for path in paths:
            if (image := self._kept.get(path)) is None:
                image = read_image(path, self.skipped.run.depth)
                image = image if self.size is None else resize(image, self.size)
            yield path, image


def fit(
    question: Question, backbone: Backbone, files: Sequence[Path], run: FileRun, skipped: Skipped
) -> tuple[Detector, Fitting]:
    """Show the detector the good parts, if there are any, and score each as if it were new.

    A batched detector is shown the photographs themselves, as they are, and nothing is held out: none of them is known
    to be good.  Raises ValueError where no file could be read.
    """
    batched = bool(DETECTORS[question.detector].batched)
    there = [size for path in files or run.sizes if (size := run.sizes.get(path)) and not skipped.refuse(path)]
    detector = question.build(backbone, there)
    size = None if batched or isinstance(detector, Tiled) else detector.image_size
    normal = GoodParts(files, skipped, size, usable(detector, backbone), "IMAGES" if batched else "--normal")
    detector.fit(normal if files else None)
    found = _held_out(detector, normal) if normal.count > 1 and not batched else {}
    return detector, question.fitting(
        parts=normal.count,
        copies=0 if batched else normal.copies,
        sizes=normal.sizes,
        bits=run.depth.bits,
        floats=run.depth.floats,
        **found,
    )


def usable(detector: Detector, backbone: Backbone) -> Callable[[Tensor], str | None]:
    """A function that says why a photograph can't be scored, or None: it may be too small for a patch or a tile."""
    side = detector.size if isinstance(detector, Tiled) else None

    def reason(image: UInt8[Tensor, "3 h w"]) -> str | None:
        height, width = image.shape[1:]
        if side is not None and min(height, width) < side:
            return f"expected at least {side} x {side} pixels, a tile, got {height} x {width}"
        if max(height, width) < backbone.patch_size:
            least = backbone.patch_size
            return f"expected at least {least} pixels along one side, as a patch has, got {height} x {width}"
        return None

    return reason


def _held_out(detector: Detector, normal: GoodParts) -> dict[str, tuple[float, ...]]:
    """The score and the highest value of each good part, and what is usual in their maps; maps are not kept."""
    scores, peaks, some = [], [], []
    for result in runtime.progress(detector.leave_one_out(normal), "threshold", total=normal.count):
        scores += result.scores.tolist()
        peaks += result.maps.amax((1, 2)).tolist()
        some.append(_thinned(result.maps).flatten().cpu())
    return {"scores": tuple(scores), "peaks": tuple(peaks), "usual": viz.extremes(torch.cat(some))}


def _thinned(maps: Float[Tensor, "b h w"]) -> Float[Tensor, "b r c"]:
    """Every so many pixels of maps, at most `COLOURS` a side."""
    down, across = (-(-side // COLOURS) for side in maps.shape[1:])
    return maps[:, ::down, ::across]
