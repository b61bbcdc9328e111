"""The shipped SAM still gives the figures on its card."""

import re
from pathlib import Path

import pytest
import torch

from cards import sam as card
from gadkit.objects.architecture import SamConfig, build_sam
from gadkit.objects.promptable import SAM

RESULTS = Path(__file__).parents[2] / "book" / "results" / "sam.json"


def test_the_card_is_what_the_files_say() -> None:
    written = card.CARD.read_text(encoding="utf-8")
    sample = float(re.search(r"mean IoU (0\.\d+) with one click on twelve", written)[1])
    assert card.text(sample, RESULTS) == written
    assert card.spot_check() == pytest.approx(sample, abs=0.02)  # other processors round otherwise


def test_rows_are_measured_on_parts_and_defects() -> None:
    torch.manual_seed(0)
    config = SamConfig(size=32, width=16, depth=1, heads=2, dim=16, window=0, everywhere=(0,))
    images, masks = card.parts("development", 1)
    row = card.measure(SAM(build_sam(config)), images, masks)
    assert len(row["clicks"]) == 9
    assert row["best of three"] >= row["clicks"][0]
    filled = card.sceptics(images, masks)["filled box"]
    area = (card.tight(masks[0])[:, 2:] - card.tight(masks[0])[:, :2]).prod(1)
    assert filled == pytest.approx(float((masks[0].sum((1, 2)) / area).mean()), abs=1e-3), "a tight box holds its mask"
