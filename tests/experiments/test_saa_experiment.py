"""The experiment about SAA measures what the detectors do."""

import sys
from pathlib import Path

import pytest
import torch

from experiments import saa
from gadkit import factory, zoo
from gadkit.anomaly.benchmark import measures
from gadkit.anomaly.detectors import build
from gadkit.anomaly.detectors.saa import KINDS
from gadkit.objects.protocols import Masks, Promptable

sys.path.insert(0, str(Path(__file__).parents[1] / "anomaly"))
import tiny_objects

pytestmark = pytest.mark.filterwarnings("ignore::gadkit.anomaly.detectors.saa.NothingFound")


def test_a_filled_box_is_a_mask() -> None:
    filled = saa.Filled(32, torch.device("cpu")).set_image(torch.zeros(3, 4, 6, dtype=torch.uint8))
    assert isinstance(filled, Promptable)
    masks = filled.predict(boxes=torch.tensor([[1.0, 0.0, 3.0, 2.0], [0.6, 0.0, 1.4, 4.0]])).masks
    assert masks.shape == (2, 1, 4, 6)
    assert masks[0, 0].nonzero().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    assert not masks[1].any(), "no pixel's centre lies in it"


def test_a_box_is_outlined_once() -> None:
    asked = []

    class Counting(saa.Filled):
        def predict(self, **given: torch.Tensor) -> Masks:
            asked.append(len(given["boxes"]))
            return super().predict(**given)

    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    boxes = torch.tensor([[0.0, 0.0, 2.0, 3.0], [1.0, 1.0, 5.0, 6.0], [2.0, 0.0, 8.0, 8.0]])
    own, remembering = saa.Filled(8, torch.device("cpu")).set_image(image), saa.Remembering(Counting(8, boxes.device))
    for some in (boxes[:2], boxes[[2, 0]], boxes):
        found, right = (one.set_image(image).predict(boxes=some, several=False) for one in (remembering, own))
        assert torch.equal(found.masks, right.masks)
    assert asked == [2, 1]
    remembering.set_image(image + 1).predict(boxes=boxes)
    assert asked == [2, 1, 3], "another image has masks of its own"


def test_words_for_every_kind_of_defect() -> None:
    kinds = {defect for category in factory.CATEGORIES.values() for defect in category.defects}
    assert kinds == {*saa.WORDS}
    assert saa.knowledge("nut").specific[:2] == ("scratch", "crack")
    assert list(saa.STEPS.values()) == [KINDS[:i] for i in range(5)]


def test_a_cell_is_what_the_detectors_say() -> None:
    data = factory.test_set("mesh", 0, 0, "fixture", 3, 1, 2, 48)
    networks = {"finder": tiny_objects.finder(), "segmenter": tiny_objects.segmenter()}
    eyes = zoo.load("random", device="cpu")
    detector = build("saa+", eyes, data.object_name, **networks, prompts=saa.knowledge("mesh"))
    found = dict(saa.cell(detector, data, shots=2))
    assert [*found] == [*saa.STEPS, "SAA+, boxes for masks", "saliency alone", "colours of 2 good parts"]
    for label, name in (("SAA", "saa"), ("SAA+", "saa+")):
        own = build(name, eyes, data.object_name, **networks, prompts=saa.knowledge("mesh")).fit().score(data.images)
        assert found[label]["pixel_auroc"] == round(measures(own, data)["pixel_auroc"], 4)
    assert 0 < found["SAA+"]["pixel_f1"] <= 1


def test_only_categories_of_the_split_can_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        saa.main(["--categories", "nut", "--out", str(tmp_path / "saa.json")])
    assert "category: expected one of" in capsys.readouterr().err
    assert not (tmp_path / "saa.json").exists()
