"""Galleries that do not fit into memory: faiss finds candidates among short codes, and the exact vectors decide.

A code takes a byte a number, a quarter of the vector.  Codes lie in lists around centres (an inverted file), and a
query looks into the lists whose centres are nearest.  The best candidates are compared once more, with their exact
vectors from the index; so a cosine that is given is exact, and what can be missed is a row whose list was not looked
into.

Source: Jegou, Douze and Schmid, Product quantization for nearest neighbor search, 2011 (the inverted file); Douze et
al., The Faiss library, 2024.
Book: multimodal/embeddings
"""

import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gadkit.checks import checked, positive
from gadkit.files import replacing
from gadkit.search.index import Index, first

if TYPE_CHECKING:
    import faiss

FILE = "faiss.index"
MANY = 1_000_000  # rows from which on it is worth its mistakes
INSTALL = 'pip install "gadkit[search]"'
SAMPLE = 64  # vectors a list from which its centre is learnt
PROBES = 1 / 8  # of the lists are looked into
SPARE = 4  # candidates for each row that is asked for, and
MORE = 64  # as many beside


def available() -> bool:
    """Whether faiss is installed."""
    return importlib.util.find_spec("faiss") is not None


@checked
def codes(index: Index, probes: float = PROBES) -> "faiss.Index":
    """faiss's codes of an index, from its folder: rows that were appended since are added, and written.

    They are made anew where there are none, and where the index has grown to four times what the centres were learnt
    from.  Raises ValueError where faiss is not installed, for an index without rows and for a file that is no code of
    this index.
    """
    positive("probes", probes)
    if not available():
        raise ValueError(f"faiss: expected it to be installed, got none: {INSTALL}")
    if not len(index):
        raise ValueError("faiss: expected an index with rows, got none")
    import faiss

    path = index.folder / FILE
    found = _read(path, index) if path.exists() else None
    lists = lists_for(len(index))
    if found is None or found.nlist * 2 <= lists:
        found = faiss.index_factory(index.width, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
        found.train(_sample(index, SAMPLE * lists))
    if found.ntotal < len(index):
        _add(found, index)
        with replacing(path) as part:
            faiss.write_index(found, str(part))
    found.nprobe = max(1, math.ceil(probes * found.nlist))
    return found


def lists_for(rows: int) -> int:
    """The number of lists: with their square root, a query compares as many centres as codes of a list."""
    return max(1, round(math.sqrt(rows)))


def _read(path: Path, index: Index) -> "faiss.Index":
    import faiss

    try:
        found = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"{path}: expected faiss's codes, got something else ({reason}); remove it") from error
    if found.d != index.width or found.ntotal > len(index):
        raise ValueError(
            f"{path}: expected codes of at most {len(index)} vectors of {index.width} numbers, got {found.ntotal} of "
            f"{found.d}; remove it"
        )
    if found.ntotal < len(index):  # only in memory can it grow
        found = faiss.read_index(str(path))
    return found


def _sample(index: Index, most: int) -> np.ndarray:
    """Vectors evenly spread over the index."""
    rows = torch.linspace(0, len(index) - 1, min(most, len(index))).round().long()
    return index.vectors(rows).numpy()


def _add(found: "faiss.Index", index: Index) -> None:
    start = 0
    for shard in index.shards:
        if (known := found.ntotal - start) < len(shard):
            found.add(np.ascontiguousarray(shard[max(0, known) :].numpy()))
        start += len(shard)


@checked
@torch.no_grad()
def nearest(
    index: Index,
    codes: "faiss.Index",
    queries: Float[Tensor, "q d"],
    k: int,
    live: Bool[Tensor, "n"] | None = None,
) -> tuple[Float[Tensor, "q j"], Int[Tensor, "q j"]]:
    """As `Index.nearest`, from candidates of `codes`; a row that no list looked into has may be missed.

    Where that leaves fewer than k rows, all lists are looked into.  Raises ValueError as `Index.nearest` does.
    """
    import faiss

    q = index.check(queries, k, live)
    j = min(k, len(index) if live is None else int(live.sum()))
    if not j:
        return index.nearest(queries, k, live)
    select = None
    if live is not None:
        bits = np.packbits(live.numpy(), bitorder="little")
        select = faiss.IDSelectorBitmap(bits)
    asked = min(len(index), SPARE * j + MORE)
    for probes in (codes.nprobe, codes.nlist):
        some = faiss.SearchParametersIVF(nprobe=probes, sel=select)
        _, rows = codes.search(q.numpy(), asked, params=some)
        if ((rows >= 0).sum(1) >= j).all():
            break
    pairs = [_exact(index, one, torch.from_numpy(found[found >= 0]), j) for one, found in zip(q, rows, strict=True)]
    values, places = zip(*pairs, strict=True)
    return torch.stack(values), torch.stack(places)


def _exact(index: Index, query: Float[Tensor, "d"], rows: Int[Tensor, "n"], k: int) -> tuple[Tensor, Tensor]:
    values, places = first((index.vectors(rows) @ query)[None], rows[None], k)
    return values[0], places[0]
