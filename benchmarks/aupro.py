"""Exact AUPRO against the plain implementation with 200 thresholds, and against ADEval where it is installed.

Pixel AUROC, average precision and F1-max against scikit-learn, which computes the same numbers; anomalib is no
dependency, so it is not compared.

80 smooth maps of 256 x 256, half of them with one to three round defects, from a fixed seed; medians of five runs.

Book: anomaly/measuring
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from unittest import mock

import numpy as np
from jaxtyping import Bool, Float
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from gadkit.anomaly.metrics import aupro, auroc, average_precision, f1_max
from gadkit.anomaly.plain import plain_aupro, sample

LIMIT = 0.3


def rows(count: int = 80, size: int = 256, repeats: int = 5) -> Iterator[tuple[str, float, str]]:
    """Time `count` maps of `size` x `size` pixels; yields (what, value, unit)."""
    if min(count, size, repeats) < 1:
        raise ValueError(f"count, size, repeats: expected at least 1 each, got {count}, {size}, {repeats}")
    maps, masks = sample(count, size)
    exact, seconds = timed(lambda: aupro(maps, masks, LIMIT), repeats)
    yield f"gadkit, {count} maps of {size} x {size}", seconds, f"s, value {exact:.6f}"
    value, slow = timed(lambda: plain_aupro(maps, masks, LIMIT), 1)
    yield "plain, 200 thresholds", slow, f"s, value {value:.6f}"
    yield "plain / gadkit", slow / seconds, "x"
    for name, (ours, theirs) in RANKED.items():
        value, seconds = timed(lambda ours=ours: ours(maps, masks), repeats)
        same, slow = timed(lambda theirs=theirs: theirs(masks.ravel(), maps.ravel()), repeats)
        yield f"gadkit, {name}", seconds, f"s, value {value:.6f}"
        yield f"scikit-learn, {name}", slow, f"s, value {same:.6f}"
        yield f"scikit-learn / gadkit, {name}", slow / seconds, "x"
    if find_spec("adeval") is None:
        yield "ADEval", math.nan, "not installed"
        return
    value, other = timed(lambda: adeval_aupro(maps, masks), repeats)
    yield "ADEval, 1,000 bins", other, f"s, value {value:.6f}"
    yield "ADEval / gadkit", other / seconds, "x"


def sklearn_f1_max(labels: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float:
    """The best F1 on scikit-learn's precision-recall curve."""
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max())


RANKED: dict[str, tuple[Callable[..., float], Callable[..., float]]] = {
    "AUROC": (auroc, roc_auc_score),
    "average precision": (average_precision, average_precision_score),
    "F1-max": (lambda scores, labels: f1_max(scores, labels)[0], sklearn_f1_max),
}


def timed(function: Callable[[], float], repeats: int) -> tuple[float, float]:
    """The value of `function`, and the median of its seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        value = function()
        seconds.append(time.perf_counter() - start)
    return value, statistics.median(seconds)


def adeval_aupro(maps: Float[np.ndarray, "b h w"], masks: Bool[np.ndarray, "b h w"]) -> float:
    """ADEval's value on the CPU; it counts in bins, and computes pixel AUROC and average precision on the way."""
    from adeval import auroc_aupr_aupro

    with mock.patch.object(np, "trapz", np.trapezoid, create=True):  # the name that numpy 2.4 dropped and ADEval calls
        return auroc_aupr_aupro(list(maps), list(masks.astype(np.uint8)))[2]
