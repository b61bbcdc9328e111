"""The contestants of OWL-ViT's benchmark give the same answer, or their times would say nothing."""

import itertools

import pytest
import torch

from benchmarks.open_vocabulary import rows
from gadkit.objects.owl_vit import OwlConfig, OwlViT, build, processor_for

SMALL = OwlConfig(image_size=32, patch_size=8, width=32, layers=1, text_width=32, text_layers=1, stem="patches")


def test_kept_and_read_again_agree() -> None:
    def make() -> OwlViT:
        torch.manual_seed(0)
        return OwlViT(build(SMALL), processor_for(SMALL))

    ticks = itertools.count()
    found = {what: value for what, value, _ in rows(make, 1, lambda: float(next(ticks)))}
    assert found["texts kept against read again"] == pytest.approx(1.0)  # by a clock that ticks once a call
    assert found["largest change of a score"] < 1e-5
