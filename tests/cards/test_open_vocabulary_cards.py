"""The shipped detectors of words still give the figures on their cards."""

import json
from pathlib import Path

import pytest
import torch

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


def test_one_shot_detection_counts_every_other_scene_of_a_category() -> None:
    """Of a detector that answers with one true thing of each scene, and of one that finds nothing."""
    shown = card.rendered(8, "development", "development")

    def first(images, query, box):
        assert any(torch.equal(query, image) for image in shown.images)
        places = [next(i for i, own in enumerate(shown.images) if torch.equal(own, image)) for image in images]
        boxes = [torch.tensor(shown.things[i][0].box)[None] for i in places]
        return [card.Boxes(one, torch.ones(1), torch.zeros(1, dtype=torch.long)) for one in boxes]

    found = card.like(first, 8, 1)
    for name, row in found.items():
        scene, thing = card.queries(shown, name)[0]
        assert thing.visible == max(t.visible for things in shown.things for t in things if t.category == name)
        rest = [things for i, things in enumerate(shown.things) if i != scene]
        having = [things for things in rest if any(t.category == name for t in things)]
        hits = [things[0].category == name for things in having]
        share = [sum(t.category == name for t in things) / len(things) for things in having]
        assert row["asked"] == len(having)
        assert row["hits"] == pytest.approx(sum(hits) / len(hits), abs=0.2), "another thing may lie in the same place"
        assert row["chance"] == pytest.approx(sum(share) / len(share), abs=1e-4)
    none = card.Boxes(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    assert not card.hit(none, torch.tensor([[0.0, 0.0, 4.0, 4.0]]))
    lines = card.like_table({"trained": found}).splitlines()
    assert len(lines) == 3 + len(found)
    assert lines[-1].split("|")[1].strip() == "all words"
