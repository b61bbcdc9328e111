"""Several processes that act as one: rows gathered, means shared, gradients averaged.

The convention of every loss of this package: a process computes the mean loss of its own rows against all processes'
columns, and gradients are averaged over processes.  `gather` sends a row's gradients, summed over the processes that
used it, back to where it came from, so the average is exactly the gradient of a single process with the whole batch.

Book: selfsup/simclr
"""

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor, nn

WAIT = timedelta(days=1)  # for one another: processes that share work out do not end it at the same time


def start() -> torch.device | None:
    """Join the processes that `accelerate launch` or `torchrun` started; None, and nothing happens, if there is one."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return None
    from accelerate import PartialState  # imported late: a single process needs no launcher

    return PartialState(timeout=WAIT).device


def _together() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if _together() else 0


def world() -> int:
    """The number of processes."""
    return dist.get_world_size() if _together() else 1


def gather(x: Shaped[Tensor, "n *d"]) -> Shaped[Tensor, "m *d"]:
    """The rows of all processes in the order of their ranks, m = world * n, with gradients; `x` itself if alone.

    Every process must bring as many rows as the others.
    """
    return _Gather.apply(x.contiguous()) if _together() else x


class _Gather(torch.autograd.Function):
    """All-gather; the way back sums the gradients that all processes have for a row."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world())]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient.chunk(world())[rank()]


def total(x: Tensor) -> Tensor:
    """The sum over processes, without gradient."""
    if not _together():
        return x.detach()
    x = x.detach().clone()
    dist.all_reduce(x)
    return x


def mean(x: Tensor) -> Tensor:
    """The mean over processes, without gradient."""
    return total(x) / world()


def from_first(value: bytes | None) -> bytes | None:
    """The value of the first process, for all of them."""
    if not _together():
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def to_first(value: Any) -> list[Any] | None:
    """The values of all processes in the order of their ranks, on the first one; None on the others.

    They are pickled on their way from one process of the run to another.
    """
    if not _together():
        return [value]
    box = [None] * world() if rank() == 0 else None
    dist.gather_object(value, box)
    return box


def average_gradients(module: nn.Module) -> None:
    """Replace every gradient by its mean over processes, in one message a data type.

    A parameter that has no gradient here may have one elsewhere; it counts as zero.  One that has none anywhere is left
    without, as it would be alone: an optimiser skips it, and does not count the step.
    """
    if not _together():
        return
    learnt = [p for p in module.parameters() if p.requires_grad]
    if not learnt:
        return
    some = total(torch.tensor([p.grad is not None for p in learnt], device=learnt[0].device).float()).tolist()
    by_type: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in (p for p, count in zip(learnt, some, strict=True) if count):
        by_type.setdefault(parameter.dtype, []).append(parameter)
    for parameters in by_type.values():
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = mean(torch.cat([g.flatten() for g in grads]))
        for parameter, piece in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = piece.view_as(parameter).clone()
