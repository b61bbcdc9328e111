"""Where to draw the line, from normal images alone, and how far to trust it.

A detector that remembers its normal images finds nothing strange in them: each patch lies 0 away from itself.  A
threshold taken from such scores would call every new part defective.  So each normal image is scored by a detector that
was not given it (leave-one-out), and the threshold is a quantile of these held-out scores.

The promise assumes no distribution (conformal prediction, Vovk et al. 2005).  If all ranks among the k known parts
are equally likely for a new normal part, it exceeds the r-th smallest of their scores with probability
(k + 1 - r) / (k + 1).  The smallest rate that k parts can promise is therefore 1 / (k + 1), by the highest score,
which is the default.  Over all draws of the k parts, the real rate follows a Beta(k + 1 - r, r) distribution.  Mean
plus three standard deviations promises more, but only of Gaussian scores, which these are not.

Held-out scores come from memories of k - 1 images, so they are a little high, and the promise errs on the safe side.
It ends where new parts are not like the known ones: under another lamp, for example.

Source: Clopper and Pearson 1934 (interval); Vovk et al. 2005, Algorithmic Learning in a Random World (p-values).
Book: anomaly/thresholds, anomaly/measuring
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit.checks import check_finite, check_images, checked, share
from gadkit.protocols import AnomalyResult, Detector
from gadkit.runtime import progress

TOO_MANY = 0.2  # alarms for good parts: a line that may give more than this is not to be acted on
STRAY = 6.0  # robust standard deviations above the median, from which a good part's score is unlike the others'
LEAST = 5  # scores, below which there is no saying which of them is unlike the others


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
def threshold(scores: Float[Tensor, " k"], quantile: float = 1.0, *, alarms: float | None = None) -> float:
    """The score above which an image counts as anomalous: one of normal images' held-out scores, never between two.

    `alarms` is the share of new normal images that may lie above: the lowest score that promises it is taken, the
    one of rank ceil((1 - alarms)(k + 1)).  Else `quantile` says how far to go from the lowest to the highest score,
    counted in ranks: 1 is the highest, 0.5 of four scores the third, and at most (1 - quantile)(k - 1) of the k scores
    lie above.

    Raises ValueError for anything but a row of at least two finite scores, a share outside (0, 1], both at once, and
    for fewer `alarms` than k images can promise, which is 1 / (k + 1).
    """
    k = len(_ranked(scores))
    if k < 2:
        raise ValueError(f"scores: expected those of at least 2 normal images, got {k}")
    # 0.55 * 100 is 55.00000000000001 in floating point, and that is no reason to go one rank higher
    if alarms is None:
        rank = math.ceil(round(share("quantile", quantile) * (k - 1), 9))
    elif quantile != 1.0:
        raise ValueError(f"expected quantile or alarms, got both: {quantile:g} and {alarms:g}")
    elif share("alarms", alarms) < 1 / (k + 1):
        raise ValueError(
            f"alarms: expected at least 1 / {k + 1} = {1 / (k + 1):.3g}, the smallest rate that {k} good parts can "
            f"promise, got {alarms:g}; it takes {parts_needed(alarms)} good parts"
        )
    else:
        rank = max(math.ceil(round((1 - alarms) * (k + 1), 9)) - 1, 0)
    return float(scores.double().sort().values[rank])


def parts_needed(alarms: float) -> int:
    """How many good parts it takes to promise a rate of false alarms: the k from which 1 / (k + 1) is no more."""
    return math.ceil(round(1 / share("alarms", alarms), 9)) - 1


@checked
def false_alarm_rate(scores: Float[Tensor, " k"], line: float) -> float:
    """The share of new normal images to expect above `line`, given k held-out scores: (1 + those above) / (k + 1).

    A score that equals the line, in the scores' own precision, is not above it.  The rate never is 0, for k images
    can't promise that; below all scores it is 1.  Raises ValueError for anything but a row of at least one finite
    score, and for a line that is NaN.
    """
    above = int((_ranked(scores) > line).sum())
    return (1 + above) / (len(scores) + 1)


@checked
def p_values(scores: Float[Tensor, " n"], normal: Float[Tensor, " k"]) -> Float[Tensor, " n"]:
    """How unusual new scores are beside k normal ones: (1 + those at least as high) / (k + 1), from 1 / (k + 1) to 1.

    Of new normal images, at most a share p has a value of p or less (the split-conformal p-value).  Raises ValueError
    for anything but rows of at least one finite score.
    """
    ranks = torch.searchsorted(_ranked(normal).sort().values, _ranked(scores).to(normal))  # normal scores below
    return (1 + len(normal) - ranks) / (len(normal) + 1)


@dataclass(frozen=True)
class Rate:
    """A share of false alarms: what to expect, and the ends of an interval of `confidence`."""

    expected: float
    low: float
    high: float
    confidence: float = 0.95

    def __str__(self) -> str:
        return f"{self.expected:.1%} ({self.low:.1%} to {self.high:.1%}, with {self.confidence:.0%} confidence)"


@checked
def promised(scores: Float[Tensor, " k"], line: float, confidence: float = 0.95) -> Rate:
    """The false-alarm rate of a line that k held-out scores have set, with its interval over draws of the k images.

    With a of them above the line, the real rate is distributed as Beta(a + 1, k - a).  A line below all scores gets the
    rate 1.  Raises ValueError as `false_alarm_rate` does, and for a confidence outside (0, 1).
    """
    from scipy.special import betaincinv  # the quantile of a Beta distribution; scipy.stats takes a second to load

    k, expected, tail = len(scores), false_alarm_rate(scores, line), _tail(confidence)
    above = round(expected * (k + 1)) - 1
    if above == k:
        return Rate(1.0, float(tail ** (1 / k)), 1.0, confidence)
    low, high = (float(betaincinv(above + 1, k - above, q)) for q in (tail, 1 - tail))
    return Rate(expected, low, high, confidence)


@checked
def counted(alarms: int, parts: int, confidence: float = 0.95) -> Rate:
    """The rate of false alarms that was counted, `alarms` of new good `parts`, with its Clopper-Pearson interval.

    The parts must be others than those that the line was drawn from.  Raises ValueError for counts that can't be, and
    for a confidence outside (0, 1).
    """
    from scipy.special import betaincinv  # the quantile of a Beta distribution; scipy.stats takes a second to load

    if not 0 <= alarms <= parts or parts < 1:
        raise ValueError(f"alarms: expected a whole number from 0 to the number of parts, got {alarms} of {parts}")
    tail = _tail(confidence)
    low = float(betaincinv(alarms, parts - alarms + 1, tail)) if alarms else 0.0
    high = float(betaincinv(alarms + 1, parts - alarms, 1 - tail)) if alarms < parts else 1.0
    return Rate(alarms / parts, low, high, confidence)


@checked
def doubts(scores: Float[Tensor, " k"], line: float) -> list[str]:
    """Why a line should not be acted on yet: too few good parts, or good parts too unlike one another.

    Too few: the false-alarm rate may exceed 20 %, by the upper end of its 95 % interval.  The highest of 17 scores is
    the first that passes.  Too unlike: a held-out score lies more than 6 robust standard deviations (1.4826 times
    the median deviation) above the median, so that the line hangs on a single part.  On 36 development products with
    16 good parts each this was so for 2, and for a third of those in which one part was defective.  Raises ValueError
    as `false_alarm_rate` does.
    """
    rate, k, found = promised(scores, line), len(scores), []
    if rate.high > TOO_MANY:
        found.append(
            f"with {k} good part{'s' * (k > 1)} the rate of false alarms is about {rate.expected:.0%}, but may be "
            f"{rate.high:.0%}: give more"
        )
    x = scores.double()
    spread = 1.4826 * (x - x.median()).abs().median()
    stray = ((x - x.median()) > STRAY * spread.clamp(min=1e-6)).nonzero()[:, 0].tolist()
    if k >= LEAST and stray:
        which = ", ".join(str(i + 1) for i in stray)
        found.append(f"good parts are unlike one another: number {which} scores far above the rest; look at it first")
    return found


def _tail(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a share in (0, 1), got {confidence}")
    return (1 - confidence) / 2


def _ranked(scores: Tensor) -> Tensor:
    """Scores, if they can be ranked."""
    if not len(scores):
        raise ValueError("scores: expected at least one, got none")
    return check_finite(scores, "scores")
