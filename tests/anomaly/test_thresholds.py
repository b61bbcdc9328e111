"""The line between normal and anomalous: held-out scores are what refitting gives, and a quantile is one of them."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from gadkit.anomaly.detectors import WinCLIP
from gadkit.anomaly.thresholds import (
    counted,
    doubts,
    false_alarm_rate,
    held_out,
    p_values,
    parts_needed,
    promised,
    threshold,
)


@pytest.fixture(scope="module")
def detector(tiny_clip: Callable) -> WinCLIP:
    clip = tiny_clip(0, image_size=48, width=32, layers=2, text_width=32, text_layers=1, embed=16)
    return WinCLIP(clip, "nut")


def test_each_image_is_scored_as_if_it_had_never_been_seen(detector: WinCLIP, images: torch.Tensor) -> None:
    found = held_out(detector.fit(images), images)
    for i in range(len(images)):
        others = torch.cat([images[:i], images[i + 1 :]])
        expected = WinCLIP(detector.backbone, "nut").fit(others).score(images[i : i + 1])
        torch.testing.assert_close(found.scores[i : i + 1], expected.scores)
        torch.testing.assert_close(found.maps[i : i + 1], expected.maps)
    assert (found.scores > detector.score(images).scores).all(), "a reference scores lower against itself"


def test_the_detector_keeps_all_its_references(detector: WinCLIP, images: torch.Tensor) -> None:
    before = detector.fit(images).score(images)
    held_out(detector, images)
    assert torch.equal(detector.score(images).scores, before.scores)


@pytest.mark.parametrize(
    ("fitted", "asked", "message"), [(4, 1, "at least 2"), (4, 3, "the 4 that"), (0, 4, "the 0 that")]
)
def test_images_that_cannot_be_held_out(
    detector: WinCLIP, images: torch.Tensor, fitted: int, asked: int, message: str
) -> None:
    detector.fit(images[:fitted] if fitted else None)
    with pytest.raises(ValueError, match=message):
        held_out(detector, images[:asked])


def test_the_default_threshold_is_the_highest_score() -> None:
    scores = torch.tensor([0.3, 0.1, 0.7, 0.5])
    assert threshold(scores) == pytest.approx(0.7)
    assert threshold(scores, 0.5) == pytest.approx(0.5), "the higher of the two in the middle"
    assert false_alarm_rate(scores, threshold(scores)) == pytest.approx(1 / 5)
    assert false_alarm_rate(scores, 0.3) == pytest.approx(3 / 5)


def test_rates_at_the_edges() -> None:
    scores = torch.tensor([0.1, 0.3, 0.3, 0.5])
    rates = [false_alarm_rate(scores, line) for line in (-float("inf"), 0.0, 0.1, 0.3, 0.4, 0.5, float("inf"))]
    assert rates == pytest.approx([1, 1, 4 / 5, 2 / 5, 2 / 5, 1 / 5, 1 / 5])
    assert false_alarm_rate(scores[:1], 0.0) == 1
    assert false_alarm_rate(scores[:1], 0.1) == 1 / 2


def test_a_rank_is_not_moved_by_rounding() -> None:
    """The 0.55 quantile of 101 scores is the one with 55 below it, although 0.55 * 100 is 55.00000000000001."""
    scores = torch.arange(101.0).flip(0)
    assert [threshold(scores, q) for q in (0.55, 0.57, 0.29, 0.005, 0.995, 1.0)] == [55, 57, 29, 1, 100, 100]
    assert threshold(torch.ones(5), 0.3) == 1


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=30), st.floats(0.01, 1))
def test_at_most_the_share_beyond_the_quantile_lies_above(values: list[float], quantile: float) -> None:
    scores = torch.tensor(values)
    line = threshold(scores, quantile)
    assert line in scores.tolist()
    assert int((scores > line).sum()) <= (1 - quantile) * (len(values) - 1) + 1e-9


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("scores", "quantile", "message"),
    [
        (torch.tensor([0.1]), 1.0, "at least 2 normal images, got 1"),
        (torch.tensor([0.1, 0.2]), 0.0, r"a share in \(0, 1\], got float 0.0"),
        (torch.tensor([0.1, 0.2]), 1.5, r"a share in \(0, 1\], got float 1.5"),
        (torch.tensor([0.1, 0.2]), float("nan"), "got float nan"),
        (torch.tensor([0.1, float("nan")]), 1.0, "1 NaN or infinite of 2"),
        (torch.tensor([0.1, float("inf")]), 1.0, "1 NaN or infinite of 2"),
        (torch.tensor([]), 1.0, "at least one, got none"),
        (torch.zeros(3, 1), 1.0, r"scores: expected .*, got .* shape \(3, 1\)"),
        (torch.tensor([1, 2]), 1.0, "scores: expected .*, got .* int64"),
        ([0.1, 0.2], 1.0, "scores: expected .*, got list"),
    ],
)
def test_what_gives_no_threshold(scores: torch.Tensor, quantile: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        threshold(scores, quantile)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("scores", "line", "message"),
    [
        (torch.tensor([]), 0.5, "at least one, got none"),
        (torch.tensor([0.1, float("nan")]), 0.5, "1 NaN or infinite of 2"),
        (torch.zeros(3, 1), 0.5, "shape"),
        (torch.tensor([0.1]), float("nan"), "line: expected a number, got float nan"),
    ],
)
def test_what_gives_no_rate(scores: torch.Tensor, line: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        false_alarm_rate(scores, line)


def test_a_line_promises_a_rate_of_false_alarms() -> None:
    scores = torch.arange(1.0, 20.0)  # 19 good parts: every step is 5 %
    assert [threshold(scores, alarms=a) for a in (0.05, 0.06, 0.1, 0.5, 1.0)] == [19, 19, 18, 10, 1]
    assert threshold(scores, alarms=0.05) == threshold(scores), "the default promises all that can be promised"
    assert [parts_needed(a) for a in (0.05, 0.1, 0.01, 0.3, 1.0)] == [19, 9, 99, 3, 0]
    with pytest.raises(
        ValueError, match=r"at least 1 / 20 = 0.05, .* 19 good parts can promise, got 0.01; it takes 99"
    ):
        threshold(scores, alarms=0.01)
    with pytest.raises(ValueError, match="quantile or alarms, got both"):
        threshold(scores, 0.9, alarms=0.1)
    with pytest.raises(ValueError, match=r"alarms: expected a share in \(0, 1\], got float 0.0"):
        threshold(scores, alarms=0.0)


@given(st.integers(2, 40), st.floats(0.03, 1))
def test_the_promise_is_kept_and_no_lower_score_would_keep_it(count: int, alarms: float) -> None:
    scores = torch.arange(float(count))
    if alarms < 1 / (count + 1):
        with pytest.raises(ValueError, match="alarms: expected at least"):
            threshold(scores, alarms=alarms)
        return
    line = threshold(scores, alarms=alarms)
    assert false_alarm_rate(scores, line) <= alarms + 1e-9
    assert line == 0 or false_alarm_rate(scores, line - 1) > alarms - 1e-9


def test_new_good_parts_exceed_the_line_as_often_as_promised() -> None:
    draw = torch.Generator().manual_seed(0)
    known, new = torch.rand(4000, 9, generator=draw), torch.rand(4000, generator=draw)
    for alarms in (0.1, 0.3):
        lines = torch.tensor([threshold(scores, alarms=alarms) for scores in known])
        assert float((new > lines).float().mean()) == pytest.approx(alarms, abs=0.02)
    rates = [promised(scores, float(scores.max())) for scores in known[:200]]
    low, high = torch.tensor([(rate.low, rate.high) for rate in rates]).T
    real = 1 - known[:200].amax(1)  # of uniform scores
    assert ((real >= low) & (real <= high)).float().mean() == pytest.approx(0.95, abs=0.04)


def test_the_interval_of_the_highest_of_k_scores_has_a_closed_form() -> None:
    for k in (2, 16, 17, 200):
        scores = torch.rand(k, generator=torch.Generator().manual_seed(k))
        rate = promised(scores, float(scores.max()))
        assert rate.expected == pytest.approx(1 / (k + 1))
        assert (rate.low, rate.high) == pytest.approx((1 - 0.975 ** (1 / k), 1 - 0.025 ** (1 / k)))
    below = promised(torch.rand(10), -1.0)
    assert (below.expected, below.low, below.high) == pytest.approx((1, 0.025**0.1, 1))
    assert str(promised(torch.arange(19.0), 18.0)) == "5.0% (0.1% to 17.6%, with 95% confidence)"


@pytest.mark.parametrize(
    ("alarms", "parts", "low", "high"),  # R 4.3: binom.test(alarms, parts)$conf.int
    [(3, 20, 0.03207094, 0.37892683), (0, 10, 0, 0.3084971), (10, 10, 0.6915029, 1), (5, 10, 0.187086, 0.812914)],
)
def test_counted_alarms_have_the_interval_of_clopper_and_pearson(
    alarms: int, parts: int, low: float, high: float
) -> None:
    rate = counted(alarms, parts)
    assert (rate.expected, rate.low, rate.high) == pytest.approx((alarms / parts, low, high), abs=1e-6)
    theirs = binomtest(alarms, parts).proportion_ci(0.9, method="exact")
    assert (counted(alarms, parts, 0.9).low, counted(alarms, parts, 0.9).high) == pytest.approx(tuple(theirs))


def test_p_values_count_the_normal_scores_that_are_as_high() -> None:
    normal = torch.tensor([0.3, 0.1, 0.3, 0.5])
    found = p_values(torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), normal)
    assert found.tolist() == pytest.approx([1, 1, 4 / 5, 4 / 5, 2 / 5, 2 / 5, 1 / 5])
    for bad in (torch.tensor([]), torch.tensor([float("nan")])):
        with pytest.raises(ValueError, match="scores: expected"):
            p_values(bad, normal)


def test_doubts_are_about_too_few_parts_and_parts_unlike_the_others() -> None:
    scores = torch.linspace(0.2, 0.3, 17)
    assert doubts(scores, threshold(scores)) == []
    (few,) = doubts(scores[:16], threshold(scores[:16]))
    assert few == "with 16 good parts the rate of false alarms is about 6%, but may be 21%: give more"
    (again,) = doubts(scores, 0.28)
    assert "about 28%, but may be 50%" in again
    stray = torch.cat([scores, torch.tensor([0.6])])
    (unlike,) = doubts(stray, threshold(stray))
    assert unlike.startswith("good parts are unlike one another: number 18 scores far above the rest")
    assert doubts(scores * 0 + 0.25, 0.25) == [], "copies are not unlike"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: counted(5, 4), "alarms: expected a whole number from 0 to the number of parts, got 5 of 4"),
        (lambda: counted(0, 0), "got 0 of 0"),
        (lambda: counted(1, 4, 1.0), r"confidence: expected a share in \(0, 1\), got 1.0"),
        (lambda: promised(torch.rand(4), 0.5, 0.0), "confidence: expected"),
        (lambda: promised(torch.rand(4), float("nan")), "line: expected a number"),
        (lambda: parts_needed(0.0), "alarms: expected a share"),
    ],
)
def test_what_gives_no_interval(call, message: str, untyped: None) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_two_scores_have_a_threshold_and_one_has_none() -> None:
    assert threshold(torch.tensor([0.25, 0.125])) == 0.25
    assert threshold(torch.tensor([0.25, 0.125]), 0.001) == 0.25
    assert threshold(torch.arange(101.0), 0.55) == 55
    with pytest.raises(ValueError, match="at least 2 normal images, got 1"):
        threshold(torch.tensor([0.25]))
