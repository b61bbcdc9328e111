"""Nearest neighbours: search in chunks, the vote of neighbours, and a subset that leaves nothing far away.

Book: selfsup/representations, anomaly/representations
"""

from typing import no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.checks import check_finite

METRICS = ("cosine", "l2")
CHUNK = 1 << 24  # similarities held at once: 64 MB


def _check(queries: Tensor, keys: Tensor, k: int, metric: str) -> None:
    if metric not in METRICS:
        raise ValueError(f"metric: expected one of {', '.join(METRICS)}, got {metric!r}")
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[1] != keys.shape[1]:
        raise ValueError(
            f"features: expected queries (n, d) and keys (m, d), got {tuple(queries.shape)} and {tuple(keys.shape)}"
        )
    if not 1 <= k <= len(keys):
        raise ValueError(f"k: expected from 1 to the number of keys, {len(keys)}, got {k}")
    check_finite(queries, "queries")
    check_finite(keys, "keys")


@no_type_check  # bad input is a ValueError
def topk(
    queries: Float[Tensor, "n d"], keys: Float[Tensor, "m d"], k: int, metric: str = "cosine", chunk: int | None = None
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """The k nearest keys of every query, nearest first: their cosines, or their Euclidean distances, and their rows.

    `chunk` is how many queries are compared at once; it bounds the memory and changes no result.  Raises ValueError for
    features that do not fit or are not finite, and for a k that there are not enough keys for.
    """
    _check(queries, keys, k, metric)
    if metric == "cosine":
        queries, keys = F.normalize(queries, dim=1), F.normalize(keys, dim=1)
    chunk = chunk or max(1, CHUNK // len(keys))
    length = keys.square().sum(1)  # (m,)
    found = []
    for part in queries.split(chunk):
        if metric == "cosine":
            found.append((part @ keys.T).topk(k))
            continue
        squared = torch.addmm(length, part, keys.T, alpha=-2)  # all but the query's own length, which orders nothing
        index = squared.topk(k, largest=False).indices
        exact = (part[:, None] - keys[index]).norm(dim=2)  # without the cancellation of the expanded square
        order = exact.argsort(stable=True, dim=1)
        found.append((exact.gather(1, order), index.gather(1, order)))
    values, indices = zip(*found, strict=True)
    return torch.cat(values), torch.cat(indices)


@no_type_check  # bad input is a ValueError
def knn_vote(
    queries: Float[Tensor, "n d"],
    keys: Float[Tensor, "m d"],
    labels: Int[Tensor, "m"],
    k: int = 20,
    temperature: float = 0.07,
    weights: str = "softmax",
) -> Float[Tensor, "n c"]:
    """The share of the vote that each class gets from the k nearest keys by cosine.

    Votes weigh exp(cos / temperature) ("softmax", Wu et al. 2018, section 3.4), all alike ("uniform") or the inverse
    of 1 - cos ("distance", scikit-learn's).  Features are normalised inside, so their length never matters.
    Raises ValueError as `topk` does, and for other weights or labels that do not fit.
    """
    if weights not in ("softmax", "uniform", "distance"):
        raise ValueError(f"weights: expected softmax, uniform or distance, got {weights!r}")
    if labels.shape != keys.shape[:1] or labels.is_floating_point() or int(labels.min()) < 0:
        raise ValueError(f"labels: expected {len(keys)} numbers of classes, got {tuple(labels.shape)} {labels.dtype}")
    cosines, index = topk(queries, keys, k)
    if weights == "softmax":
        votes = (cosines / temperature).softmax(1)
    elif weights == "uniform":
        votes = torch.full_like(cosines, 1 / k)
    else:
        near = 1 / (1 - cosines).clamp(min=1e-7)
        votes = near / near.sum(1, keepdim=True)
    shares = torch.zeros(len(queries), int(labels.max()) + 1, dtype=votes.dtype, device=votes.device)
    return shares.scatter_add_(1, labels.to(votes.device)[index], votes)


@no_type_check  # bad input is a ValueError
def k_centre(
    x: Float[Tensor, "n d"], count: int, first: int = 0
) -> tuple[Int[Tensor, "count"], Float[Tensor, "count"]]:
    """Greedy k-centre: start with row `first`, then again and again the row farthest from all chosen ones.

    Returns the chosen rows in their order and, beside each, the radius that was left when it had been chosen: the
    largest distance of any row to the nearest chosen one.  Radii never rise, and the last is at most twice the best
    possible (Gonzalez 1985).  Raises ValueError for a count or a first row that does not exist.
    """
    check_finite(x, "features")
    if x.ndim != 2 or not 1 <= count <= len(x) or not 0 <= first < len(x):
        raise ValueError(
            f"k-centre: expected (n, d), 1 <= count <= n, 0 <= first < n, got {tuple(x.shape)}, {count}, {first}"
        )
    length = x.square().sum(1)
    nearest = torch.full_like(length, torch.inf)  # squared distance to the nearest chosen row
    chosen, radii = torch.empty(count, dtype=torch.long, device=x.device), torch.empty_like(length[:count])
    pick = torch.tensor(first, device=x.device)
    for i in range(count):
        chosen[i] = pick
        far = (length + length[pick] - 2 * (x @ x[pick])).clamp_(min=0)
        nearest = torch.minimum(nearest, far)
        nearest[pick] = 0  # rounding must not choose a row twice
        pick = nearest.argmax()
        radii[i] = nearest[pick]
    return chosen, radii.sqrt()
