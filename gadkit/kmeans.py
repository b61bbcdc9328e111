"""k-means: good seeds, Lloyd's iterations, assignment; on one machine, or on rows that several processes share.

Source: Lloyd 1982; Arthur and Vassilvitskii 2007 (k-means++).
Book: selfsup/curation, pretext/context
"""

from dataclasses import dataclass
from typing import no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.checks import check_finite
from gadkit.distributed import total

CHUNK = 1 << 24  # distances held at once


@dataclass(frozen=True)
class KMeans:
    """Clusters: their `centres`, the row of a centre for every sample, and the sum of squared distances to it."""

    centres: Float[Tensor, "k d"]
    assignment: Int[Tensor, "n"]
    inertia: float


def _nearest(x: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]) -> tuple[Float[Tensor, "n"], Int[Tensor, "n"]]:
    """The squared distance to the nearest centre, and which it is; the first of several."""
    length, found = centres.square().sum(1), []
    for part in x.split(max(1, CHUNK // len(centres))):
        index = torch.addmm(length, part, centres.T, alpha=-2).argmin(1)
        found.append(((part - centres[index]).square().sum(1), index))
    distances, indices = zip(*found, strict=True)
    return torch.cat(distances), torch.cat(indices)


@no_type_check  # bad input is a ValueError
def assign(x: Float[Tensor, "n d"], centres: Float[Tensor, "k d"]) -> Int[Tensor, "n"]:
    """The nearest centre of every row.  Raises ValueError for features that do not fit or are not finite."""
    _check(x, len(centres), centres)
    return _nearest(x, centres)[1]


def _check(x: Tensor, k: int, centres: Tensor | None = None) -> None:
    check_finite(x, "features")
    if x.ndim != 2 or k < 1 or (centres is None and k > len(x)):
        raise ValueError(f"k-means: expected features (n, d) and 1 <= k <= n, got {tuple(x.shape)} and k = {k}")
    if centres is not None and (centres.ndim != 2 or centres.shape[1] != x.shape[1]):
        raise ValueError(f"centres: expected shape (k, {x.shape[1]}), got {tuple(centres.shape)}")


@no_type_check  # bad input is a ValueError
def plus_plus(x: Float[Tensor, "n d"], k: int, generator: torch.Generator | None = None) -> Float[Tensor, "k d"]:
    """Seeds by k-means++: each next one is drawn with a probability proportional to its squared distance to the others.

    Raises ValueError for fewer than k rows.
    """
    _check(x, k)
    pick = int(torch.randint(len(x), (1,), generator=generator))
    chosen, nearest = [pick], torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    for _ in range(k - 1):
        nearest = torch.minimum(nearest, (x - x[pick]).square().sum(1))
        mass = nearest.double().cumsum(0).cpu()
        if mass[-1] > 0:
            dice = torch.rand(1, generator=generator, dtype=torch.float64) * mass[-1]
            pick = min(int(torch.searchsorted(mass, dice, right=True)), len(x) - 1)
        else:  # every row coincides with a seed
            pick = int(torch.randint(len(x), (1,), generator=generator))
        chosen.append(pick)
    return x[torch.tensor(chosen, device=x.device)].clone()


@no_type_check  # bad input is a ValueError
def lloyd(x: Float[Tensor, "n d"], centres: Float[Tensor, "k d"], iterations: int = 50, tol: float = 0.0) -> KMeans:
    """Move centres to the means of their rows until none moves by more than `tol` or the iterations are over.

    The inertia never rises, and a centre without rows stays where it is.  Under several processes every one brings its
    own rows and all arrive at the same centres; the inertia is that of all rows.
    """
    _check(x, len(centres), centres)
    for _ in range(iterations):
        index = _nearest(x, centres)[1]
        moved = _means(x, index, centres)
        shift = (moved - centres).norm(dim=1).max()
        centres = moved
        if shift <= tol:
            break
    squared, index = _nearest(x, centres)
    return KMeans(centres, index, float(total(squared.double().sum())))


def _means(x: Tensor, index: Tensor, centres: Tensor) -> Tensor:
    """The mean of each centre's rows, over all processes; the centre itself where there are none."""
    sums = torch.zeros_like(centres, dtype=torch.float64).index_add_(0, index, x.double())
    counts = torch.bincount(index, minlength=len(centres)).double()
    sums, counts = total(sums), total(counts)
    return torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres.double()).to(x.dtype)


@no_type_check  # bad input is a ValueError
def kmeans(x: Float[Tensor, "n d"], k: int, generator: torch.Generator | None = None, iterations: int = 50) -> KMeans:
    """k-means++ and Lloyd.  Raises ValueError for fewer than k rows, or features that are not finite."""
    return lloyd(x, plus_plus(x, k, generator), iterations)
