"""Vectors of photographs on a disk: appended to, never changed, and searched without reading all of them into memory.

    DIR/index.json              what the vectors were made by, and the shards that count
    DIR/vectors-000000.npy      unit vectors of up to `SHARD` photographs, float32
    DIR/photographs-000000.jsonl    their names and stamps, a line each

A shard counts as soon as index.json names it, and index.json is replaced as a whole: a run that is killed loses the
shard that it was filling.  A photograph that has changed gets a new row, and the last row of a name counts.

Book: multimodal/embeddings
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gadkit.checks import checked, whole
from gadkit.files import LOCK, replacing, write_json
from gadkit.search.neighbors import CHUNK, check_features, inner

FORMAT, VERSION = "gadkit search index", 1
MANIFEST = "index.json"
SHARD = 1024  # photographs a shard: what a kill costs at most
FEW = 8  # queries, up to which reading the vectors takes longer than their products
Stamp = tuple[int, int]  # size in bytes and time of the last change in nanoseconds


@checked
@dataclass(frozen=True)
class Origin:
    """Everything that vectors depend on beside the photograph: those of two origins can't be compared.

    `weights` names the files of weights and their sums, `depth` what is white in files of more than eight bits.
    """

    model: str
    preset: str
    weights: str
    gadkit: str
    depth: str

    def differences(self, other: "Origin") -> list[str]:
        """Where another origin differs, in words: "model clip, not dino"."""
        mine, theirs = asdict(self), asdict(other)
        return [f"{name} {mine[name]}, not {theirs[name]}" for name in mine if mine[name] != theirs[name]]


@checked
@dataclass
class Index:
    """An index that was opened: names and stamps in memory, vectors mapped from their files, row by row alike."""

    folder: Path
    origin: Origin
    width: int | None = None  # numbers a vector; None before the first
    names: list[str] = field(default_factory=list)
    stamps: list[Stamp] = field(default_factory=list)
    shards: list[Float[Tensor, "n d"]] = field(default_factory=list)

    def __len__(self) -> int:
        """The number of rows, with those that a later one replaces."""
        return len(self.names)

    def rows(self) -> dict[str, int]:
        """The row that counts for each name."""
        return {name: row for row, name in enumerate(self.names)}

    def vectors(self, rows: Int[Tensor, "n"]) -> Float[Tensor, "n d"]:
        """The unit vectors of some rows."""
        found = torch.empty(len(rows), self.width or 0)
        start = 0
        for shard in self.shards:
            inside = ((rows >= start) & (rows < start + len(shard))).nonzero()[:, 0]
            found[inside] = shard[rows[inside] - start]
            start += len(shard)
        return found

    def append(self, names: Sequence[str], stamps: Sequence[Stamp], vectors: Float[Tensor, "n d"]) -> None:
        """Add rows as one shard, which counts when this returns and not before.  Vectors are normalised.

        Raises ValueError for another number of names, stamps and vectors, for another width than the index has and for
        vectors that are not finite or have no length; OSError as writing does.
        """
        x = check_features(vectors, "vectors")
        if not len(names) == len(stamps) == len(x) or not len(x):
            raise ValueError(
                f"index: expected a name and a stamp for each of one or more vectors, got {len(names)} names, "
                f"{len(stamps)} stamps and {len(x)} vectors"
            )
        if self.width not in (None, x.shape[1]):
            raise ValueError(f"index: expected vectors of {self.width} numbers, got {x.shape[1]}")
        if not bool(x.norm(dim=1).all()):
            raise ValueError("index: expected vectors with a direction, got one of length 0")
        x = F.normalize(x, dim=1).float().cpu().contiguous()
        number = len(self.shards)
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(_vectors(self.folder, number)) as part, open(part, "wb") as file:
            np.save(file, x.numpy(), allow_pickle=False)
        with replacing(_photographs(self.folder, number)) as part, open(part, "w", encoding="utf-8") as file:
            file.writelines(json.dumps([name, *stamp]) + "\n" for name, stamp in zip(names, stamps, strict=True))
        sizes = [*map(len, self.shards), len(x)]
        _write_manifest(self.folder, self.origin, x.shape[1], sizes)
        self.width = x.shape[1]
        self.names += names
        self.stamps += stamps
        self.shards.append(_mapped(self.folder, number, len(x), x.shape[1]))

    @torch.no_grad()
    def nearest(
        self, queries: Float[Tensor, "q d"], k: int, live: Bool[Tensor, "n"] | None = None
    ) -> tuple[Float[Tensor, "q j"], Int[Tensor, "q j"]]:
        """The k rows of largest cosine for each query, best first, of equal ones the first: cosines and rows.

        One pass over all shards, exactly.  `live` says which rows count; where fewer than k do, j is their number.
        Raises ValueError for queries of another width, and for a k below 1.
        """
        q = self.check(queries, k, live)
        j = min(k, len(self) if live is None else int(live.sum()))
        values, places = q.new_empty(len(q), 0), torch.empty(len(q), 0, dtype=torch.long)
        for start, cosines in self._compared(q):
            if live is not None:
                cosines.masked_fill_(~live[start : start + cosines.shape[1]], -torch.inf)
            best, at = cosines.topk(min(j, cosines.shape[1]), dim=1)
            values, places = torch.cat([values, best], 1), torch.cat([places, at + start], 1)
            values, places = first(values, places, j)
        return values, places

    def check(self, queries: Float[Tensor, "q d"], k: int, live: Bool[Tensor, "n"] | None) -> Float[Tensor, "q d"]:
        """Queries as unit vectors; raises as `nearest` does."""
        whole("k", k)
        q = check_features(queries, "queries").float().cpu()
        if self.width not in (None, q.shape[1]):
            raise ValueError(f"queries: expected vectors of {self.width} numbers, got {q.shape[1]}")
        if live is not None and len(live) != len(self):
            raise ValueError(f"live: expected a word for each of {len(self)} rows, got {len(live)}")
        return F.normalize(q, dim=1)

    def _compared(self, q: Float[Tensor, "q d"]) -> Iterator[tuple[int, Float[Tensor, "q b"]]]:
        """Cosines with as many neighbouring shards at once as `CHUNK` has room for, and the first row of these."""
        start, held = 0, []
        product = inner if len(q) > FEW else F.linear
        for shard in self.shards:
            held.append(product(q, shard))  # (q, b)
            if (width := sum(one.shape[1] for one in held)) * len(q) > CHUNK:
                yield start, torch.cat(held, 1)
                start, held = start + width, []
        if held:
            yield start, torch.cat(held, 1)


def first(
    values: Float[Tensor, "q n"], rows: Int[Tensor, "q n"], k: int
) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """The k largest values of each line, largest first and of equal ones the lowest row first, with their rows."""
    by_row = rows.argsort(dim=1)
    values, rows = values.gather(1, by_row), rows.gather(1, by_row)
    order = values.argsort(dim=1, descending=True, stable=True)[:, :k]
    return values.gather(1, order), rows.gather(1, order)


@checked
def exists(folder: Path) -> bool:
    """Whether there is an index in a folder.

    Raises ValueError where there is none, but something else: an index is begun in a folder of its own.
    """
    if (folder / MANIFEST).is_file():
        return True
    if folder.is_dir():
        other = [path.name for path in folder.iterdir() if path.name != LOCK and not _is_shard(path.name)]
    else:
        other = [folder.name] * folder.exists()
    if other:
        raise ValueError(f"index: expected a folder with an index, or an empty one, got {folder} with {min(other)}")
    return False


@checked
def opened(folder: Path) -> Index:
    """The index in a folder.  Nothing is changed.

    Raises ValueError for a folder without one, for another format or version, and for files that are missing or
    damaged, each with its name.
    """
    held = _manifest(folder)
    try:
        origin, width = Origin(**held["origin"]), whole("width", held["width"])
        sizes = [whole("rows", rows) for rows in held["shards"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / MANIFEST}: expected origin, width and shards, got others ({error})") from error
    index = Index(folder, origin, width)
    for number, rows in enumerate(sizes):
        index.shards.append(_mapped(folder, number, rows, width))
        names, stamps = _listed(folder, number, rows)
        index.names += names
        index.stamps += stamps
    return index


@checked
def stamp(path: Path) -> Stamp:
    """What changes with a file: its size in bytes, and the time of its last change.  Raises OSError as `os.stat`."""
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


def _manifest(folder: Path) -> Mapping[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"index: expected a folder with {MANIFEST}, got {folder} without")
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        kind, version = held["format"], held["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected the list of an index, got something else ({error})") from error
    if (kind, version) != (FORMAT, VERSION):
        raise ValueError(
            f"{path}: expected {FORMAT!r} of version {VERSION}, got {kind!r} of version {version}: nothing was "
            "changed; give another folder to begin an index anew"
        )
    return held


def _write_manifest(folder: Path, origin: Origin, width: int, sizes: list[int]) -> None:
    held = {"format": FORMAT, "version": VERSION, "origin": asdict(origin), "width": width, "shards": sizes}
    write_json(folder / MANIFEST, held)


def _vectors(folder: Path, number: int) -> Path:
    return folder / f"vectors-{number:06}.npy"


def _photographs(folder: Path, number: int) -> Path:
    return folder / f"photographs-{number:06}.jsonl"


def _is_shard(name: str) -> bool:
    """Whether a run that was killed before its first shard counted may have left this."""
    return name.startswith(("vectors-", "photographs-", ".vectors-", ".photographs-", f".{MANIFEST}."))


def _mapped(folder: Path, number: int, rows: int, width: int) -> Float[Tensor, "n d"]:
    path = _vectors(folder, number)
    try:
        held = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: expected vectors of an index, got none ({error})") from error
    if held.shape != (rows, width) or held.dtype != np.float32:
        raise ValueError(f"{path}: expected {rows} x {width} numbers in float32, got {held.shape} in {held.dtype}")
    return torch.from_numpy(held)


def _listed(folder: Path, number: int, rows: int) -> tuple[list[str], list[Stamp]]:
    path = _photographs(folder, number)
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found = [(str(name), (int(size), int(time))) for name, size, time in lines]
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: expected names and stamps, a line each, got something else ({error})") from error
    if len(found) != rows:
        raise ValueError(f"{path}: expected {rows} lines, got {len(found)}")
    return [name for name, _ in found], [stamp for _, stamp in found]
