"""Hierarchical k-means: clusters of a collection, clusters of these clusters' centres, and so on upwards.

The centres of k-means crowd where rows crowd, only less so; those of a second k-means on these centres again less, and
the top of the tree is spread over what the collection shows almost as if everything were shown equally often.

Source: Vo et al. 2024, "Automatic Data Curation for Self-Supervised Learning", section 3 and algorithm 1.
Book: selfsup/curation
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.checks import checked, whole
from gadkit.curation.shared import join, least, offset, part
from gadkit.distributed import total
from gadkit.search.kmeans import assign, centre_distances, kmeans
from gadkit.search.neighbors import check_features


@dataclass(frozen=True)
class Tree:
    """Levels of clusters, leaves first.  A cluster that holds no row is not kept.

    `centres[l]` (k_l, d) are those of a level; `parents[0]` is the leaf of every row, `parents[l]` the cluster on level
    l of every cluster on level l - 1; `sizes[l]` counts the rows that end in each cluster.  Of shared rows, the leaf is
    that of one's own and all the rest is everybody's.
    """

    centres: tuple[Float[Tensor, "_ d"], ...]
    parents: tuple[Int[Tensor, "_"], ...]
    sizes: tuple[Int[Tensor, "_"], ...]

    def assignment(self, level: int = -1) -> Int[Tensor, "n"]:
        """The cluster of every row on a level, counted from the leaves or, if negative, from the top."""
        levels = range(len(self.parents))
        found = self.parents[0]
        for upper in levels[1 : levels[level] + 1]:
            found = self.parents[upper][found]
        return found


@checked
def levels(count: int, ratio: int = 4, widest: int = 100) -> tuple[int, ...]:
    """Numbers of clusters, leaves first, for so many rows: a quarter of the level below, down to at most `widest`.

    Raises ValueError for no rows, a ratio below 2, which would never come down, or a `widest` below 1.
    """
    whole("count", count)
    whole("ratio", ratio, 2)
    whole("widest", widest)
    found = [max(1, count // ratio)]
    while found[-1] > widest:
        found.append(found[-1] // ratio)
    return tuple(found)


@checked
def hierarchical_kmeans(
    x: Float[Tensor, "n d"],
    clusters: Sequence[int],
    resample: int | Sequence[int] | None = None,
    rounds: int = 10,
    generator: torch.Generator | None = None,
    iterations: int = 50,
    shared: bool = False,
) -> Tree:
    """Cluster rows into `clusters[0]`, these clusters' centres into `clusters[1]`, and so on.

    On every level k-means is followed by `rounds` of resampling: take the `resample` members nearest to each centre,
    so that a crowded cluster counts no more than an empty one, and run k-means again on these alone.  One number holds
    for all levels, 0 or 1 means none, and None half the mean size of a cluster.  With `shared=True` every process
    brings rows of its own and all get the tree that one would have had with all the rows.

    Raises ValueError for features that are not finite, or numbers of clusters that are no falling sequence from at
    most n down to at least 1.
    """
    x = check_features(x)
    sizes = _check(clusters, resample, rounds, offset(len(x), x.device, shared)[1])
    centres, parents, counts = [], [], []
    below = x
    for k, some in zip(clusters, sizes, strict=True):
        own = below if not centres else part(below, shared)
        found = _cluster(own, min(k, len(below)) if centres else k, some, rounds, generator, iterations, shared)
        index = assign(below, found)  # of one's own rows, or of all centres below, which everybody has
        rows = _tally(index, counts[-1] if counts else None, len(found), shared)
        kept = rows > 0
        parents.append((kept.cumsum(0) - 1)[index])
        counts.append(rows[kept])
        below = found[kept]
        centres.append(below)
    return Tree(tuple(centres), tuple(parents), tuple(counts))


def _check(clusters: Sequence[int], resample: int | Sequence[int] | None, rounds: int, count: int) -> list[int]:
    """How many members of a cluster to take on each level."""
    falling = [count, *clusters, 1]
    if not len(clusters) or any(a < b for a, b in pairwise(falling)):
        raise ValueError(f"clusters: expected numbers that fall from at most {count} to at least 1, got {[*clusters]}")
    if resample is None:
        resample = [max(1, below // (2 * k)) for below, k in zip(falling, clusters, strict=False)]
    some = [resample] * len(clusters) if isinstance(resample, int) else [*resample]
    if len(some) != len(clusters) or min(some) < 0 or rounds < 0:
        raise ValueError(
            f"resample: expected at least 0 members and rounds, one number or {len(clusters)}, got {resample}, {rounds}"
        )
    return some


def _cluster(
    x: Tensor, k: int, some: int, rounds: int, generator: torch.Generator | None, iterations: int, shared: bool
) -> Tensor:
    """The centres of k-means on rows, and then again and again on the rows nearest to each centre."""
    centres = kmeans(x, k, generator, iterations, shared).centres
    for _ in range(rounds if some > 1 else 0):
        picked = nearest_members(x, centres, some, shared)
        if len(picked) < k:  # copies of a few rows: there is nothing to choose from
            break
        centres = kmeans(part(picked, shared), k, generator, iterations, shared).centres
    return centres


@checked
def nearest_members(
    x: Float[Tensor, "n d"], centres: Float[Tensor, "k d"], count: int, shared: bool = False
) -> Float[Tensor, "m d"]:
    """Of every cluster the `count` rows nearest to its centre, or all that it has; in every process all of them.

    Raises ValueError for a count below 1.
    """
    whole("count", count)
    index = assign(x, centres)
    quotas = torch.full((len(centres),), count, device=x.device)
    rows = least(centre_distances(x, centres, index), index, quotas, shared)
    first, _ = offset(len(x), x.device, shared)
    own = (rows >= first) & (rows < first + len(x))
    picked = x.new_zeros(len(rows), x.shape[1])
    picked[own] = x[rows[own] - first]
    return total(picked) if shared else picked


def _tally(index: Tensor, weights: Tensor | None, k: int, shared: bool) -> Tensor:
    """Rows in each of k clusters, from the clusters of rows or from those of clusters of so many rows."""
    if weights is None:
        counts = index.bincount(minlength=k)
        return total(counts) if shared else counts
    return torch.zeros(k, dtype=torch.long, device=index.device).index_add_(0, index, weights)


@checked
def everybody(tree: Tree, level: int = -1) -> Int[Tensor, "n"]:
    """The cluster of every row of all processes on a level; `tree.assignment(level)` where there is only one."""
    return join(tree.assignment(level), shared=True)
