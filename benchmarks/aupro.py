"""Exact AUPRO against the plain implementation with 200 thresholds, and against ADEval where it is installed.

Pixel AUROC, average precision and F1-max against scikit-learn, and anomalib where it is installed: the same numbers.

80 smooth maps of 256 x 256, half of them with one to three round defects, from a fixed seed; medians of five runs.

Book: anomaly/measuring
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from unittest import mock

import numpy as np
import torch
from jaxtyping import Bool, Float
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from gadkit.anomaly.metrics import aupro, auroc, average_precision, f1_max
from gadkit.anomaly.plain import plain_aupro, random_maps

LIMIT = 0.3
Measure = Callable[..., float]


def rows(count: int = 80, size: int = 256, repeats: int = 5) -> Iterator[tuple[str, float, str]]:
    """Time `count` maps of `size` x `size` pixels; yields (what, value, unit)."""
    if min(count, size, repeats) < 1:
        raise ValueError(f"count, size, repeats: expected at least 1 each, got {count}, {size}, {repeats}")
    maps, masks = random_maps(count, size)
    exact, own = timed(lambda: aupro(maps, masks, LIMIT), repeats)
    yield f"gadkit, {count} maps of {size} x {size}", own, f"s, value {exact:.6f}"
    value, slow = timed(lambda: plain_aupro(maps, masks, LIMIT), 1)
    yield "plain, 200 thresholds", slow, f"s, value {value:.6f}"
    yield "plain / gadkit", slow / own, "x"
    if find_spec("adeval") is None:
        yield "ADEval", math.nan, "not installed"
    else:
        value, other = timed(lambda: adeval_aupro(maps, masks), repeats)
        yield "ADEval, 1,000 bins", other, f"s, value {value:.6f}"
        yield "ADEval / gadkit", other / own, "x"
    for name, ours in RANKED.items():
        value, own = timed(lambda ours=ours: ours(maps, masks), repeats)
        yield f"gadkit, {name}", own, f"s, value {value:.6f}"
        for rival, measures in rivals().items():
            same, slow = timed(lambda theirs=measures[name]: theirs(masks.ravel(), maps.ravel()), repeats)
            yield f"{rival}, {name}", slow, f"s, value {same:.6f}"
            yield f"{rival} / gadkit, {name}", slow / own, "x"
    if find_spec("anomalib") is None:
        yield "anomalib", math.nan, "not installed"


RANKED: dict[str, Measure] = {
    "AUROC": auroc,
    "average precision": average_precision,
    "F1-max": lambda scores, labels: f1_max(scores, labels)[0],
}


def rivals() -> dict[str, dict[str, Measure]]:
    """Libraries that compute the same numbers from (labels, scores); anomalib only where it is installed."""
    found = {"scikit-learn": dict(zip(RANKED, (roc_auc_score, average_precision_score, sklearn_f1_max), strict=True))}
    if find_spec("anomalib") is not None:
        from anomalib.metrics import aupr, f1_score  # the measures themselves: the public ones want anomalib's batches
        from anomalib.metrics import auroc as area

        kinds = (area._AUROC, aupr._AUPR, f1_score._F1Max)
        found["anomalib"] = {name: partial(_anomalib, kind) for name, kind in zip(RANKED, kinds, strict=True)}
    return found


def _anomalib(kind: type, labels: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float:
    measure = kind()
    measure.update(torch.from_numpy(scores), torch.from_numpy(labels).int())
    return float(measure.compute())


def sklearn_f1_max(labels: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float:
    """The best F1 on scikit-learn's precision-recall curve."""
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max())


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
