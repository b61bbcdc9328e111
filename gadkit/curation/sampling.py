"""Balanced sampling: a budget poured in at the top of a tree of clusters, so that every branch fills alike.

Source: Vo et al. 2024, section 3.4 and appendix (hierarchical sampling).
Book: selfsup/curation
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.checks import checked, describe, one_of, whole
from gadkit.curation.shared import least, offset
from gadkit.curation.tree import Tree
from gadkit.search.kmeans import centre_distances

CHOICES = ("random", "closest", "furthest")


@checked
def waterfall(sizes: Int[Tensor, "k"], target: int, generator: torch.Generator | None = None) -> Int[Tensor, "k"]:
    """How much each of k vessels gives so that all give alike: min(size, level), at the highest level that fits.

    What is then left of `target`, less than one each, comes from vessels that have more, drawn by lot.  The sum is
    exactly `target`, or everything if that is less.  Raises ValueError for negative numbers.
    """
    if sizes.ndim != 1 or not len(sizes) or sizes.is_floating_point() or (sizes < 0).any() or target < 0:
        raise ValueError(f"waterfall: expected sizes and a target from 0, got {describe(sizes)} and {target}")
    # once all smaller vessels have been emptied, the level is the rest shared among those that remain
    rising = sizes.sort().values
    emptied = rising.cumsum(0) - rising
    remaining = torch.arange(len(sizes), 0, -1, device=sizes.device)
    level = int(((target - emptied).clamp(min=0) // remaining).minimum(rising).max())
    shares = sizes.clamp(max=level)
    more = (sizes > level).nonzero()[:, 0]
    rest = min(target, int(sizes.sum())) - int(shares.sum())
    where = "cpu" if generator is None else generator.device
    shares[more[torch.randperm(len(more), generator=generator, device=where)[:rest].to(more.device)]] += 1
    return shares


@checked
def quotas(tree: Tree, target: int, generator: torch.Generator | None = None) -> tuple[Int[Tensor, "_"], ...]:
    """How many rows each cluster of each level gives, leaves first: a waterfall at the top, then one in each."""
    found = [waterfall(tree.sizes[-1], target, generator)]
    for parents, sizes in zip(tree.parents[:0:-1], tree.sizes[-2::-1], strict=True):
        shares = torch.zeros_like(sizes)
        for cluster, share in enumerate(found[0].tolist()):
            children = (parents == cluster).nonzero()[:, 0]
            shares[children] = waterfall(sizes[children], share, generator)
        found.insert(0, shares)
    return tuple(found)


@checked
def sample(
    tree: Tree,
    target: int,
    choice: str = "random",
    x: Float[Tensor, "n d"] | None = None,
    generator: torch.Generator | None = None,
    shared: bool = False,
) -> Int[Tensor, "m"]:
    """Rows of a balanced subset, in their order: `target` of them, or all if there are fewer.

    Within a leaf they are drawn by lot ("random"), or are those "closest" to its centre, which are typical, or
    "furthest" from it, which are not; these two need the rows `x` that the tree was grown from.  Shared rows are
    numbered through all processes and every process is told all of them; each must bring a generator of the same seed.
    Raises ValueError for another choice, a negative target, or missing rows.
    """
    one_of("choice", choice, CHOICES)
    whole("target", target, 0)
    leaf = tree.parents[0]
    if choice != "random" and (x is None or len(x) != len(leaf)):
        raise ValueError(f"x: expected the {len(leaf)} rows of the tree to measure with, got {describe(x)}")
    if shared and generator is None:
        raise ValueError("generator: expected one of the same seed in every process, got None")
    shares = quotas(tree, target, generator)[0]
    if choice == "random":
        first, count = offset(len(leaf), leaf.device, shared)
        where = "cpu" if generator is None else generator.device
        keys = torch.rand(count, generator=generator, dtype=torch.float64, device=where)
        keys = keys[first : first + len(leaf)].to(leaf.device)
    else:
        keys = centre_distances(x, tree.centres[0], leaf) * (1 if choice == "closest" else -1)
    return least(keys, leaf, shares, shared).sort().values
