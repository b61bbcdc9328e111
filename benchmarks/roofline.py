"""A machine's roofline: how fast it computes, by how much it computes with each number that it fetches.

A step does `flops` operations on `moved` bytes, counted from its definition as if each input were read and each output
written once.  Their ratio is the step's arithmetic intensity.  A machine computes at most at its peak, and at most at
its bandwidth times the intensity: the two lines of Williams et al. 2009, Roofline.  On a CPU the seconds are those of
the processor, all threads together: that is one core's roofline, and other programs hardly disturb it.

Book: anomaly/speed
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import Timing, best
from gadkit import runtime
from gadkit.search.neighbors import topk

BANK = (784, 3136, 384)  # patches of 4 images, and of 16 good ones; numbers a patch
WIDTH, HEADS = 160, 5  # of the shipped CLIP's tower


@dataclass(frozen=True)
class Step:
    """One measured step: what it is part of and its size, operations, bytes, and its fewest seconds."""

    what: str
    size: str
    flops: int
    moved: int
    seconds: float

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.flops / self.moved

    @property
    def speed(self) -> float:
        """Operations a second."""
        return self.flops / self.seconds


Work = tuple[str, str, int, int, Callable[[], object]]


def steps(
    where: torch.device, dtype: torch.dtype = torch.float32, scale: int = 1, rounds: int = 3, repeats: int = 3
) -> Iterator[Step]:
    """Measure sums, matrix products, attention and the search in a bank, each at several sizes.

    `scale` multiplies sizes; a GPU needs larger ones than a CPU.  Raises ValueError for less than one round.
    """
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).to(where, dtype)

    clock = time.process_time if where.type == "cpu" else time.perf_counter
    for what, size, flops, moved, run in [*_products(normal, scale), *_attention(normal, scale), *_search(normal)]:

        def repeated(run: Callable[[], object] = run) -> None:
            for _ in range(repeats):
                run()

        with torch.no_grad():
            seconds = best({what: repeated}, rounds, clock)[what] / repeats
        yield Step(what, size, flops, moved, seconds)


def _products(normal: Callable[..., Tensor], scale: int) -> Iterator[Work]:
    """Sums of vectors too long for a cache, which show the bandwidth; products of square and of narrow matrices."""
    n = scale * 2**23
    x, y = normal(n), normal(n)
    out = torch.empty_like(x)
    yield "sum", f"{n} numbers", n, 3 * n * x.element_size(), lambda: torch.add(x, y, out=out)
    for side in (64, 128, 256, 512, 1024):
        a = normal(scale * side, scale * side)
        yield _product(a, a, "matrix product")
    wide = normal(scale * 2048, scale * 2048)
    for rows in (1, 8, 32):
        yield _product(normal(rows, scale * 2048), wide, "few rows")


def _product(a: Tensor, b: Tensor, what: str) -> Work:
    (n, d), m = a.shape, b.shape[1]
    return what, f"{n} x {d} x {m}", 2 * n * d * m, (n * d + d * m + n * m) * a.element_size(), lambda: a @ b


def _attention(normal: Callable[..., Tensor], scale: int) -> Iterator[Work]:
    """Scaled dot products within windows and within whole images, the same number of tokens each."""
    for tokens, sequences in ((5, 338), (10, 169), (226, 8)):
        count = scale * sequences
        q, k, v = (normal(count, HEADS, tokens, WIDTH // HEADS) for _ in range(3))
        yield (
            *("attention", f"{count} sequences of {tokens}", 4 * count * tokens**2 * WIDTH, 4 * q.nbytes),
            lambda q=q, k=k, v=v: F.scaled_dot_product_attention(q, k, v),
        )


def _search(normal: Callable[..., Tensor]) -> Iterator[Work]:
    """The nearest member of a bank, with every similarity stored and without (the bytes say which)."""
    n, m, d = BANK
    q, x = normal(n, d), normal(m, d)
    whole = (n * d + m * d) * q.element_size()
    size = f"{n} patches, {m} in the bank"
    yield "search, all stored", size, 2 * n * m * d, whole + 2 * n * m * q.element_size(), lambda: (q @ x.T).max(1)
    yield "search, gadkit", size, 2 * n * m * d, whole + 12 * n, lambda: topk(q, x, 1)


def roofs(measured: list[Step]) -> tuple[float, float]:
    """The measured bandwidth in bytes a second, and the fastest speed of any step in operations a second.

    Raises ValueError for steps without a sum.
    """
    sums = [step.moved / step.seconds for step in measured if step.what == "sum"]
    if not sums:
        raise ValueError("steps: expected a sum among them, which shows the bandwidth, got none")
    return max(sums), max(step.speed for step in measured)


def rows(scale: int = 1, rounds: int = 3) -> Iterator[Timing]:
    """Speed and intensity of every step, and the two roofs."""
    where = runtime.device()
    measured = []
    for step in steps(where, scale=scale, rounds=rounds):
        measured.append(step)
        yield f"{step.what}, {step.size}", step.speed / 1e9, f"GFLOP/s, {step.intensity:.2f} FLOP/byte, {where}"
    bandwidth, peak = roofs(measured)
    yield "bandwidth", bandwidth / 1e9, "GB/s"
    yield "fastest step", peak / 1e9, "GFLOP/s"
