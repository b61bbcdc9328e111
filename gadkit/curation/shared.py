"""Rows that several processes share: joined, numbered through, and the least of every group found among all of them.

With `shared=False`, or in a process of its own, each of these is what its name says and nothing is sent.

Book: selfsup/curation
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.distributed import rank, total, world


def join(x: Tensor, shared: bool = False) -> Tensor:
    """The rows of all processes in the order of their ranks; unlike `gadkit.distributed.gather` of any number each."""
    if not shared or world() == 1:
        return x
    first, count = offset(len(x), x.device, shared)
    rows = x.new_zeros(count, *x.shape[1:])
    rows[first : first + len(x)] = x
    return total(rows)  # every row is zero in all processes but one


def offset(own: int, device: torch.device, shared: bool = False) -> tuple[int, int]:
    """The number of one's first row, counted through all processes, and how many rows there are in all."""
    if not shared or world() == 1:
        return 0, own
    counts = torch.zeros(world(), dtype=torch.long, device=device)
    counts[rank()] = own
    counts = total(counts)
    return int(counts[: rank()].sum()), int(counts.sum())


def part(x: Tensor, shared: bool = False) -> Tensor:
    """One's own share of rows that every process has."""
    return x.tensor_split(world())[rank()] if shared else x


def least(
    keys: Float[Tensor, "n"], groups: Int[Tensor, "n"], quotas: Int[Tensor, "g"], shared: bool = False
) -> Int[Tensor, "m"]:
    """The rows with the smallest keys of every group, `quotas[g]` of group g or all that there are, group by group.

    Of equal keys the earlier row counts as smaller.  `shared` rows are numbered through all processes, and every
    process is told all of the winners; it sends no more than its own candidates.
    """
    rows = _least(keys, groups, quotas)
    if not shared or world() == 1:
        return rows
    first, _ = offset(len(keys), keys.device, shared)
    keys, groups, numbers = (join(x, shared) for x in (keys[rows], groups[rows], rows + first))
    order = numbers.argsort()
    return numbers[order][_least(keys[order], groups[order], quotas)]


def _least(keys: Tensor, groups: Tensor, quotas: Tensor) -> Tensor:
    order = keys.argsort(stable=True)
    order = order[groups[order].argsort(stable=True)]
    counts = groups.bincount(minlength=len(quotas))
    starts = counts.cumsum(0) - counts
    position = torch.arange(len(order), device=order.device) - starts[groups[order]]
    return order[position < quotas[groups[order]]]
