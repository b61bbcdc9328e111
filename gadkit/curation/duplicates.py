"""Near-duplicates: photographs so alike that a second one teaches nothing.

Source: Oquab et al. 2024 (DINOv2), section 3 and appendix A: neighbours above a cosine, connected components, one
kept of each.
Book: selfsup/curation
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.checks import checked
from gadkit.search.neighbors import check_features, topk

NEIGHBOURS = 64  # that are looked at of each row, as in DINOv2


@checked
def twins(
    x: Float[Tensor, "n d"], threshold: float, neighbours: int = NEIGHBOURS, order: Int[Tensor, "n"] | None = None
) -> Int[Tensor, "n"]:
    """For every row the one that stands for it: itself if it is kept, else the first row of its group.

    Two rows are alike if their cosine is at least `threshold` and one is among the nearest `neighbours` of the other; a
    group is whatever hangs together.  `order` lists all rows, those that rather stand for others first; without it the
    first row of a group stands for it.  The kept ones are searched again until no two of them are alike, for one row
    may have more copies than neighbours are looked at.  Raises ValueError for a threshold outside (-1, 1], fewer than
    two neighbours (a row is its own first), an order that is none, or features that are not finite.
    """
    if not -1 < threshold <= 1:
        raise ValueError(f"threshold: expected a cosine above -1 and at most 1, got {threshold}")
    if neighbours < 2:
        raise ValueError(f"neighbours: expected at least 2, the row itself and another, got {neighbours}")
    x = F.normalize(check_features(x), dim=1)
    rows = torch.arange(len(x), device=x.device)
    if order is not None:
        order = order.to(x.device)
        if len(order) != len(x) or not torch.equal(order.sort().values, rows):
            raise ValueError(f"order: expected each of the {len(x)} rows once, got {order.tolist()[:8]} ...")
        first = twins(x[order], threshold, neighbours)
        return torch.empty_like(order).scatter_(0, order, order[first])
    kept = rows
    stands = kept.clone()
    while len(kept) > 1:
        first = _first_of_group(x[kept], threshold, min(neighbours, len(kept)))
        if bool((first == torch.arange(len(first), device=x.device)).all()):
            break
        stands[kept] = kept[first]
        stands = stands[stands]  # rows that stood for others have one that stands for them now
        kept = kept[first.unique()]
    return stands


def _first_of_group(x: Tensor, threshold: float, neighbours: int) -> Tensor:
    """The first row of every row's connected component."""
    from scipy.sparse import coo_array  # imported late: it is slow to load
    from scipy.sparse.csgraph import connected_components

    cosines, index = topk(x, x, neighbours)
    row, column = (cosines >= threshold - 1e-6).nonzero(as_tuple=True)  # rounding must not part a row from its copy
    ends = row.cpu().numpy(), index[row, column].cpu().numpy()
    graph = coo_array((cosines.new_ones(len(row)).cpu().numpy(), ends), shape=(len(x), len(x)))
    _, group = connected_components(graph, directed=False)
    group = torch.from_numpy(group).long().to(x.device)
    rows = torch.arange(len(x), device=x.device)
    return torch.full_like(rows, len(x)).scatter_reduce_(0, group, rows, "amin")[group]
