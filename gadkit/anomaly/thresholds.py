"""Where to draw the line, from normal images alone.

A detector that remembers its normal images finds nothing strange in them: each patch lies 0 away from itself.  A
threshold taken from such scores would call every new part defective.  So each normal image is scored by a detector that
has not seen it (leave-one-out), and the threshold is a quantile of these held-out scores.

The default quantile is 1, the highest score, because it promises something without assuming a distribution: if a new
normal part is as likely as any of the k known ones to score highest of all, it does so with probability 1 / (k + 1)
(Vovk et al. 2005, conformal prediction).  Mean plus three standard deviations promises more, but only of Gaussian
scores, which these are not; and from four images the standard deviation is itself a guess.

Book: anomaly/measuring
"""

import copy

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit.anomaly.winclip import WinCLIP
from gadkit.checks import check_finite, check_images, checked
from gadkit.protocols import AnomalyResult
from gadkit.runtime import progress


@checked
def held_out(detector: WinCLIP, normal: UInt8[Tensor, "k 3 h w"], quiet: bool = True) -> AnomalyResult:
    """Score each of the k normal images that `detector` was fitted on as if it had seen only the other k - 1.

    The references are encoded once, by `fit`, so this takes no longer than `score(normal)`.  `detector` stays as it is;
    `quiet` hides the progress bar.

    Raises ValueError for fewer than two images, since one has no others to be compared with, and for another number of
    images than the detector was fitted on.
    """
    count = len(check_images(normal, "normal images"))
    if count < 2:
        raise ValueError("normal images: expected at least 2, to compare each with the others, got 1")
    patches, rows = detector.reference_patches_, detector.backbone.grid[0] * detector.backbone.grid[1]
    known = 0 if patches is None else len(patches) // rows
    if known != count:
        raise ValueError(f"normal images: expected the {known} that the detector was fitted on, got {count}")
    results = [
        _without(detector, index, count).score(normal[index : index + 1])
        for index in progress(range(count), "threshold", quiet=quiet)
    ]
    return AnomalyResult(torch.cat([r.maps for r in results]), torch.cat([r.scores for r in results]))


def _without(detector: WinCLIP, index: int, count: int) -> WinCLIP:
    """The detector as it would be, had it not seen reference `index` of `count`."""

    def rest(bank: Float[Tensor, "m e"]) -> Float[Tensor, "n e"]:
        images = bank.unflatten(0, (count, -1))  # (k, m / k, e)
        return torch.cat([images[:index], images[index + 1 :]]).flatten(0, 1)

    other = copy.copy(detector)
    other.reference_patches_ = rest(detector.reference_patches_)
    other.reference_windows_ = {scale: rest(bank) for scale, bank in detector.reference_windows_.items()}
    return other


@checked
def threshold(scores: Float[Tensor, " k"], quantile: float = 1.0) -> float:
    """The score above which an image counts as anomalous: a quantile of normal images' held-out scores.

    Always one of the scores, never a value between two.  Raises ValueError for fewer than two scores or a quantile
    outside (0, 1].
    """
    if len(scores) < 2:
        raise ValueError(f"scores: expected those of at least 2 normal images, got {len(scores)}")
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile: expected a number above 0 and at most 1, got {quantile}")
    return float(check_finite(scores, "scores").double().quantile(quantile, interpolation="higher"))


@checked
def false_alarm_rate(scores: Float[Tensor, " k"], line: float) -> float:
    """The share of new normal images to expect above `line`, given k held-out scores: (1 + those above) / (k + 1).

    Raises ValueError for no scores, scores of another shape, and NaN.
    """
    if not len(check_finite(scores, "scores")):
        raise ValueError("scores: expected those of at least 1 normal image, got none")
    return (1 + int((scores > line).sum())) / (len(scores) + 1)
