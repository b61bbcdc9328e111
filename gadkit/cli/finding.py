"""The work of `gadkit search`: read, encode, compare, and show what came nearest.

Book: multimodal/words
"""

import base64
import io
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

import gadkit
from gadkit import distributed
from gadkit.checks import TextCut
from gadkit.cli import gallery, outputs, sources, spaces, together
from gadkit.cli.outputs import count
from gadkit.cli.streams import printable, remark
from gadkit.data.folders import BrokenImage, FileRun, read_image, resize
from gadkit.templates import template

TABLE, SHEET, UNFINISHED = "search.csv", "sheet.html", "search.unfinished.csv"
HEADER = ("query", "rank", "path", "similarity")
SIDE = 320  # pixels of a picture on the sheet


@dataclass(frozen=True)
class Hit:
    """One photograph for one query: 1 is the best rank, and the similarity is a cosine."""

    query: str
    rank: int
    path: Path
    similarity: float

    def json(self) -> str:
        """One line of JSON."""
        row = {"query": self.query, "rank": self.rank, "path": str(self.path), "similarity": self.similarity}
        return json.dumps(row)


@dataclass
class Finding:
    """One run of the command: what is asked, and what is found out on the way."""

    folder: Path
    queries: list[str]
    like: list[Path]  # photographs that are queries
    count: int  # photographs a query
    model: str
    preset: str
    device: str
    files: list[Path]
    run: FileRun  # what they have in common
    gallery: gallery.Gallery
    out: Path | None
    json: bool
    asked: Float[Tensor, "q d"] | None = None  # the queries' vectors
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # outputs that could not be written, and why

    def skip(self, path: Path, reason: str) -> None:
        """Name a file that cannot be read, at once and for the sheet."""
        self.skipped.append(f"{path}: {reason}")
        remark(f"skipped {self.skipped[-1]}")

    def encode(self) -> None:
        """Vectors of the queries and of all photographs that can be read and are not in the index."""
        space = spaces.load(self.model, self.preset, self.device)
        if self.queries:
            remark(*(f"only the beginning of {count(n, 'query')} is read" for n in [space.full(self.queries)] if n))
        self.asked = self._ask(space)
        todo = self.gallery.todo(self.files)
        portion = self.gallery.portion or max(1, len(todo))
        for start in range(0, len(todo), portion):
            self._encode(space, todo[start : start + portion])
        if together.first() and not len(self.gallery):
            raise ValueError(f"FOLDER: none of the {len(self.files)} files could be read")

    def _ask(self, space: spaces.Space) -> Float[Tensor, "q d"] | None:
        with warnings.catch_warnings(action="ignore", category=TextCut):  # `encode` has said what is too long
            found = [space.encode_text(self.queries).cpu()] if self.queries else []
        for path in self.like:
            image = read_image(path, self.run.depth)
            image = image if space.image_size is None else resize(image, space.image_size)
            found.append(space.encode_image(image[None]).cpu())
        return torch.cat(found) if found else None

    def _encode(self, space: spaces.Space, files: list[Path]) -> None:
        """Encode a portion and give it to the gallery; of several processes each encodes a part of it."""
        paths, vectors, named = [], [], len(self.skipped)
        photos = sources.read(together.own(files), "encode", self.skip, space.image_size, depth=self.run.depth)
        try:
            with closing(photos):
                for some, images in sources.batches(photos):
                    vectors.append(space.encode_image(images).cpu())
                    paths += some
        except KeyboardInterrupt:
            if distributed.world() == 1 and paths:
                self.gallery.take(paths, torch.cat(vectors))
            raise
        everybody = distributed.to_first((paths, torch.cat(vectors) if vectors else None, self.skipped[named:]))
        if everybody is None:
            return
        for _, _, skipped in everybody[1:]:
            self.skipped += skipped
            remark(*(f"skipped {line}" for line in skipped))
        place = {path: i for i, path in enumerate(files)}
        found = [path for some, _, _ in everybody for path in some]
        order = sorted(range(len(found)), key=lambda i: place[found[i]])
        if order:
            joined = torch.cat([x for _, x, _ in everybody if x is not None])
            self.gallery.take([found[i] for i in order], joined[order])

    def hits(self) -> list[Hit]:
        """The nearest photographs, query by query, best first; without the photograph that is asked with."""
        if self.asked is None or not len(self.gallery):
            return []
        names = [*self.queries, *map(str, self.like)]
        itself = [None] * len(self.queries) + [path.resolve() for path in self.like]
        similar, paths = self.gallery.nearest(self.asked, self.count + bool(self.like))
        found = []
        for name, own, values, places in zip(names, itself, similar.tolist(), paths, strict=True):
            pairs = [pair for pair in zip(values, places, strict=True) if own is None or pair[1].resolve() != own]
            found += [Hit(name, rank, path, value) for rank, (value, path) in enumerate(pairs[: self.count], 1)]
        return found

    def table(self, hits: Sequence[Hit]) -> Iterator[str]:
        """Lines for a terminal: the query, and below it similarities and paths."""
        for query, found in groups(hits):
            yield printable(f"{query}:")
            yield "  similarity  image"
            for hit in found:
                yield f"  {hit.similarity:10.4f}  {printable(str(hit.path))}"

    def write_rows(self, name: str, hits: Sequence[Hit]) -> None:
        """Write hits as a table."""
        rows = ([hit.query, hit.rank, hit.path, hit.similarity] for hit in hits)
        outputs.write_table(self.out / name, HEADER, rows)

    def write_sheet(self, hits: Sequence[Hit]) -> None:
        """The page that shows them: one file, which opens without a network."""
        pieces = template(SHEET).generate(
            folder=str(self.folder),
            about=f"{count(len(self.gallery), 'photograph')} compared by gadkit {gadkit.__version__} ({self.model})",
            groups=((query, self._cards(found)) for query, found in groups(hits)),
            skipped=self.skipped,
        )
        outputs.write_text(self.out / SHEET, pieces)

    def _cards(self, hits: Iterable[Hit]) -> Iterator[tuple[Hit, str]]:
        for hit in hits:
            try:
                yield hit, thumbnail(read_image(hit.path, self.run.depth))
            except BrokenImage as error:  # it was there a moment ago
                self.failed.append(f"{hit.path}: {error.reason}")
                yield hit, ""

    def summary(self) -> Iterator[str]:
        """The run in a few sentences."""
        if self.asked is not None and self.count > len(self.gallery):
            yield f"asked for {count(self.count, 'photograph')} a query, but there are only {len(self.gallery)}"
        yield f"{count(len(self.gallery), 'photograph')} " + ("compared" if self.asked is not None else "in the index")
        if self.skipped:
            yield f"{count(len(self.skipped), 'file')} could not be read"
        if self.failed:
            yield f"{count(len(self.failed), 'output')} could not be written"
        if self.out is not None:
            yield f"results: {self.out}"


def groups(hits: Sequence[Hit]) -> Iterator[tuple[str, list[Hit]]]:
    """Each query with its hits, also where a query is asked twice."""
    number = 0
    numbered = [(number := number + (hit.rank == 1), hit) for hit in hits]
    for _, found in groupby(numbered, key=lambda pair: pair[0]):
        some = [hit for _, hit in found]
        yield some[0].query, some


def thumbnail(image: UInt8[Tensor, "3 h w"]) -> str:
    """A small JPEG of an image as a data URI, for a page."""
    photo, file = Image.fromarray(image.permute(1, 2, 0).numpy()), io.BytesIO()
    photo.thumbnail((SIDE, SIDE))
    photo.save(file, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
