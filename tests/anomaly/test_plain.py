"""The plain AUPRO is an approximation of the exact one: the more thresholds, the nearer."""

import numpy as np
import pytest

from gadkit.anomaly.metrics import aupro
from gadkit.anomaly.plain import plain_aupro, random_maps


@pytest.mark.parametrize("limit", [0.05, 0.3])
def test_many_thresholds_give_the_exact_value(limit: float) -> None:
    maps, masks = random_maps(6, 48)
    exact = aupro(maps, masks, limit)
    errors = [abs(plain_aupro(maps, masks, limit, thresholds) - exact) for thresholds in (20, 200, 2000)]
    assert errors[2] < 2e-3
    assert errors[2] < errors[0]


def test_maps_are_higher_on_every_second_image_s_defects() -> None:
    maps, masks = random_maps(6, 48)
    assert masks[::2].any(axis=(1, 2)).all()
    assert not masks[1::2].any()
    assert maps[masks].mean() > maps[~masks].mean()
    assert np.array_equal(random_maps(6, 48)[0], maps)


def test_the_sample_is_the_same_for_ever() -> None:
    """Noise smoothed over 8 pixels, and a tenth more on round defects; timings are compared on it."""
    maps, masks = random_maps(6, 48)
    assert (maps.shape, maps.dtype, masks.dtype) == ((6, 48, 48), np.float32, bool)
    assert masks.sum((1, 2)).tolist() == [109, 0, 22, 0, 78, 0]
    assert maps[0, 0, :3] == pytest.approx([0.041000, 0.039554, 0.036728], abs=2e-6)
    assert maps.std() == pytest.approx(0.048343, abs=2e-6)
    maps, masks = random_maps(4, 100, 3)
    assert masks.sum((1, 2)).tolist() == [286, 0, 145, 0]
    assert maps[0, 0, 0] == pytest.approx(-0.018217, abs=2e-6)
    for wrong in ((0, 48), (6, 0), (6, 48, -1)):
        with pytest.raises(ValueError, match="expected a whole number"):
            random_maps(*wrong)


def test_the_plain_curve_by_hand() -> None:
    maps, masks = np.array([[[0.0, 1.0, 2.0, 3.0]]]), np.array([[[False, True, False, True]]])  # one image, two regions
    # thresholds 3, 1.5 and 0: rates 0, 1/2 and 1, overlaps 1/2, 1/2 and 1; and (0, 0) before
    assert plain_aupro(maps, masks, 1.0, 3) == pytest.approx(0.5 * 0.5 + 0.5 * 0.75)
    assert plain_aupro(maps, masks, 0.75, 3) == pytest.approx((0.5 * 0.5 + 0.25 * 0.625) / 0.75)
    assert plain_aupro(maps, masks, 0.5, 3) == pytest.approx(0.5)
    assert plain_aupro(maps, masks, 1.0, 2) == pytest.approx(0.75)


def test_what_has_no_plain_curve_is_named() -> None:
    maps, masks = random_maps(2, 16)
    for bad in ((np.where(masks, np.nan, maps), masks), (maps, masks & False), (maps, masks | True)):
        with pytest.raises(ValueError, match="expected finite numbers, some on defects and some not"):
            plain_aupro(*bad)
    with pytest.raises(ValueError, match="thresholds: expected a whole number from 2, got int 1"):
        plain_aupro(maps, masks, 0.3, 1)
    for limit in (0.0, 1.01):
        with pytest.raises(ValueError, match="limit: expected a share"):
            plain_aupro(maps, masks, limit)
