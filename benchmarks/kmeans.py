"""k-means against scikit-learn's: the same rows, the same first centres, the same number of Lloyd's iterations.

Book: anomaly/measuring
"""

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks import Timing, best
from gadkit.search.kmeans import KMeans, lloyd


def rows(
    count: int = 20_000,
    width: int = 128,
    k: int = 256,
    iterations: int = 15,
    rounds: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Timing]:
    """Seconds and inertias of both, and how many times as fast ours is, on the CPU with as many threads."""
    x, seeds = clusters(count, width, k)
    answers = {}
    sides = {
        "gadkit": lambda: answers.update(gadkit=lloyd(x, seeds, iterations)),
        "scikit-learn": lambda: answers.update({"scikit-learn": sklearn_lloyd(x, seeds, iterations)}),
    }
    seconds = best(sides, rounds, clock)
    where = f"{count} rows of {width}, {k} centres, {iterations} iterations, {torch.get_num_threads()} threads"
    for side, took in seconds.items():
        yield f"{side}, Lloyd", took, f"s, {where}"
    yield "gadkit / scikit-learn", seconds["scikit-learn"] / seconds["gadkit"], "times as fast"
    for side, answer in answers.items():
        yield f"{side}, inertia", answer.inertia, f"{answer.inertia:.1f}"


def clusters(count: int, width: int, k: int, seed: int = 0) -> tuple[Float[Tensor, "n d"], Float[Tensor, "k d"]]:
    """Overlapping clusters, which keep Lloyd's iterations busy to the end, and k of their rows to start from."""
    draw = torch.Generator().manual_seed(seed)
    middles = torch.randn(k, width, generator=draw)
    x = middles[torch.randint(k, (count,), generator=draw)] + 1.5 * torch.randn(count, width, generator=draw)
    return x, x[torch.randperm(count, generator=draw)[:k]]


def sklearn_lloyd(x: Float[Tensor, "n d"], seeds: Float[Tensor, "k d"], iterations: int) -> KMeans:
    """scikit-learn's answer; stops before the iterations are over only where nothing changes any more."""
    from sklearn.cluster import KMeans as Theirs
    from threadpoolctl import threadpool_limits

    with threadpool_limits(torch.get_num_threads()):
        found = Theirs(len(seeds), init=seeds.numpy(), n_init=1, max_iter=iterations, tol=0.0).fit(x.numpy())
    centres, labels = (
        torch.from_numpy(a.astype(t)) for a, t in ((found.cluster_centers_, "f4"), (found.labels_, "i8"))
    )
    return KMeans(centres, labels, float(np.float64(found.inertia_)))
