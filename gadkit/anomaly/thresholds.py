"""Where to draw the line, from normal images alone.

A detector that remembers its normal images finds nothing strange in them: each patch lies 0 away from itself.  A
threshold taken from such scores would call every new part defective.  So each normal image is scored by a detector that
was not given it (leave-one-out), and the threshold is a quantile of these held-out scores.

The default quantile is 1, the highest score, because it promises something without assuming a distribution: if a new
normal part is as likely as any of the k known ones to score highest of all, it does so with probability 1 / (k + 1)
(Vovk et al. 2005, conformal prediction).  Mean plus three standard deviations promises more, but only of Gaussian
scores, which these are not; and from four images the standard deviation is itself a guess.

Book: anomaly/measuring
"""

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit.checks import check_finite, check_images, checked, share
from gadkit.protocols import AnomalyResult, Detector
from gadkit.runtime import progress


@checked
def held_out(detector: Detector, normal: UInt8[Tensor, "k 3 h w"], quiet: bool = True) -> AnomalyResult:
    """Score each of the k normal images that `detector` was fitted on as if it had been given only the other k - 1.

    `detector` stays as it is; `quiet` hides the progress bar.  Raises ValueError for fewer than two images, since one
    has no others to be compared with, and for another number of images than the detector was fitted on.
    """
    check_images(normal, "normal images")
    found = list(progress(detector.leave_one_out(normal), "threshold", total=len(normal), quiet=quiet))
    return AnomalyResult(torch.cat([r.maps for r in found]), torch.cat([r.scores for r in found]))


@checked
def threshold(scores: Float[Tensor, " k"], quantile: float = 1.0) -> float:
    """The score above which an image counts as anomalous: a quantile of normal images' held-out scores.

    It is one of the scores, never a value between two: the lowest that at least `quantile` of the way from the lowest
    to the highest score, counted in ranks, lies at or below.  So 1 is the highest, 0.5 of four scores the third, and
    at most (1 - quantile)(k - 1) of the k scores lie above.

    Raises ValueError for anything but a row of at least two finite scores, and for a quantile outside (0, 1].
    """
    if len(_ranked(scores)) < 2:
        raise ValueError(f"scores: expected those of at least 2 normal images, got {len(scores)}")
    last = len(scores) - 1
    # 0.55 * 100 is 55.00000000000001 in floating point, and that is no reason to go one rank higher
    rank = math.ceil(round(share("quantile", quantile) * last, 9))
    return float(scores.double().sort().values[rank])


@checked
def false_alarm_rate(scores: Float[Tensor, " k"], line: float) -> float:
    """The share of new normal images to expect above `line`, given k held-out scores: (1 + those above) / (k + 1).

    A score that equals the line, in the scores' own precision, is not above it.  The rate never is 0, for k images
    can't promise that; below all scores it is 1.  Raises ValueError for anything but a row of at least one finite
    score, and for a line that is NaN.
    """
    above = int((_ranked(scores) > line).sum())
    return (1 + above) / (len(scores) + 1)


def _ranked(scores: Tensor) -> Tensor:
    """Scores, if they can be ranked."""
    if not len(scores):
        raise ValueError("scores: expected at least one, got none")
    return check_finite(scores, "scores")
