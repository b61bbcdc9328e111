"""Searching an index of 100,000 photographs: exactly, by faiss, and by one plain product over vectors in memory.

Book: multimodal/embeddings
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from benchmarks import Timing, best
from gadkit.search import approximate, index

ORIGIN = index.Origin("made up", "none", "none", "none", "none")


def rows(
    keys: int = 100_000,
    width: int = 384,
    k: int = 10,
    rounds: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Timing]:
    """Milliseconds a query of each way, by one thread, and the share of the true neighbours that faiss finds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield from _rows(fill(Path(folder) / "index", keys, width), k, rounds, clock)
    finally:
        torch.set_num_threads(threads)


def fill(folder: Path, keys: int, width: int, seed: int = 0) -> index.Index:
    """An index of vectors around 1,000 centres, of which no two photographs share a name."""
    draw = torch.Generator().manual_seed(seed)
    middles = torch.randn(1000, width, generator=draw)
    held = index.Index(folder, ORIGIN)
    for start in range(0, keys, index.SHARD):
        count = min(index.SHARD, keys - start)
        x = middles[torch.randint(1000, (count,), generator=draw)] + 0.7 * torch.randn(count, width, generator=draw)
        held.append([f"{start + i}" for i in range(count)], [(0, 0)] * count, x)
    return held


def _rows(held: index.Index, k: int, rounds: int, clock: Callable[[], float]) -> Iterator[Timing]:
    start = clock()
    held = index.opened(held.folder)
    yield "index, opening", clock() - start, "s"
    draw = torch.Generator().manual_seed(1)
    query = torch.randn(1, held.width, generator=draw)
    inside = torch.cat(held.shards)  # what the plain way needs
    sides = {"gadkit, exact": lambda: held.nearest(query, k), "plain product": lambda: plain(query, inside, k)}
    if approximate.available():
        import faiss

        flat = faiss.IndexFlatIP(held.width)
        flat.add(inside.numpy())
        faiss.omp_set_num_threads(1)
        codes = approximate.codes(held)
        unit = F.normalize(query, dim=1).numpy()
        sides |= {"faiss, flat": lambda: flat.search(unit, k)}
        sides |= {"gadkit by faiss": lambda: approximate.nearest(held, codes, query, k)}
    seconds = best(sides, rounds, clock)
    for side, took in seconds.items():
        yield f"{side}, a query", 1e3 * took, f"ms, {len(held)} vectors of {held.width}, k = {k}, 1 thread"
    yield "gadkit, exact / plain product", seconds["plain product"] / seconds["gadkit, exact"], "times as fast"
    if not approximate.available():
        yield "faiss", math.nan, "not installed"
        return
    many = held.vectors(torch.arange(0, len(held), max(1, len(held) // 100)))
    many = many + 0.5 * torch.randn(many.shape, generator=draw) / held.width**0.5
    found, true = (search(many, k)[1] for search in (lambda q, n: approximate.nearest(held, codes, q, n), held.nearest))
    yield "gadkit by faiss, recall", (found[:, :, None] == true[:, None]).any(2).double().mean().item(), f"of {k}"


def plain(query: Float[Tensor, "q d"], keys: Float[Tensor, "n d"], k: int) -> tuple[Tensor, Tensor]:
    """All cosines in one product, then the largest; the keys are unit vectors."""
    values, places = (F.normalize(query, dim=1) @ keys.T).topk(k)
    return values, places
