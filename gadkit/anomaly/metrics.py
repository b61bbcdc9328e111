"""How well scores separate defective from good: AUROC, average precision and F1-max, and AUPRO for regions.

They depend on the order of the scores only, so scores need no fixed range.  A pixel metric is the same function as
the image metric, given maps and masks in place of scores and labels.  Arguments are numpy arrays or torch tensors, on
any device; results are Python floats.  Every function raises ValueError for NaN or infinite scores, labels other than
0 and 1, shapes that differ, an empty input, and an input that holds only one class.

Book: anomaly/measuring
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int, Shaped

from gadkit import checks
from gadkit.checks import checked, describe

Array = Shaped[np.ndarray, "..."] | Shaped[torch.Tensor, "..."]

# Neighbours within an image, also diagonal ones (as MVTec AD's own evaluation has them), and none across images.
WITHIN_AN_IMAGE = np.zeros((3, 3, 3), dtype=bool)
WITHIN_AN_IMAGE[1] = True


@checked
def auroc(scores: Array, labels: Array) -> float:
    """The probability that a random anomalous entry scores above a random normal one; ties count half.

    `scores` and `labels` have one shape, any shape: (b,) for image AUROC, (b, h, w) for pixel AUROC.
    """
    rank = _rank(*_check(scores, labels))
    pairs = rank.normal * len(rank.scores)
    return float(1 - (rank.above.sum() + rank.reached.sum()) / (2 * pairs))  # sums of whole numbers, so they are exact


@checked
def average_precision(scores: Array, labels: Array) -> float:
    """The mean of the precision at each true positive (step-wise, without interpolation); chance is the share of 1s."""
    rank = _rank(*_check(scores, labels))
    return float((rank.hits / (rank.hits + rank.reached)).mean())


@checked
def f1_max(scores: Array, labels: Array) -> tuple[float, float]:
    """The best F1 that any threshold reaches, and that threshold, to be used as `scores >= threshold`.

    Of several thresholds equally good it is the lowest, which misses the fewest defects.  The threshold was chosen with
    the labels in hand: a ceiling to compare methods by, not an operating point for new images.
    """
    rank = _rank(*_check(scores, labels))
    f1 = 2 * rank.hits / (rank.hits + rank.reached + len(rank.scores))
    best = int(f1.argmax())  # the scores rise, so the first of several is the lowest
    return float(f1[best]), float(rank.scores[best])


@checked
def aupro(maps: Array, masks: Array, limit: float = 0.3) -> float:
    """Area under the per-region overlap curve, up to a false-positive rate of `limit`, divided by `limit`: exact.

    `maps` and `masks` are (b, h, w).  A threshold marks pixels as defective; the overlap is the share of a region that
    is marked, averaged over all connected regions of the masks, so that a small defect weighs as much as a large one.
    A perfect map gives 1, an inverted one 0, a constant one `limit / 2`.

    No curve is built.  A defect pixel counts from the false-positive rate on at which the threshold reaches its score,
    so what it adds to the area is what is left of [0, limit] then, and AUPRO is the mean of that over each region's
    pixels and over the regions.  Where normal pixels tie with it, the curve (like a ROC curve) rises in a straight
    line. Bergmann et al. 2020 (Uninformed Students), the per-region overlap.
    """
    maps, masks = _check(maps, masks, "maps", "masks")
    if maps.ndim != 3:
        raise ValueError(f"maps: expected shape (b, h, w), got {maps.shape}")
    checks.share("limit", limit)
    rank, order = _rank(maps, masks), maps[masks].argsort()
    above, reached, region = rank.above, rank.reached, _regions(masks)[order]  # (n,) each, n defect pixels
    end = limit * rank.normal
    full = np.maximum(end - reached, 0.0)  # counted in full from `reached` to the limit
    ramp = np.minimum(reached, end) - np.minimum(above, end)  # the part of a tie on this side of the limit
    height = np.divide(ramp, reached - above, out=np.zeros_like(ramp), where=reached > above)  # and its rise there
    share = (full + ramp * height / 2) / end  # (n,) in [0, 1], so the means below are exactly 1 for a perfect map
    return float((np.bincount(region, share)[1:] / np.bincount(region)[1:]).mean())


@dataclass(frozen=True)
class _Rank:
    """Where each of the n anomalous scores, in rising order, stands among all: counts at the threshold that it gives.

    `hits` are the anomalous scores at or above it, `reached` the normal ones at or above it, `above` the normal ones
    above it, and `normal` is how many normal ones there are.  Only thresholds at anomalous scores matter: between two
    of them a lower one adds false positives and nothing else.
    """

    scores: Shaped[np.ndarray, " n"]
    hits: Int[np.ndarray, " n"]
    reached: Int[np.ndarray, " n"]
    above: Int[np.ndarray, " n"]
    normal: int


def _rank(scores: Shaped[np.ndarray, "*s"], labels: Bool[np.ndarray, "*s"]) -> _Rank:
    """One sort of the normal scores that any threshold reaches: values only, several times faster than an argsort."""
    normal, anomalous = scores[~labels], np.sort(scores[labels])
    count, normal = len(normal), np.sort(normal[normal >= anomalous[0]])
    return _Rank(
        anomalous,
        len(anomalous) - np.searchsorted(anomalous, anomalous, "left"),
        len(normal) - np.searchsorted(normal, anomalous, "left"),  # fast: it walks forward
        len(normal) - np.searchsorted(normal, anomalous, "right"),
        count,
    )


def _regions(masks: Bool[np.ndarray, "b h w"]) -> Int[np.ndarray, " n"]:
    """The number of the region, from 1, that each defect pixel belongs to; pixels in row-major order."""
    some = masks[masks.any(axis=(1, 2))]  # images without a defect need no labelling
    from scipy import ndimage  # imported late: it takes a third of a second

    return ndimage.label(some, WITHIN_AN_IMAGE)[0][some]


def _check(scores: Any, labels: Any, what: str = "scores", which: str = "labels") -> tuple[np.ndarray, np.ndarray]:
    """Both as numpy arrays, floating and boolean, when they are fit to be compared."""
    scores, labels = _numpy(scores, what), _numpy(labels, which)
    if scores.shape != labels.shape:
        raise ValueError(f"{what} and {which}: expected one shape, got {scores.shape} and {labels.shape}")
    return _finite(scores, what), _binary(labels, which)


def _finite(scores: np.ndarray, what: str) -> np.ndarray:
    if scores.size == 0:
        raise ValueError(f"{what}: expected at least one value, got an empty array of shape {scores.shape}")
    if scores.dtype.kind not in "fiu":
        raise ValueError(f"{what}: expected real numbers, got {describe(scores)}")
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)  # an unsigned number can't be negated, and subtraction overflows
    if not (finite := np.isfinite(scores)).all():
        raise ValueError(f"{what}: expected finite numbers, got {(~finite).sum()} NaN or infinite of {scores.size}")
    return scores.astype(np.float32) if scores.dtype.itemsize < 4 else scores


def _binary(labels: np.ndarray, what: str) -> np.ndarray:
    if labels.dtype.kind not in "bfiu":
        raise ValueError(f"{what}: expected booleans or 0 and 1, got {describe(labels)}")
    if labels.dtype.kind != "b" and not ((labels == 0) | (labels == 1)).all():
        ends = f"{labels.min()} to {labels.max()}"
        raise ValueError(f"{what}: expected booleans or 0 and 1, got {describe(labels)} with values from {ends}")
    labels = labels.astype(bool)
    if labels.all() or not labels.any():
        raise ValueError(f"{what}: expected some 0 (normal) and some 1 (anomalous), got {int(labels.flat[0])} only")
    return labels


def _numpy(values: Any, what: str) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()  # numpy has no bfloat16
    if not isinstance(values, np.ndarray):
        raise ValueError(f"{what}: expected a numpy array or a torch tensor, got {describe(values)}")
    return values
