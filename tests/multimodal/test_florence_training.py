"""What Florence-2 is taught: true in every mirror, the same after a cut, and written to a file that loads."""

import json
import re
from pathlib import Path

import pytest
import torch

from gadkit import weights
from gadkit.factory import scenes
from gadkit.losses.masks import mask_iou
from gadkit.multimodal import florence, location
from gadkit.multimodal.florence_network import FlorenceConfig
from gadkit.multimodal.training import florence2
from gadkit.multimodal.training import florence_lessons as taught
from gadkit.train import Plan
from gadkit.weights import Weights

SIZE = 96


@pytest.fixture(scope="module")
def shown() -> scenes.Scenes:
    return scenes.render(6, 3, SIZE, "seen")


def test_expressions_stay_true_in_mirrors() -> None:
    said = "the leftmost gear", "the red nut left of the leaf", "the coin above the key", "the largest cap"
    assert [taught.mirrored(text, True, False) for text in said] == [
        *("the rightmost gear", "the red nut right of the leaf", "the coin above the key", "the largest cap")
    ]
    assert taught.mirrored("the topmost coin", False, True) == "the bottommost coin"
    assert taught.mirrored("the coin below the key", True, True) == "the coin above the key"
    for text in said:
        assert taught.mirrored(taught.mirrored(text, True, True), True, True) == text


def test_lessons_lie_where_things_are_in_every_mirror(shown: scenes.Scenes) -> None:
    masks = {}
    for i in range(len(shown)):
        for number, axes in enumerate(((), (2,), (1,), (1, 2))):
            masks[4 * i + number] = shown.masks(i).flip(axes)
    assert torch.equal(taught.mirrors(shown.images)[6], shown.images[1].flip(1))
    outlined = 0
    for lesson in taught.of_scenes(shown):
        numbers = [int(number) for number in re.findall(r"<loc_(\d+)>", lesson.answer)]
        if lesson.task == taught.SEGMENT:
            parts = lesson.answer.split("<sep>")
            pieces = [[int(number) for number in re.findall(r"<loc_(\d+)>", part)] for part in parts]
            there = [location.dequantise(torch.tensor(piece), (SIZE, SIZE)).tolist() for piece in pieces]
            overlap = mask_iou(location.fill(there, (SIZE, SIZE)).expand_as(masks[lesson.image]), masks[lesson.image])
            assert overlap.max() > 0.3  # holes are lost, and so are small pieces
            outlined += 1
        elif lesson.task == taught.OBJECTS:
            boxes = location.dequantise(torch.tensor(numbers).reshape(-1, 4), (SIZE, SIZE))
            for left, top, right, bottom in boxes.round().int().tolist():
                inside = masks[lesson.image][:, top:bottom, left:right].flatten(1).sum(1)
                assert (inside >= 0.9 * masks[lesson.image].flatten(1).sum(1)).any()
    assert outlined > 10


def test_absent_words_have_an_empty_answer(shown: scenes.Scenes) -> None:
    asked = [lesson for lesson in taught.of_scenes(shown) if lesson.task == taught.WORDS]
    for lesson in asked:
        there = {taught.noun(thing) for thing in shown.things[lesson.image // 4]}
        assert bool(lesson.answer) == (lesson.asked in there)
    assert len({bool(lesson.answer) for lesson in asked}) == 2


def test_a_part_is_named_by_its_plainest_noun_and_colour(shown: scenes.Scenes) -> None:
    for thing in shown.things[0]:
        words = taught.described(thing).split(" ")
        assert words[0] in ("a", "an")
        assert " ".join(words[1:]) == f"{thing.colour} {taught.noun(thing)}".strip()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    config = FlorenceConfig(image_size=32, width=48, layers=1, context=64, stem="davit")
    monkeypatch.setattr(florence2, "STARTS", {"": config})
    monkeypatch.setattr(florence2, "SHARES", dict.fromkeys(florence2.SHARES, 2))
    monkeypatch.setattr(florence2, "PLAN", Plan(steps=4, lr=1e-3, warmup=1, batch=10, save_every=2))


@pytest.mark.usefixtures("small")
def test_a_training_writes_a_file_that_loads_and_goes_on_after_a_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"start": "", "count": {"seen": 2, "randomised": 1}, "photographs": 3}
    whole = florence2.train(tmp_path / "whole", **few)
    objective = florence2.objective

    def cut(*given):
        loss = objective(*given)

        def until(step: int) -> torch.Tensor:
            if step == 3:
                raise KeyboardInterrupt
            return loss(step)

        return until

    monkeypatch.setattr(florence2, "objective", cut)
    with pytest.raises(KeyboardInterrupt):
        florence2.train(tmp_path / "cut", **few)
    monkeypatch.setattr(florence2, "objective", objective)
    again = florence2.train(tmp_path / "cut", **few)
    one, other = weights.read(whole), weights.read(again)
    assert all(torch.equal(one[name], other[name]) for name in one)
    facts = json.loads(weights.header(again)["facts"])
    assert (facts["steps"], facts["start"], facts["photographs"]) == (4, "", 3)
    source = Weights("gadkit", "florence2", "MIT", None, "", "", "florence2")
    loaded = florence.load(source, torch.device("cpu"), again)
    assert loaded.tasks == florence.TASKS


def test_frozen_eyes_encode_once_and_set_their_own_scale(shown: scenes.Scenes) -> None:
    from gadkit.multimodal.florence_network import build, processor_for
    from gadkit.multimodal.florence_words import PROMPTS, learn_words

    words = learn_words([*PROMPTS])
    config = FlorenceConfig(image_size=64, width=48, layers=1, stem="efficientnet-random")
    model, processor = build(config, words), processor_for(config, words)
    maps = florence2.encode(model, processor, shown.images)
    stem = model.model.vision_tower.convs[0]
    assert maps.shape == (6, 592, 4, 4)
    assert maps.dtype == torch.float16
    standard = (maps.float() - stem.mean) / stem.std
    assert standard.mean((0, 2, 3)).abs().max() < 0.05
    mean = stem.mean.clone()
    florence2.encode(model, processor, shown.images[:2])
    assert torch.equal(stem.mean, mean)
