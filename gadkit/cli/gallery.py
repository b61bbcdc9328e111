"""The photographs of `gadkit search` as vectors: in memory for one run, or in an index that is kept and added to.

Book: multimodal/embeddings
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gadkit.cli.outputs import count
from gadkit.cli.streams import remark
from gadkit.files import replacing
from gadkit.search import approximate, index
from gadkit.search.neighbors import topk

NAMED = 3  # of the photographs that have vanished

Found = tuple[Float[Tensor, "q k"], list[list[Path]]]


@runtime_checkable
class Gallery(Protocol):
    """Where the vectors of photographs go, and where their nearest ones come from."""

    @property
    def portion(self) -> int | None:
        """How many photographs are given at once; None: all."""

    def todo(self, files: Sequence[Path]) -> list[Path]:
        """The photographs that have yet to be encoded."""

    def take(self, paths: Sequence[Path], vectors: Float[Tensor, "n d"]) -> None:
        """Keep the vectors of photographs."""

    def nearest(self, queries: Float[Tensor, "q d"], k: int) -> Found:
        """Cosines and paths of the k nearest photographs of each query, or of all where there are fewer."""

    def __len__(self) -> int:
        """The photographs that can be found."""


@dataclass
class InMemory:
    """The photographs of one run."""

    portion: None = None
    paths: list[Path] = field(default_factory=list)
    vectors: list[Float[Tensor, "b d"]] = field(default_factory=list)

    def __len__(self) -> int:
        """The photographs that can be found."""
        return len(self.paths)

    def todo(self, files: Sequence[Path]) -> list[Path]:
        """All of them."""
        return list(files)

    def take(self, paths: Sequence[Path], vectors: Float[Tensor, "n d"]) -> None:
        """Keep the vectors of photographs."""
        self.paths += paths
        self.vectors.append(vectors)

    def nearest(self, queries: Float[Tensor, "q d"], k: int) -> Found:
        """Cosines and paths, best first."""
        values, rows = topk(queries, torch.cat(self.vectors), min(k, len(self)))
        return values, [[self.paths[row] for row in some] for some in rows.tolist()]


@dataclass
class OnDisk:
    """The photographs below the folders of a run, as far as an index has them, and the index itself."""

    index: index.Index
    below: Path  # the folder or file that is searched
    faiss: bool | None = None  # None: where the index is large and faiss is installed
    seen: dict[str, Path] = field(default_factory=dict)  # the files of this run by their names in the index
    stamps: dict[str, index.Stamp] = field(default_factory=dict)  # as they were before they were read

    @property
    def portion(self) -> int:
        """A shard."""
        return index.SHARD

    def __len__(self) -> int:
        """The photographs that can be found."""
        return int(self._live().sum())

    def todo(self, files: Sequence[Path]) -> list[Path]:
        """New photographs and those that have changed; says how many these are, and which ones have vanished."""
        self.seen = {os.path.abspath(path): path for path in files}
        self.stamps = {name: found for name, path in self.seen.items() if (found := _stamp(path)) is not None}
        rows, new, changed = self.index.rows(), [], []
        for name, path in self.seen.items():
            if name not in rows:
                new.append(path)
            elif name in self.stamps and self.index.stamps[rows[name]] != self.stamps[name]:
                changed.append(path)
        remark(*self._changes(rows, new, changed))
        wanted = {*new, *changed}
        return [path for path in files if path in wanted]

    def _changes(self, rows: dict[str, int], new: list[Path], changed: list[Path]) -> Iterator[str]:
        root = os.path.abspath(self.below)
        gone = [name for name in rows if name not in self.seen and (name == root or _inside(name, root))]
        known = len(self.seen) - len(new) - len(changed)
        words = f"{count(known, 'photograph')} known, {len(new)} new, {len(changed)} changed"
        yield f"index {self.index.folder}: {words}"
        if gone:
            some = ", ".join(gone[:NAMED]) + ", ..." * (len(gone) > NAMED)
            yield f"vanished: {count(len(gone), 'photograph')} of the index, no longer found: {some}"

    def take(self, paths: Sequence[Path], vectors: Float[Tensor, "n d"]) -> None:
        """Append the vectors of photographs to the index, which has them when this returns."""
        names = [os.path.abspath(path) for path in paths]
        self.index.append(names, [self.stamps.get(name, (0, 0)) for name in names], vectors)

    def nearest(self, queries: Float[Tensor, "q d"], k: int) -> Found:
        """Cosines and paths, best first."""
        live = self._live()
        if self._by_faiss():
            values, rows = approximate.nearest(self.index, approximate.codes(self.index), queries, k, live)
        else:
            values, rows = self.index.nearest(queries, k, live)
        return values, [[self.seen[self.index.names[row]] for row in some] for some in rows.tolist()]

    def _by_faiss(self) -> bool:
        if self.faiss is None and len(self.index) >= approximate.MANY and not approximate.available():
            remark(f"{len(self.index)} vectors are compared one by one; faiss is faster: {approximate.INSTALL}")
        return approximate.available() and len(self.index) >= approximate.MANY if self.faiss is None else self.faiss

    def _live(self) -> Bool[Tensor, "n"]:
        """The rows that count: the last one of each photograph of this run, if it is of the file as it is now."""
        live = torch.zeros(len(self.index), dtype=torch.bool)
        rows = self.index.rows()
        for name, known in self.stamps.items():
            if name in rows and self.index.stamps[rows[name]] == known:
                live[rows[name]] = True
        return live


def _stamp(path: Path) -> index.Stamp | None:
    try:
        return index.stamp(path)
    except OSError:
        return None  # reading will say what is wrong with it


def _inside(name: str, root: str) -> bool:
    return name.startswith(root.rstrip(os.sep) + os.sep)


def export(held: index.Index, out: Path) -> int:
    """Write the rows that count as Parquet: `id`, `path` and `vector`, a list of fixed length in float32.

    The file's metadata have the origin of the vectors, and that cosines compare them.  A shard at a time is in memory.
    Returns the number of rows.  Raises OSError as writing does.
    """
    import pyarrow
    from pyarrow import parquet

    last: Int[Tensor, n] = torch.tensor(sorted(held.rows().values()))
    about = {f"gadkit.{name}": str(value) for name, value in vars(held.origin).items()} | {"gadkit.metric": "cosine"}
    vector = pyarrow.list_(pyarrow.float32(), held.width)
    fields = [("id", pyarrow.int64()), ("path", pyarrow.string()), ("vector", vector)]
    schema = pyarrow.schema(fields, metadata=about)
    with replacing(out) as part, parquet.ParquetWriter(part, schema) as writer:
        for rows in last.split(index.SHARD):
            flat = pyarrow.array(held.vectors(rows).flatten().numpy())
            columns = [
                pyarrow.array(rows.numpy()),
                pyarrow.array([_text(held.names[row]) for row in rows.tolist()]),
                pyarrow.FixedSizeListArray.from_arrays(flat, type=vector),
            ]
            writer.write_batch(pyarrow.record_batch(columns, schema=schema))
    return len(last)


def _text(name: str) -> str:
    """A name as a database takes it: what is no text in it is written with backslashes."""
    return name.encode("utf-8", "backslashreplace").decode()
