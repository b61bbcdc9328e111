"""The work of `gadkit search`: read, encode, compare, and show what came nearest.

Book: multimodal/words
"""

import argparse
import base64
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from torch import Tensor

import gadkit
from gadkit import runtime, zoo
from gadkit.backbones import sentences
from gadkit.checks import whole
from gadkit.cli import outputs, sources
from gadkit.cli.outputs import count
from gadkit.cli.streams import loading, printable, remark
from gadkit.data.folders import BrokenImage, FileRun, read_image
from gadkit.multimodal.conse import ConSE
from gadkit.search.neighbors import topk
from gadkit.weights import ASSETS

EYES, READER = zoo.REAL, "minilm"
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
    count: int  # photographs a query
    preset: str
    device: str
    files: list[Path]
    run: FileRun  # what they have in common
    out: Path | None
    json: bool
    read: list[Path] = field(default_factory=list)
    places: list[Float[Tensor, "b d"]] = field(default_factory=list)  # of the photographs that were read
    asked: Float[Tensor, "q d"] | None = None  # the queries' vectors
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # outputs that could not be written, and why

    def skip(self, path: Path, reason: str) -> None:
        """Name a file that cannot be read, at once and for the sheet."""
        self.skipped.append(f"{path}: {reason}")
        remark(f"skipped {self.skipped[-1]}")

    def encode(self) -> None:
        """Vectors of the queries and of all photographs that can be read."""
        loading(EYES, self.preset)
        eyes, reader = (zoo.load(name, self.preset, self.device) for name in (EYES, READER))
        remark(*(f"only the beginning of {count(n, 'query')} is read" for n in [reader.full(self.queries)] if n))
        conse = ConSE(eyes, reader)
        self.asked = conse.encode_text(self.queries).cpu()
        with closing(sources.read(self.files, "encode", self.skip, depth=self.run.depth)) as photos:
            for paths, images in sources.batches(photos):
                self.places.append(conse.encode_image(images).cpu())
                self.read += paths
        if not self.read:
            raise ValueError(f"FOLDER: none of the {len(self.files)} files could be read")

    def hits(self) -> list[Hit]:
        """The nearest photographs, query by query, best first."""
        similar, rows = topk(self.asked, torch.cat(self.places), min(self.count, len(self.read)))  # (q, k) each
        return [
            Hit(query, rank, self.read[row], value)
            for query, values, places in zip(self.queries, similar.tolist(), rows.tolist(), strict=True)
            for rank, (value, row) in enumerate(zip(values, places, strict=True), 1)
        ]

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
        page = Environment(loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined)
        pieces = page.get_template(SHEET).generate(
            folder=str(self.folder),
            about=f"{count(len(self.read), 'photograph')} compared by gadkit {gadkit.__version__} ({EYES}, {READER})",
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
        if self.count > len(self.read):
            yield f"asked for {count(self.count, 'photograph')} a query, but there are only {len(self.read)}"
        yield f"{count(len(self.read), 'photograph')} compared"
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


def planned(arguments: argparse.Namespace) -> Finding:
    """Everything that can be found wrong before any work is done.  Raises ValueError and WeightsUnavailable."""
    number = whole("--count", arguments.count, 1, 10**9)
    queries = [query.strip() for query in arguments.queries]
    if not all(queries):
        raise ValueError('QUERY: expected a text such as "a cup of coffee", got an empty one')
    zoo.check([EYES], arguments.preset)
    sentences.packaged(zoo.find(READER, arguments.preset))
    files, _ = sources.files_below([arguments.folder], arguments.folder)
    if arguments.out is not None:
        outputs.check_own(arguments.out, HEADER, (TABLE, UNFINISHED), SHEET)
    return Finding(
        folder=arguments.folder,
        queries=queries,
        count=number,
        preset=zoo.preset(arguments.preset),
        device=str(runtime.device(arguments.device)),
        files=files,
        run=sources.run_of(files, arguments.bits),
        out=arguments.out,
        json=arguments.json,
    )
