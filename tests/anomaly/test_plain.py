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
