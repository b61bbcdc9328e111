"""The shipped detectors of words still give the figures on their cards."""

import json
from pathlib import Path

import pytest

from cards import open_vocabulary as card
from gadkit import weights, zoo

RESULTS = Path(__file__).parents[2] / "book" / "results"


@pytest.mark.parametrize("name", [name for name in card.LOADERS if name in zoo.list(preset="tiny")])
def test_a_card_is_what_the_files_say(name: str) -> None:
    path = RESULTS / f"{name}.json"
    written = (weights.ASSETS / f"{name}.md").read_text(encoding="utf-8")
    assert card.text(name, path) == written
    sample = json.loads(path.read_text(encoding="utf-8"))["sample"]
    assert f"AP50 {sample:.3f} on the words of training" in written
    assert card.spot_check(name) == pytest.approx(sample, abs=0.03)  # other processors round otherwise
    assert (weights.ASSETS / f"{name}.safetensors").stat().st_size < 5e6


def test_boxes_alone_count_whatever_their_word() -> None:
    """Of a detector that finds every box and calls all of them by one name."""
    shown = card.rendered(6, "development", "development")
    cases = iter(shown.things)

    def find(images, asked):
        found = []
        for things in cases:
            boxes, labels = card.truth(things, asked)
            found.append(card.Boxes(boxes, card.torch.ones(len(boxes)), card.torch.zeros_like(labels)))
        return found

    held = card.measure(find, "development", 6)
    assert held.pop("boxes alone") == pytest.approx(1.0)
    assert all(area == 0 for name, area in held.items() if name != "connector")
