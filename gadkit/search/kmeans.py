"""k-means: good seeds, Lloyd's iterations, assignment; on one machine, or on rows that several processes share.

With `shared=True` every process of a group brings rows of its own, and all arrive at the same centres: those that one
process would have found with all the rows, joined in the order of the ranks.

Source: Lloyd 1982; Arthur and Vassilvitskii 2007 (k-means++).
Book: pretext/context, selfsup/curation
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.checks import checked, whole
from gadkit.distributed import gather, rank, total
from gadkit.search.neighbors import check_features, distances_to, inner, rows_at_once

CACHED = 8  # parts of x are that much smaller than memory asks for: what is made of one stays in the processor's cache


@dataclass(frozen=True)
class KMeans:
    """Clusters: their `centres`, the row of a centre for every sample, and the sum of squared distances to it."""

    centres: Float[Tensor, "k d"]
    assignment: Int[Tensor, "n"]
    inertia: float


@checked
def assign(x: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]) -> Int[Tensor, "n"]:
    """The nearest centre of every row.  Raises ValueError for features that do not fit or are not finite."""
    x, centres = _check(x, centres)
    index, done = torch.empty(len(x), dtype=torch.long, device=x.device), 0
    for _, some in _nearest(x, centres):
        index[done : done + len(some)] = some  # apart, they would lie between the parts' memory and pin it
        done += len(some)
    return index


@checked
def centre_distances(
    x: Float[Tensor, "n d"], centres: Float[Tensor, "k d"], index: Int[Tensor, "n"]
) -> Float[Tensor, "n"]:
    """The distance of every row to the centre that it is assigned to.  Raises ValueError for a centre out of range."""
    x, centres = _check(x, centres)
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(centres):
        raise ValueError(f"index: expected rows of {len(centres)} centres, got {index.min()} to {index.max()}")
    size = rows_at_once(CACHED * x.shape[1], x.device)
    return torch.cat([(a - centres[i]).norm(dim=1) for a, i in zip(x.split(size), index.split(size), strict=True)])


def _check(x: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    x, centres = check_features(x), check_features(centres, "centres")
    if centres.shape[1] != x.shape[1] or not len(centres):
        raise ValueError(f"centres: expected shape (k, {x.shape[1]}), k at least 1, got {tuple(centres.shape)}")
    return x, centres.to(x)


def _nearest(x: Tensor, centres: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Parts of x, one after the other, each with the nearest centre of every row; the first of several.

    |x - c|^2 is |x|^2 - 2 x c + |c|^2, and the first term is the same for all centres.
    """
    origin = centres.mean(0)  # features far from zero would cancel
    moved = centres - origin
    slope, length = moved * -2, moved.square().sum(1)
    for part in x.split(rows_at_once(CACHED * max(centres.shape), x.device)):
        yield part, inner(part - origin, slope, length).min(1).indices


@checked
def plus_plus(
    x: Float[Tensor, "n d"], k: int, generator: torch.Generator | None = None, shared: bool = False
) -> Float[Tensor, "k d"]:
    """Seeds by k-means++: each next one is drawn with a probability proportional to its squared distance to the others.

    Raises ValueError for fewer than k rows.
    """
    x = check_features(x)
    count = int(total(torch.tensor(len(x), device=x.device))) if shared else len(x)
    if not 1 <= k <= count:
        raise ValueError(f"k: expected from 1 to the number of rows, {count}, got {k}")
    centres, nearest = x.new_empty(k, x.shape[1]), torch.full_like(x[:, 0], torch.inf)
    for i in range(k):
        weights = nearest.double().square() if i else torch.ones_like(nearest, dtype=torch.float64)
        centres[i] = _draw(x, weights, generator, shared)
        nearest = torch.minimum(nearest, distances_to(x, centres[i]))
    return centres


def _draw(x: Tensor, weights: Tensor, generator: torch.Generator | None, shared: bool) -> Tensor:
    """A row of x with a probability proportional to its weight; of any process, and alike in all of them."""
    ends = weights.cumsum(0)
    where = generator.device if generator is not None else "cpu"
    dice = torch.rand(1, generator=generator, device=where, dtype=torch.float64)
    if not shared:  # the same arithmetic as below, in numbers: thousands of seeds take half the time
        end = ends[-1].item()
        if not end > 0:  # every row coincides with a seed
            return _draw(x, torch.ones_like(weights), generator, shared)
        row = torch.searchsorted(ends, dice.item() * end - end + end, right=True)
        return x[min(int(row), len(x) - 1)]
    own, dice = ends[-1:] if len(ends) else weights.new_zeros(1), dice.to(x.device)
    every = gather(own)  # (processes,)
    if not every.sum() > 0:  # every row coincides with a seed
        return _draw(x, torch.ones_like(weights), generator, shared)
    dice = gather(dice)[:1]  # without a generator, processes roll differently: the first one's dice count
    borders = every.cumsum(0)
    point = dice * borders[-1]
    owner = int(torch.searchsorted(borders, point, right=True).clamp(max=len(borders) - 1))
    row = x.new_zeros(x.shape[1])
    if owner == rank():
        row = x[torch.searchsorted(ends, point - borders[owner] + every[owner], right=True).clamp(max=len(x) - 1)][0]
    return total(row)


@checked
def lloyd(
    x: Float[Tensor, "n d"],
    centres: Float[Tensor, "k d"],
    iterations: int = 50,
    tol: float = 0.0,
    shared: bool = False,
) -> KMeans:
    """Move centres to the means of their rows until none moves by more than `tol` or the iterations are over.

    The inertia never rises, and a centre without rows stays where it is.  Of `shared` rows, the assignment is that of
    one's own and the inertia that of all.  Raises ValueError for a negative number of iterations or `tol`.
    """
    x, centres = _check(x, centres)
    whole("iterations", iterations, 0)
    if tol < 0:
        raise ValueError(f"tol: expected a distance from 0, got {tol}")
    for _ in range(iterations):
        moved = _means(x, centres, shared)
        shift = (moved - centres).norm(dim=1).max()
        centres = moved
        if shift <= tol:
            break
    index = assign(x, centres)
    inertia = centre_distances(x, centres, index).double().square().sum()
    return KMeans(centres, index, float(total(inertia) if shared else inertia))


def _means(x: Tensor, centres: Tensor, shared: bool) -> Tensor:
    """The mean of the rows nearest to each centre; the centre itself where there are none.

    Sums are in double precision, so that it does not matter how many processes took part.
    """
    sums = torch.zeros_like(centres, dtype=torch.float64)
    counts = sums.new_zeros(len(centres))
    for part, index in _nearest(x, centres):
        sums.index_add_(0, index, part.double())
        counts += index.bincount(minlength=len(centres))
    if shared:
        sums, counts = total(sums), total(counts)
    return torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres.double()).to(x.dtype)


@checked
def kmeans(
    x: Float[Tensor, "n d"],
    k: int,
    generator: torch.Generator | None = None,
    iterations: int = 50,
    shared: bool = False,
) -> KMeans:
    """k-means++ and Lloyd.  Raises ValueError for fewer than k rows, or features that are not finite."""
    return lloyd(x, plus_plus(x, k, generator, shared), iterations, shared=shared)
