"""The work of `gadkit curate`: read, encode, choose, and write down what became of every image.

Book: selfsup/curation
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gadkit import runtime, zoo
from gadkit.checks import whole
from gadkit.cli import outputs, sources
from gadkit.cli.outputs import attempt, count
from gadkit.cli.streams import loading, remark
from gadkit.curation import Curated, curate
from gadkit.curation.likeness import Line, line_between
from gadkit.data.folders import FileRun, load_images, natural
from gadkit.evaluation.features import encode

SHARE = 4  # one image in so many stays unless the user says how many
ROWS, COLUMNS, THUMBNAIL = 60, 9, 128  # of the contact sheet; pixels a side
UNFINISHED = "curation.unfinished.csv"  # what an interrupt leaves
ASKED = 64  # images that are "taken again" to find out how alike that leaves them


@dataclass
class Collection:
    """One run of the command: what is asked, and what is found out on the way."""

    backbone: str
    preset: str | None
    device: str
    files: list[Path]
    run: FileRun  # what they have in common
    keep: int | None
    clusters: Sequence[int] | None
    duplicates: float | None  # the cosine from which two images are one; None until it is measured
    choice: str
    seed: int
    out: Path
    end: str  # of a path in the list: a line break, or NUL
    left_out: int = 0  # images below FOLDER that earlier runs have written
    read: list[Path] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # outputs that could not be written, and why

    def skip(self, path: Path, reason: str) -> None:
        """Name a file that cannot be read, at once and for the table."""
        self.skipped.append((path, reason))
        remark(f"skipped {path}: {reason}")

    def encode(self) -> Float[Tensor, "n d"]:
        """Features of all images that can be read; on the way, how alike an image and itself taken again are."""
        loading(self.backbone, self.preset)
        backbone = zoo.load(self.backbone, self.preset, self.device)
        features, again, every = [], [], max(1, len(self.files) // ASKED)
        photos = sources.read(self.files, "encode", self.skip, backbone.image_size, depth=self.run.depth)
        for paths, images in sources.batches(photos):
            features.append(encode(backbone, images).pooled)
            some = [i for i in range(len(paths)) if (len(self.read) + i) % every == 0]
            if some and self.duplicates is None:
                again.append((images[some], features[-1][some]))
            self.read += paths
        if not features:
            raise ValueError(f"FOLDER: none of the {len(self.files)} files could be read")
        x = torch.cat(features)
        if self.duplicates is None:
            images, before = (torch.cat(parts) for parts in zip(*again, strict=True))
            line = line_between(backbone, images, before, x)
            self.duplicates = line.cosine
            remark(*_doubt(line))
        return x

    def before(self) -> Iterator[str]:
        """Remarks that one wants to read before the work is done."""
        yield from self.run.remarks
        if self.left_out:
            yield f"left out: {count(self.left_out, 'image')} in the output folder, or contact sheets of earlier runs"

    def curate(self) -> Curated:
        """Encode all images and choose."""
        x = self.encode()
        keep = max(1, len(x) // SHARE) if self.keep is None else self.keep
        draw = torch.Generator().manual_seed(self.seed)
        found = curate(x, keep, self.clusters, self.duplicates, self.choice, draw, self.order())
        remark(*self._less(found, keep), *_more(found))
        return found

    def order(self) -> Int[Tensor, "n"]:
        """The images that were read, those with most pixels first, and of as many pixels the first by name."""
        name = {path: place for place, path in enumerate(natural(self.read))}
        rows = range(len(self.read))
        return torch.tensor(sorted(rows, key=lambda i: (-self.run.pixels[self.read[i]], name[self.read[i]])))

    def _less(self, found: Curated, keep: int) -> Iterator[str]:
        """Remarks on what was asked for and could not be had."""
        left = len(found.twin.unique())
        why = [f"{count(len(self.skipped), 'file')} could not be read"] * bool(self.skipped)
        why += [f"{count(len(found.twin) - left, 'image')} went as near-duplicates"] * (left < len(found.twin))
        because = f" ({' and '.join(why)})" if why else ""
        if left < keep:
            yield f"asked to keep {count(keep, 'image')}, but there are only {left}{because}"
        if self.clusters and left < self.clusters[0]:
            yield f"asked for {self.clusters[0]} clusters, but there are only {left} images to fill them{because}"

    def write(self, found: Curated) -> None:
        """The table, the list and the sheet; each takes its name when it is whole.  One that fails is named."""
        numbers = _numbers(found)
        with attempt(self.failed):
            self._write_rows(sources.TABLE, self._rows(found, numbers), numbers.shape[1])
            (self.out / UNFINISHED).unlink(missing_ok=True)
        with attempt(self.failed):
            kept = (outputs.safe(self.read[i]) + self.end for i in found.kept.tolist())
            outputs.write_text(self.out / sources.LIST, kept, errors="surrogateescape")
        with attempt(self.failed):
            self._write_sheet(found, numbers[:, 0])

    def write_unfinished(self) -> None:
        """The results of an interrupted run: the images that were read, and the files that could not be."""
        with attempt(self.failed):
            self._write_rows(UNFINISHED, ([path, "undecided", ""] for path in self.read), 0)
            remark(f"what was read until now: {self.out / UNFINISHED}")

    def _rows(self, found: Curated, numbers: Int[Tensor, "n levels"]) -> Iterator[list[Any]]:
        """Path, status, the image that a near-duplicate goes with, and the numbers of its clusters."""
        status = _status(found)
        for i, path in enumerate(self.read):
            twin = self.read[found.twin[i]] if status[i] == "duplicate" else ""
            yield [path, status[i], twin, *numbers[i].tolist()]

    def _write_rows(self, name: str, rows: Iterable[list[Any]], levels: int) -> None:
        """Write rows to a file, with those of the files that could not be read behind them."""
        header = [*sources.HEADER, *(f"cluster_{i + 1}" for i in range(levels))]
        unreadable = ([path, "unreadable", "", *[""] * levels] for path, _ in self.skipped)
        outputs.write_table(self.out / name, header, (*rows, *unreadable))

    def _write_sheet(self, found: Curated, top: Tensor) -> None:
        """A row a cluster, the largest first; clusters that give nothing have nothing to show."""
        from gadkit import viz  # imported late: it loads matplotlib

        rows = []
        for number in range(1, min(ROWS, int(top.max())) + 1):
            inside = found.kept[top[found.kept] == number]
            some = [self.read[i] for i in inside[:COLUMNS].tolist()]
            if some:
                rows.append((int((top == number).sum()), len(inside), load_images(some, THUMBNAIL, self.run.depth)))
        columns = min(COLUMNS, max(5, *(len(images) for *_, images in rows), 0))
        with outputs.atomic(self.out / sources.SHEET, "wb") as file:
            viz.show_clusters(rows, columns, page=True).savefig(file, format="png")

    def table(self, found: Curated) -> Iterator[str]:
        """Lines for a terminal: what each of the largest clusters held and holds."""
        top, status = _numbers(found)[:, 0], _status(found)
        yield "cluster  images  near-duplicates  dropped  kept"
        last = int(top.max())
        for number in range(1, min(ROWS, last) + 1):
            inside = [status[i] for i in (top == number).nonzero()[:, 0].tolist()]
            cells = (inside.count(word) for word in ("duplicate", "dropped", "kept"))
            yield "{:7}  {:6}  {:15}  {:7}  {:4}".format(number, len(inside), *cells)
        if last > ROWS:
            yield f"... and {last - ROWS} smaller ones, in curation.csv"

    def summary(self, found: Curated) -> Iterator[str]:
        """The run in a few sentences."""
        status = _status(found)
        yield (
            f"{count(len(self.read), 'image')}: {status.count('duplicate')} near-duplicates of others "
            f"(cosine {self.duplicates:.4f} or more), {status.count('dropped')} dropped, {len(found.kept)} kept"
        )
        for what, rows in (("before", torch.arange(len(self.read))), ("after", found.kept)):
            share = _numbers(found)[rows, 0].bincount().max() / len(rows)
            yield f"{what}, the largest of {len(found.tree.sizes[-1])} clusters held {share:.0%} of the images"
        if self.skipped:
            yield f"{count(len(self.skipped), 'file')} could not be read"
        if self.failed:
            yield f"{count(len(self.failed), 'output')} could not be written"
        yield f"results: {self.out}"


def _more(found: Curated) -> Iterator[str]:
    """A warning if most of the collection goes before anything is chosen."""
    gone = len(found.twin) - len(found.twin.unique())
    if 2 * gone > len(found.twin):
        yield (
            f"more than half of the images, {gone} of {len(found.twin)}, went as near-duplicates of others: look at "
            "contact.png, and if they are not, raise --duplicates (1 for copies only)"
        )


def _doubt(line: Line) -> Iterator[str]:
    """Why the line is not the usual one."""
    if line.of != "taken again":
        yield (
            f"these photographs are too much alike for this backbone to distinguish a second shot from another part: "
            f"from a cosine of {line.retaken:.4f} on, the value of an image and its retake, different parts join"
        )
        kind = f"images saved again (cosine {line.cosine:.4f} or more)" if line.of == "saved again" else "copies"
        yield f"so only {kind} count as near-duplicates; --duplicates COSINE draws another line"


def _numbers(found: Curated) -> Tensor:
    """Cluster numbers from 1, coarsest level first, on each level the cluster with the most images first."""
    columns = []
    for column in found.clusters.T.flip(0):
        counts = column.bincount()
        columns.append(counts.argsort(descending=True, stable=True).argsort()[column] + 1)
    return torch.stack(columns, 1)


def _status(found: Curated) -> list[str]:
    """The fate of every image: kept, dropped or duplicate."""
    kept, twin = set(found.kept.tolist()), found.twin.tolist()
    return ["kept" if i in kept else "dropped" if twin[i] == i else "duplicate" for i in range(len(twin))]


def planned(arguments: argparse.Namespace) -> Collection:
    """Everything that can be found wrong before any work is done.  Raises ValueError."""
    keep = None if arguments.keep is None else whole("--keep", arguments.keep, 1, 10**9)
    if arguments.duplicates is not None and not -1 < arguments.duplicates <= 1:
        raise ValueError(f"--duplicates: expected a cosine above -1 and at most 1, got {arguments.duplicates}")
    files, left_out = sources.files_below(arguments.images, arguments.out)
    falling = [len(files), *(arguments.clusters or [1]), 1]
    if falling != sorted(falling, reverse=True):
        raise ValueError(
            f"--clusters: expected numbers that fall from at most {len(files)}, the images, got {arguments.clusters}"
        )
    if not arguments.null and (broken := [path for path in files if "\n" in str(path)]):
        raise ValueError(
            f"FOLDER: expected names without line breaks, as {sources.LIST} has a path a line, got {str(broken[0])!r}: "
            "take --null"
        )
    outputs.check_own(arguments.out, sources.HEADER, (sources.TABLE, UNFINISHED), sources.SHEET, sources.LIST)
    zoo.check([arguments.backbone], arguments.preset, "--backbone")
    return Collection(
        backbone=arguments.backbone,
        preset=arguments.preset,
        device=str(runtime.device(arguments.device)),
        files=files,
        run=sources.run_of(files, arguments.bits),
        keep=keep,
        clusters=arguments.clusters,
        duplicates=arguments.duplicates,
        choice=arguments.choice,
        seed=arguments.seed,
        out=arguments.out,
        end="\0" if arguments.null else "\n",
        left_out=left_out,
    )
