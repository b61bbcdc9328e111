"""Search for neighbours against one plain matrix product and `topk` of it: seconds, and the most memory at once.

Book: anomaly/measuring
"""

import ctypes
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks import Timing, best
from gadkit import runtime
from gadkit.search.neighbors import topk


def rows(
    queries: int = 10_000,
    keys: int = 20_000,
    width: int = 128,
    k: int = 20,
    rounds: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Timing]:
    """Seconds and megabytes of both, and ours as a multiple of the plain way's speed and a share of its memory."""
    where, draw = runtime.device(), torch.Generator().manual_seed(0)
    q, x = (torch.randn(n, width, generator=draw).to(where) for n in (queries, keys))
    sides = {"gadkit": lambda: topk(q, x, k), "plain": lambda: plain(q, x, k)}
    seconds = best(sides, rounds, clock)
    setting = f"{queries} queries, {keys} keys of {width}, k = {k}, {where}, {torch.get_num_threads()} threads"
    for side, took in seconds.items():
        yield f"{side}, search", took, f"s, {setting}"
    yield "gadkit / plain", seconds["plain"] / seconds["gadkit"], "times as fast"
    memory = {side: peak(run, where) for side, run in sides.items()}
    for side, most in memory.items():
        yield f"{side}, most memory at once", most / 1e6, "MB beyond queries and keys"


def plain(queries: Float[Tensor, "n d"], keys: Float[Tensor, "m d"], k: int) -> tuple[Tensor, Int[Tensor, "n k"]]:
    """All cosines in one matrix, then its largest."""
    values, indices = (F.normalize(queries, dim=1) @ F.normalize(keys, dim=1).T).topk(k)
    return values, indices


def peak(run: Callable[[], object], where: torch.device) -> float:
    """The bytes that `run` needs at once beyond those in use before; NaN where the system does not report them.

    On a CPU that is the growth of the resident set, which Linux keeps the largest value of and lets a process reset.
    """
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
        before = torch.cuda.memory_allocated(where)
        run()
        return float(torch.cuda.max_memory_allocated(where) - before)
    try:
        with suppress(AttributeError):  # not the GNU C library
            ctypes.CDLL(None).malloc_trim(0)  # what was freed but kept would be used again unnoticed
        Path("/proc/self/clear_refs").write_text("5")  # forget the largest value so far
        before = _resident()
        run()
        return float(_resident() - before)
    except OSError:
        return math.nan


def _resident() -> int:
    """The largest resident set since the last reset, in bytes."""
    kilobytes = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    if kilobytes is None:
        raise OSError("no VmHWM in /proc/self/status")
    return 1024 * int(kilobytes[1])
