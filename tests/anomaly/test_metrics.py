"""The laws of the metrics, and their agreement with slow literal definitions."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from gadkit.anomaly.metrics import aupro, auroc, average_precision, f1_max

Metric = Callable[[np.ndarray, np.ndarray], float | tuple[float, float]]
METRICS = [auroc, average_precision, f1_max, aupro]
LIMITS = st.sampled_from([0.05, 0.3, 0.5, 1.0]) | st.floats(0.01, 1)


@st.composite
def stacks(draw: st.DrawFn, tied: bool | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Small maps, of few levels (many ties) or of any float, with masks that hold both classes."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(2, 6)))
    levels = st.integers(-3, 3).map(float)
    anything = st.floats(width=32, allow_nan=False, allow_infinity=False)
    tied = draw(st.booleans()) if tied is None else tied
    maps = draw(hnp.arrays(np.float32, shape, elements=levels if tied else anything))
    masks = draw(hnp.arrays(bool, shape).filter(lambda masks: masks.any() and not masks.all()))
    return maps, masks


def connected(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """The 8-connected regions of one mask, found by walking."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    regions = []
    while left:
        todo = [left.pop()]
        region = []
        while todo:
            y, x = todo.pop()
            region.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            todo += near
        regions.append(region)
    return regions


def literal_aupro(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    """Every threshold, every region, one point of the curve at a time."""
    regions = [(image, region) for image, mask in enumerate(masks) for region in connected(mask)]
    rates, overlaps = [0.0], [0.0]
    for threshold in sorted(set(maps.ravel().tolist()), reverse=True):
        marked = maps >= threshold
        rates.append((marked & ~masks).sum() / (~masks).sum())
        overlaps.append(np.mean([np.mean([marked[image, y, x] for y, x in region]) for image, region in regions]))
    area = 0.0
    for (x0, y0), (x1, y1) in zip(
        zip(rates, overlaps, strict=True), zip(rates[1:], overlaps[1:], strict=True), strict=False
    ):
        if x0 >= limit:
            break
        if x1 > limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


@given(stacks(), LIMITS)
def test_aupro_is_its_definition(stack: tuple[np.ndarray, np.ndarray], limit: float) -> None:
    maps, masks = stack
    assert aupro(maps, masks, limit) == pytest.approx(literal_aupro(maps, masks, limit), abs=1e-9)


def test_aupro_is_its_definition_on_smooth_maps_of_some_size() -> None:
    random = np.random.default_rng(0)
    masks = np.zeros((3, 24, 32), bool)
    masks[0, 2:6, 3:9] = masks[0, 6, 9] = masks[0, 15:, 20:] = masks[2, :2, :] = True  # (6, 9) touches at a corner
    maps = random.standard_normal(masks.shape).cumsum(1).cumsum(2) + 20 * masks
    assert aupro(maps, masks, 0.3) == pytest.approx(literal_aupro(maps, masks, 0.3), abs=1e-12)


def test_regions_touch_at_corners_but_not_across_images() -> None:
    masks = np.zeros((2, 4, 4), bool)
    masks[0, 0, 0] = masks[0, 1, 1] = True  # one region, by the corner; two of different recall otherwise
    masks[1, 0, 0] = True  # under the first, in another image: a second region
    maps = np.zeros(masks.shape)
    maps[0, 0, 0] = maps[1, 0, 0] = 1
    maps[0, 1, 1] = -1
    assert aupro(maps, masks) == pytest.approx((0.5 + 1) / 2)


@given(stacks(), LIMITS)
def test_perfect_is_one_and_inverted_is_zero(stack: tuple[np.ndarray, np.ndarray], limit: float) -> None:
    _, masks = stack
    assert aupro(masks.astype(float), masks, limit) == 1
    assert aupro(-masks.astype(float), masks, limit) == 0
    for metric in (auroc, average_precision):
        assert metric(masks.astype(float), masks) == pytest.approx(1)
    assert auroc(-masks.astype(float), masks) == pytest.approx(0)
    assert f1_max(masks.astype(float), masks) == (1.0, 1.0)


@given(stacks(), LIMITS, st.floats(-1e6, 1e6))
def test_a_constant_map_gives_chance(stack: tuple[np.ndarray, np.ndarray], limit: float, level: float) -> None:
    _, masks = stack
    maps = np.full(masks.shape, level)
    share = masks.mean()
    assert aupro(maps, masks, limit) == pytest.approx(limit / 2)
    assert auroc(maps, masks) == pytest.approx(0.5)
    assert average_precision(maps, masks) == pytest.approx(share)
    assert f1_max(maps, masks) == (pytest.approx(2 * share / (1 + share)), level)


@given(stacks(tied=True), LIMITS, st.sampled_from([np.exp, np.arctan, lambda x: 1e4 * x - 7, lambda x: x**3]))
def test_only_the_order_counts(
    stack: tuple[np.ndarray, np.ndarray], limit: float, monotone: Callable[[np.ndarray], np.ndarray]
) -> None:
    maps, masks = stack
    changed = monotone(maps.astype(np.float64))
    assert aupro(changed, masks, limit) == aupro(maps, masks, limit)
    assert auroc(changed, masks) == auroc(maps, masks)
    assert average_precision(changed, masks) == average_precision(maps, masks)
    assert f1_max(changed, masks)[0] == f1_max(maps, masks)[0]


@given(stacks(), st.data())
def test_one_region_and_limit_one_is_pixel_auroc(stack: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    maps, _ = stack
    b, h, w = maps.shape
    masks = np.zeros(maps.shape, bool)
    masks[data.draw(st.integers(0, b - 1)), : data.draw(st.integers(1, h)), : data.draw(st.integers(1, w - 1))] = True
    assert aupro(maps, masks, 1.0) == pytest.approx(auroc(maps, masks), abs=1e-9)


@given(stacks(), LIMITS)
def test_every_value_lies_between_zero_and_one(stack: tuple[np.ndarray, np.ndarray], limit: float) -> None:
    maps, masks = stack
    values = [aupro(maps, masks, limit), auroc(maps, masks), average_precision(maps, masks), f1_max(maps, masks)[0]]
    assert all(type(value) is float and 0 <= value <= 1 + 1e-12 for value in values)


@given(stacks())
def test_auroc_counts_pairs(stack: tuple[np.ndarray, np.ndarray]) -> None:
    maps, masks = stack
    above = maps[masks][:, None].astype(float) - maps[~masks][None].astype(float)
    assert auroc(maps, masks) == pytest.approx(((above > 0) + 0.5 * (above == 0)).mean(), abs=1e-9)


@given(stacks())
def test_f1_max_is_reached_at_its_threshold_and_nowhere_beaten(stack: tuple[np.ndarray, np.ndarray]) -> None:
    maps, masks = stack

    def f1(threshold: float) -> float:
        marked = maps >= threshold
        return 2 * (marked & masks).sum() / (marked.sum() + masks.sum())

    value, threshold = f1_max(maps, masks)
    assert value == pytest.approx(f1(threshold))
    assert value == pytest.approx(max(f1(level) for level in np.unique(maps)))


@given(stacks())
def test_average_precision_is_the_mean_precision_at_each_hit(stack: tuple[np.ndarray, np.ndarray]) -> None:
    maps, masks = stack
    at = [(masks & (maps >= level)).sum() / (maps >= level).sum() for level in maps[masks]]
    assert average_precision(maps, masks) == pytest.approx(np.mean(at))


@pytest.mark.parametrize("digits", [1, 2, 9])
def test_ranks_of_smooth_maps_are_scikit_learn_s_to_the_last_digit(digits: int) -> None:
    random = np.random.default_rng(3)
    masks = random.random((6, 40, 50)) < 0.07
    maps = (random.standard_normal(masks.shape) + masks).round(digits)  # one digit: nearly all scores are tied
    flat, truth = maps.ravel(), masks.ravel()
    assert auroc(maps, masks) == pytest.approx(roc_auc_score(truth, flat), rel=0, abs=1e-15)
    assert average_precision(maps, masks) == pytest.approx(average_precision_score(truth, flat), rel=0, abs=1e-15)
    precision, recall, thresholds = precision_recall_curve(truth, flat)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    assert f1_max(maps, masks) == (pytest.approx(f1.max(), rel=0, abs=1e-15), thresholds[f1.argmax()])


def test_of_thresholds_that_are_equally_good_f1_max_takes_the_lowest() -> None:
    # 1 of 1 marked rightly at 4, and 3 of 5 at 0: F1 is 2/4 for the one and 6/8 for the other; at 1 it is 4/6
    scores, labels = np.array([4.0, 3, 2, 1, 0]), np.array([1, 0, 0, 1, 1])
    assert f1_max(scores, labels) == (0.75, 0.0)
    # 2 of 4 found with no false alarm, and all with 4 of them: F1 is 4/6 and 8/12
    scores, labels = np.array([9.0, 8, 7, 7, 7, 7, 6, 5]), np.array([1, 1, 0, 0, 0, 0, 1, 1])
    assert f1_max(scores, labels) == (pytest.approx(2 / 3), 5.0)


def test_scores_far_outside_the_unit_interval_are_ranked_as_they_stand() -> None:
    scores, labels = np.array([20.0, 30.0, 40.0, 50.0]), np.array([0, 0, 0, 1])
    assert auroc(scores, labels) == 1
    assert auroc(np.array([-3e38, 3e38, -3e38, 3e38], np.float32), labels) == roc_auc_score(labels, [0, 1, 0, 1])


def test_numpy_and_torch_of_any_number_type_agree() -> None:
    random = np.random.default_rng(1)
    maps, masks = random.integers(0, 50, (2, 9, 11)), random.random((2, 9, 11)) < 0.2
    for metric in METRICS:
        expected = metric(maps.astype(float), masks)
        assert metric(maps.astype(np.uint8), masks.astype(np.uint8)) == expected
        assert metric(maps.astype(np.float16), masks.astype(float)) == expected
        for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.int64):
            assert metric(torch.from_numpy(maps).to(dtype), torch.from_numpy(masks)) == expected
        assert metric(torch.from_numpy(maps).float().requires_grad_(), torch.from_numpy(masks).long()) == expected


MAPS = np.arange(16.0).reshape(1, 4, 4)
MASKS = MAPS > 11
WITH_NAN = np.where(MAPS == 3, np.nan, MAPS)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("maps", "masks", "message"),
    [
        (WITH_NAN, MASKS, "expected finite numbers, got 1 NaN or infinite of 16"),
        (np.where(MASKS, np.inf, MAPS), MASKS, "expected finite numbers, got 4"),
        (MAPS.astype(str), MASKS, "expected real numbers, got ndarray of dtype <U"),
        (MAPS > 3, MASKS, "expected real numbers, got ndarray of dtype bool"),
        (MAPS + 0j, MASKS, "expected real numbers, got ndarray of dtype complex"),
        (MAPS, MASKS[..., None], r"expected one shape, got \(1, 4, 4\) and \(1, 4, 4, 1\)"),
        (MAPS, MASKS[:, :3], r"expected one shape, got \(1, 4, 4\) and \(1, 3, 4\)"),
        (MAPS[:0], MASKS[:0], r"expected at least one value, got an empty array of shape \(0, 4, 4\)"),
        (MAPS, MASKS * 255, "expected booleans or 0 and 1, got ndarray of dtype int64.* from 0 to 255"),
        (MAPS, np.where(MASKS, np.nan, 0.0), "expected booleans or 0 and 1"),
        (MAPS, MASKS.astype(str), "expected booleans or 0 and 1, got ndarray of dtype <U"),
        (MAPS, MASKS & False, r"expected some 0 \(normal\) and some 1 \(anomalous\), got 0 only"),
        (MAPS, MASKS | True, r"expected some 0 \(normal\) and some 1 \(anomalous\), got 1 only"),
    ],
)
def test_bad_input_is_named(metric: Metric, maps: np.ndarray, masks: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric(maps, masks)


def test_aupro_names_a_wrong_number_of_dimensions_and_a_wrong_limit() -> None:
    with pytest.raises(ValueError, match=r"expected shape \(b, h, w\), got \(4, 4\)"):
        aupro(MAPS[0], MASKS[0])
    for limit in (0.0, -0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"limit: expected .* got (float )?{limit}"):
            aupro(MAPS, MASKS, limit)


def test_aupro_ends_at_a_false_positive_rate_of_three_tenths_unless_told() -> None:
    draw = np.random.default_rng(0)
    masks = np.zeros((3, 12, 12), bool)
    masks[:, 2:6, 3:8] = True
    maps = draw.random(masks.shape) + 0.3 * masks
    assert aupro(maps, masks) == aupro(maps, masks, 0.3) == pytest.approx(literal_aupro(maps, masks, 0.3), abs=1e-9)
    assert aupro(maps, masks) != aupro(maps, masks, 0.45)
