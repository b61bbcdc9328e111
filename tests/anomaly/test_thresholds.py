"""The line between normal and anomalous: held-out scores are what refitting gives, and a quantile is one of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gadkit.anomaly.detectors import WinCLIP
from gadkit.anomaly.thresholds import false_alarm_rate, held_out, threshold
from gadkit.backbones import OpenCLIP
from gadkit.backbones.tiny import TinyConfig, build_tiny_clip, tokenizer


@pytest.fixture(scope="module")
def detector() -> WinCLIP:
    torch.manual_seed(0)
    config = TinyConfig(image_size=48, width=32, layers=2, text_width=32, text_layers=1, embed=16)
    return WinCLIP(OpenCLIP(build_tiny_clip(config), tokenizer()), "nut")


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


def test_two_scores_have_a_threshold_and_one_has_none() -> None:
    assert threshold(torch.tensor([0.25, 0.125])) == 0.25
    assert threshold(torch.tensor([0.25, 0.125]), 0.001) == 0.25
    assert threshold(torch.arange(101.0), 0.55) == 55
    with pytest.raises(ValueError, match="at least 2 normal images, got 1"):
        threshold(torch.tensor([0.25]))
