"""Nearest neighbours: search in chunks, the vote of neighbours, and a subset that leaves nothing far away.

Book: selfsup/representations, anomaly/representations
"""

import importlib.util

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.checks import check_finite, checked, describe, one_of, positive, whole
from gadkit.nn.private import linear
from gadkit.runtime import progress

METRICS = ("cosine", "l2")
CHUNK = 1 << 22  # similarities held at once: 16 MB, which a processor keeps close; a GPU has room for more


def check_features(x: Tensor, what: str = "features") -> Tensor:
    """Return features (n, d) in at least single precision.

    Raises ValueError for another shape, for whole numbers, and for what is not finite.
    """
    if not isinstance(x, Tensor) or x.ndim != 2 or not x.shape[1] or not x.is_floating_point():
        raise ValueError(f"{what}: expected floats of shape (n, d), got {describe(x)}")
    return check_finite(x if x.dtype == torch.float64 else x.float(), what)


def inner(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], plus: Float[Tensor, "m"] | None = None) -> Tensor:
    """x @ y.T (+ plus), by oneDNN on a CPU: on processors that MKL does not favour that halves its time."""
    return linear(x, y, plus)


def rows_at_once(keys: int, device: torch.device) -> int:
    """How many rows can be compared with that many keys in one go."""
    return max(1, CHUNK * (1 if device.type == "cpu" else 32) // keys)


def has_kernel(where: torch.device) -> bool:
    """Whether `gadkit.search.fused` runs there: on a chip for which bfloat16 is arithmetic, where Triton is."""
    return (
        where.type == "cuda"
        and importlib.util.find_spec("triton") is not None
        and torch.cuda.get_device_capability(where) >= (8, 0)
    )


def can_fuse(queries: Float[Tensor, "*b n d"], keys: Float[Tensor, "m d"]) -> bool:
    """Whether `gadkit.search.fused` finds the nearest of these keys: where it runs, and where it may pay.

    Not where a gradient is wanted, which it does not have, and not in float32: there chunks took .083 s on an H200, and
    the kernel .108 s at its best (book/results/gpu.json).
    """
    kinds = {queries.dtype, keys.dtype}
    return (
        queries.device == keys.device
        and len(kinds) == 1
        and kinds <= {torch.float16, torch.bfloat16}
        and not (torch.is_grad_enabled() and (queries.requires_grad or keys.requires_grad))
        and has_kernel(queries.device)
    )


def _check(queries: Tensor, keys: Tensor, k: int, metric: str) -> tuple[Tensor, Tensor]:
    one_of("metric", metric, METRICS)
    queries, keys = check_features(queries, "queries"), check_features(keys, "keys")
    if queries.shape[1] != keys.shape[1]:
        raise ValueError(
            f"features: expected queries (n, d) and keys (m, d), got {tuple(queries.shape)} and {tuple(keys.shape)}"
        )
    if not 1 <= k <= len(keys):
        raise ValueError(f"k: expected from 1 to the number of keys, {len(keys)}, got {k}")
    kind = torch.promote_types(queries.dtype, keys.dtype)
    return queries.to(kind), keys.to(kind)


@checked
@torch.no_grad()  # ranks have no gradient
def topk(
    queries: Float[Tensor, "n d"], keys: Float[Tensor, "m d"], k: int, metric: str = "cosine", chunk: int | None = None
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """The k nearest keys of every query, nearest first: their cosines, or their Euclidean distances, and their rows.

    `chunk` is how many queries are compared at once; it bounds the memory and changes no result.  Raises ValueError for
    features that do not fit or are not finite, and for a k that there are not enough keys for.
    """
    given = queries, keys
    queries, keys = _check(queries, keys, k, metric)
    chunk = rows_at_once(len(keys), keys.device) if chunk is None else chunk
    whole("chunk", chunk)
    if k == 1 and metric == "cosine" and can_fuse(*given):
        from gadkit.search import fused  # imported late: it needs Triton

        nearest, which = fused.nearest(*given)
        return nearest[:, None], which[:, None]
    values = queries.new_empty(len(queries), k)
    indices = torch.empty_like(values, dtype=torch.long)
    if metric == "cosine":
        queries, keys = F.normalize(queries, dim=1), F.normalize(keys, dim=1)
    for some, nearest, which in zip(*(x.split(chunk) for x in (queries, values, indices)), strict=True):
        # results go where there is room for all: kept apart, they would lie between the chunks' memory and pin it
        nearest[:], which[:] = inner(some, keys).topk(k) if metric == "cosine" else _nearest(some, keys, k)
    return values, indices


def _nearest(part: Tensor, keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Search by the expanded square, without the query's own length, which orders nothing; then measure exactly."""
    origin = keys.mean(0)  # features far from zero would cancel
    part, moved = part - origin, keys - origin
    index = inner(part, moved * -2, moved.square().sum(1)).topk(k, largest=False).indices
    exact = (part[:, None] - moved[index]).norm(dim=2)
    order = exact.argsort(stable=True, dim=1)
    return exact.gather(1, order), index.gather(1, order)


@checked
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
    one_of("weights", weights, ("softmax", "uniform", "distance"))
    positive("temperature", temperature)
    if (labels < 0).any():
        raise ValueError(f"labels: expected numbers of classes from 0, got {int(labels.min())}")
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


@checked
def k_centre(
    x: Float[Tensor, "n d"], count: int, first: int = 0, quiet: bool = True
) -> tuple[Int[Tensor, "count"], Float[Tensor, "count"]]:
    """Greedy k-centre: start with row `first`, then again and again the row farthest from all chosen ones.

    Returns the chosen rows in their order and, beside each, the radius that was left when it had been chosen: the
    largest distance of any row to the nearest chosen one.  Radii never rise, and the last is at most twice the best
    possible (Gonzalez 1985).  `quiet` hides the progress bar.  Raises ValueError for a count or a first row that does
    not exist.
    """
    x = check_features(x)
    if not 1 <= count <= len(x) or not 0 <= first < len(x):
        raise ValueError(
            f"k-centre: expected 1 <= count <= n and 0 <= first < n = {len(x)}, got count {count} and first {first}"
        )
    nearest = torch.full_like(x[:, 0], torch.inf)  # distance to the nearest chosen row
    chosen, radii = torch.empty(count, dtype=torch.long, device=x.device), torch.empty_like(nearest[:count])
    pick = torch.tensor(first, device=x.device)
    for i in progress(range(count), "k-centre", quiet=quiet):
        chosen[i] = pick
        nearest = torch.minimum(nearest, distances_to(x, x[pick]))
        nearest[pick] = -1  # where rows coincide, none is chosen twice
        pick = nearest.argmax()
        radii[i] = nearest[pick]
    return chosen, radii.clamp_(min=0)


def distances_to(x: Float[Tensor, "n d"], row: Float[Tensor, "d"]) -> Float[Tensor, "n"]:
    """The Euclidean distance of every row to one, exactly: 0 for itself and for its copies."""
    return torch.cdist(x, row[None], compute_mode="donot_use_mm_for_euclid_dist")[:, 0]
