"""Several processes that act as one: rows gathered, means shared, gradients averaged.

The convention of every loss of this package: a process computes the mean loss of its own rows against everybody's
columns, and gradients are averaged over processes.  `gather` sends gradients back to where a row came from, summed over
those who used it, so the average is exactly the gradient that a single process with the whole batch would have.

Book: selfsup/simclr
"""

import os

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn


def start() -> torch.device | None:
    """Join the processes that `accelerate launch` or `torchrun` started; None, and nothing happens, if there is one."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return None
    from accelerate import PartialState  # imported late: a single process needs no launcher

    return PartialState().device


def _together() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if _together() else 0


def world() -> int:
    """The number of processes."""
    return dist.get_world_size() if _together() else 1


def gather(x: Float[Tensor, "n *d"]) -> Float[Tensor, "m *d"]:
    """The rows of all processes in the order of their ranks, m = world * n, with gradients; `x` itself if alone.

    Every process must bring as many rows as the others.
    """
    if not _together():
        return x
    from torch.distributed.nn.functional import all_gather

    return torch.cat(list(all_gather(x.contiguous())))


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


def average_gradients(module: nn.Module) -> None:
    """Replace every gradient by its mean over processes, in one message a data type.

    A parameter that has no gradient here may have one elsewhere; it counts as zero.
    """
    if not _together():
        return
    by_type: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            by_type.setdefault(parameter.dtype, []).append(parameter)
    for parameters in by_type.values():
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = mean(torch.cat([g.flatten() for g in grads]))
        for parameter, piece in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = piece.view_as(parameter).clone()
