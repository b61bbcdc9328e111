"""Where and how computations run: device, precision, seeds, batches, progress.

Book: intro/run-it
"""

import os
import platform
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from torch import Tensor

from gadkit.checks import checked
from gadkit.distributed import rank

T = TypeVar("T")


@checked
def device(name: str | None = None) -> torch.device:
    """The device to run on: `name`, else `GADKIT_DEVICE`, else a GPU if there is one, else the CPU.

    Apple's "mps" is taken only where it is asked for: it has no double precision, which k-means and some measures need.
    Raises ValueError for one that this machine does not have.
    """
    name = name or os.environ.get("GADKIT_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device: expected cpu, cuda or mps, as far as this machine has them, got {name!r}") from error
    return torch.device(name)


@checked
def describe(where: torch.device) -> tuple[str, str]:
    """A device's full name, as `GADKIT_DEVICE` takes it, and the same for people: ("cuda:0", "cuda:0, NVIDIA H100")."""
    if where.type != "cuda":
        return str(where), str(where)
    index = torch.cuda.current_device() if where.index is None else where.index
    return f"cuda:{index}", f"cuda:{index}, {torch.cuda.get_device_name(index)}"


def computed_on() -> str:
    """A line for the foot of a page: the device, processor, threads and torch that its numbers came from."""
    threads = torch.get_num_threads()
    return (
        f"computed on {describe(device())[1]} ({platform.machine()}, {threads} thread{'s' * (threads > 1)}), "
        f"torch {torch.__version__}"
    )


@checked
def has_bf16(where: torch.device) -> bool:
    """Whether bfloat16 is arithmetic there and not an emulation."""
    if where.type == "cuda":
        with torch.cuda.device(where):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return where.type == "cpu" and "avx512_bf16" in _cpu_flags()


def _cpu_flags() -> set[str]:
    try:
        with open("/proc/cpuinfo") as lines:
            return next((set(line.split()) for line in lines if line.startswith(("flags", "Features"))), set())
    except OSError:  # not Linux: no cheap way to know, and float32 is always right
        return set()


def autocast(where: torch.device) -> AbstractContextManager[None]:
    """Mixed precision in bfloat16 where the processor has it, full precision elsewhere."""
    return torch.autocast(where.type, torch.bfloat16, enabled=has_bf16(where))


def moved(data: Mapping[str, Tensor], where: torch.device) -> dict[str, Tensor]:
    """Columns of training data on a GPU, where they take at most a quarter of the free memory; else as they are.

    A batch is then a gather there, and no copy waits for the bus.
    """
    if where.type != "cuda":
        return dict(data)
    size = sum(column.nbytes for column in data.values())
    fits = size <= torch.cuda.mem_get_info(where)[0] / 4
    return {name: column.to(where) if fits else column for name, column in data.items()}


def seed_everything(seed: int) -> None:
    """Seed Python's and torch's global generators, for libraries that take no generator of their own."""
    random.seed(seed)
    torch.manual_seed(seed)


def chunks(batch: Tensor, size: int) -> Iterator[Tensor]:
    """Slices of at most `size` rows, in order."""
    if size < 1:
        raise ValueError(f"chunk size: expected at least 1, got {size}")
    return iter(batch.split(size))


def progress(items: Iterable[T], what: str, total: int | None = None, quiet: bool = False) -> Iterable[T]:
    """Wrap an iterable in a progress bar on standard error; silent where standard error is no terminal.

    Of several processes of a run only the first shows it.
    """
    from tqdm.auto import tqdm  # imported late: `import gadkit.runtime` stays on torch and the standard library

    return tqdm(items, desc=what, total=total, disable=True if quiet or rank() else None, leave=False)
