"""Curation: a collection of photographs without near-duplicates and with every kind of thing shown alike, label-free.

    >>> found = curate(features, keep=1000)                 # doctest: +SKIP
    >>> photographs[found.kept]                             # doctest: +SKIP

Source: Vo et al. 2024, "Automatic Data Curation for Self-Supervised Learning: A Clustering-Based Approach".
Book: selfsup/curation
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.checks import checked, whole
from gadkit.curation.duplicates import twins
from gadkit.curation.sampling import CHOICES, quotas, sample, waterfall
from gadkit.curation.tree import Tree, everybody, hierarchical_kmeans, levels, nearest_members
from gadkit.search.neighbors import check_features

__all__ = [
    "CHOICES",
    "Curated",
    "Tree",
    "centre_of",
    "curate",
    "everybody",
    "hierarchical_kmeans",
    "levels",
    "nearest_members",
    "prepare",
    "quotas",
    "sample",
    "twins",
    "waterfall",
]


@dataclass(frozen=True)
class Curated:
    """A curated collection: the rows that are `kept`, in their order, and why the others are not.

    `twin` is the row that stands for each, itself unless it is a near-duplicate; `clusters` (n, levels) the number of
    its cluster on every level, leaves first; a near-duplicate is where its twin is.  `tree` is that of the rows that
    are their own twins.
    """

    kept: Int[Tensor, "m"]
    twin: Int[Tensor, "n"]
    clusters: Int[Tensor, "n l"]
    tree: Tree


@checked
def prepare(x: Float[Tensor, "n d"], centre: Float[Tensor, "d"] | None = None) -> Float[Tensor, "n d"]:
    """Features as curation compares them: directions, seen from their `centre` (by `centre_of` these if not given).

    Most representations give all images a large part in common, beside which every cosine is close to 1.  Where there
    is nothing else, as in copies of one image, it stays: what rounding leaves of them has no direction.
    """
    x = F.normalize(check_features(x), dim=1)
    away = x - (x.mean(0) if centre is None else centre)
    return x if bool((away.norm(dim=1) < 1e-6).all()) else F.normalize(away, dim=1)


@checked
def centre_of(x: Float[Tensor, "n d"]) -> Float[Tensor, "d"]:
    """The mean of features' directions."""
    return F.normalize(check_features(x), dim=1).mean(0)


@checked
def curate(
    x: Float[Tensor, "n d"],
    keep: int,
    clusters: Sequence[int] | None = None,
    duplicates: float | None = 0.98,
    choice: str = "random",
    generator: torch.Generator | None = None,
    order: Int[Tensor, "n"] | None = None,
) -> Curated:
    """Near-duplicates out, the rest into a tree of clusters, and `keep` rows from it in balance.

    `clusters` are numbers of clusters, leaves first (by `levels` if not given), and at most as many as rows are left
    without near-duplicates; `duplicates` is the cosine from which two rows are one (None keeps all), `choice` how rows
    are drawn from a leaf.  Of near-duplicates the one stands for all that `order`, a list of all rows, names first (by
    default the first row).  Features are normalised inside, by `prepare`.
    Raises ValueError for a `keep` below 1, numbers of clusters that do not fall, and as the three steps do.
    """
    x = prepare(x)
    whole("keep", keep)
    if not len(x):
        raise ValueError("x: expected at least 1 row, got none")
    if clusters and [*clusters] != sorted(clusters, reverse=True):
        raise ValueError(f"clusters: expected numbers that fall, got {[*clusters]}")
    rows = torch.arange(len(x), device=x.device)
    twin = rows if duplicates is None else twins(x, duplicates, order=order)
    single = (twin == rows).nonzero()[:, 0]
    clusters = [min(k, len(single)) for k in clusters or levels(len(single))]  # how many are left is known only now
    tree = hierarchical_kmeans(x[single], clusters, generator=generator)
    kept = single[sample(tree, keep, choice, x[single], generator)]
    place = torch.empty_like(rows)
    place[single] = torch.arange(len(single), device=x.device)
    clusters = torch.stack([tree.assignment(level)[place[twin]] for level in range(len(tree.sizes))], 1)
    return Curated(kept, twin, clusters, tree)
