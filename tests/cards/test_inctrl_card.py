"""The shipped heads still give the figures on their card."""

import re
from pathlib import Path

import pytest

from cards import inctrl as card

RESULTS = Path(__file__).parents[2] / "book" / "results" / "inctrl.json"


def test_the_card_is_what_the_files_say() -> None:
    written = card.CARD.read_text(encoding="utf-8")
    sample = float(re.search(r"image AUROC (0\.\d+) with 4", written)[1])
    assert card.text(sample, RESULTS) == written
    assert card.spot_check() == pytest.approx(sample, abs=0.02)  # other processors round otherwise
    assert sample > 0.6
