"""The contestants of SAM's benchmark give the same masks, or their times would say nothing."""

import itertools

import pytest
import torch

from benchmarks.sam import rows
from gadkit.objects.architecture import SamConfig, build_sam
from gadkit.objects.promptable import SAM


def test_package_and_ours_agree() -> None:
    ticks = itertools.count()  # a clock that ticks once a call
    torch.manual_seed(0)
    config = SamConfig(size=32, width=16, depth=1, heads=2, dim=16, window=0, everywhere=(0,))
    found = {
        what: value for what, value, _ in rows(lambda: SAM(build_sam(config)), 48, 4, 1, lambda: float(next(ticks)))
    }
    assert found["64 clicks: largest change of a logit"] < 1e-5
    assert found["automatic: share of masks that differ"] == 0
    assert found["automatic, gadkit against segment_anything"] == pytest.approx(1.0)
