"""Queries become segments as published, and PQ, IoU and AP give what a hand finds."""

import pytest
import torch

from gadkit.evaluation import segments
from gadkit.factory import scenes
from gadkit.objects.otsu import Otsu
from gadkit.objects.protocols import Segments, Universal
from gadkit.objects.segments import TASKS, read

THINGS = (False, True)


def queries(*rows: tuple[float, float, float]) -> torch.Tensor:
    """Logits of class chances."""
    return torch.tensor(rows).clamp(min=1e-9).log()


def boxes(*spans: tuple[int, int], side: int = 8) -> torch.Tensor:
    """Logits of masks that cover columns."""
    masks = torch.full((len(spans), side, side), -9.0)
    for n, (low, high) in enumerate(spans):
        masks[n, :, low:high] = 9.0
    return masks


@pytest.fixture(scope="module")
def some() -> scenes.Scenes:
    return scenes.render(3, 7, 64, "development")


def test_every_pixel_has_the_class_with_most_votes() -> None:
    classes, masks = queries((0.9, 0.1, 0), (0.2, 0.8, 0), (0.1, 0.7, 0.2)), boxes((0, 8), (5, 7), (6, 8))
    found = read(classes, masks, THINGS, "semantic")
    votes = torch.einsum("qk,qhw->khw", classes.softmax(1)[:, :2], masks.sigmoid())  # the paper's equation, literally
    assert found.labels.tolist() == [0, 1]
    assert torch.equal(found.masks[1], votes.argmax(0) == 1)
    assert found.masks[1][0].tolist() == [False] * 6 + [
        True,
        False,
    ]  # both others against the first: column 6


def test_instances_are_things_that_may_overlap() -> None:
    classes = queries((0.9, 0.1, 0), (0.2, 0.8, 0), (0.05, 0.9, 0.05), (0.1, 0.2, 0.7))
    found = read(classes, boxes((0, 8), (2, 6), (4, 8), (0, 2)), THINGS, "instance")
    assert found.labels.tolist() == [1, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8], abs=1e-3)  # the surest first; the table is no thing
    assert (found.masks[0] & found.masks[1]).any()
    assert not len(read(classes, boxes((0, 8), (2, 6), (4, 8), (0, 2)), THINGS, "instance", 0.95).labels)


def test_panoptic_segments_do_not_overlap_and_stuff_is_one() -> None:
    classes = queries((0.9, 0.1, 0), (0.8, 0.1, 0.1), (0.1, 0.9, 0), (0.1, 0.6, 0.3))
    found = read(classes, boxes((0, 3), (3, 5), (5, 8), (4, 8)), THINGS, "panoptic")
    assert found.labels.tolist() == [0, 1]  # two tables are one; the last lost three of its four columns
    assert found.masks.sum(0).max() == 1
    assert found.masks[0][0].tolist() == [True] * 5 + [False] * 3
    assert found.scores.tolist() == pytest.approx([0.9, 0.9], abs=1e-6)
    nothing = read(queries((0, 0, 1)), boxes((0, 8)), THINGS, "panoptic")
    assert nothing.masks.shape == (0, 8, 8)


def test_another_task_is_refused() -> None:
    with pytest.raises(ValueError, match="task: expected one of semantic, instance, panoptic, got 'colour'"):
        read(queries((1, 0, 0)), boxes((0, 8)), THINGS, "colour")


def test_the_truth_is_perfect(some: scenes.Scenes) -> None:
    truths = [segments.truth(some, i) for i in range(3)]
    assert segments.quality(truths, some) == dict.fromkeys(("PQ", "SQ", "RQ", "PQ of parts", "PQ of the table"), 1.0)
    assert segments.mean_iou(truths, some) == 1
    assert segments.mask_precision(truths, some) == {"AP": 1.0, "AP50": 1.0}


def test_a_missed_part_costs_what_the_paper_says(some: scenes.Scenes) -> None:
    """PQ of parts with every first part missed: matches over matches and half of the missed, at IoU 1.

    torchmetrics excuses missed parts where the answer has a class that it does not know; here they count.
    """
    parts = [segments.truth(some, i) for i in range(3)]
    fewer = [Segments(s.masks[[0, *range(2, len(s.labels))]], s.labels[1:].clone(), s.scores[1:]) for s in parts]
    for s in fewer:
        s.labels[0] = segments.TABLE
    kept = sum(len(s.labels) - 1 for s in fewer)
    found = segments.quality(fewer, some)
    assert found["PQ of parts"] == pytest.approx(kept / (kept + 3 / 2))
    assert found["PQ of the table"] == 1


def test_an_answer_a_scene_is_asked_for(some: scenes.Scenes) -> None:
    for call in (segments.quality, segments.mean_iou, segments.mask_precision):
        with pytest.raises(ValueError, match="expected an answer for each of 3 scenes, got 0"):
            call([], some)


def test_otsu_keeps_the_contract(some: scenes.Scenes) -> None:
    otsu = Otsu()
    assert isinstance(otsu, Universal)
    image = torch.full((1, 3, 32, 32), 40, dtype=torch.uint8)
    image[:, :, 4:12, 4:12] = image[:, :, 20:28, 18:30] = 200
    found = {task: otsu.segment(image, task)[0] for task in TASKS}
    assert [len(found[task].labels) for task in TASKS] == [2, 2, 3]
    assert found["instance"].masks.sum((1, 2)).tolist() == [64, 96]
    assert found["semantic"].masks[1].sum() == 160
    dark = otsu.segment(255 - image, "instance")[0]
    assert torch.equal(dark.masks, found["instance"].masks)
    assert not len(otsu.segment(torch.full((1, 3, 32, 32), 7, dtype=torch.uint8), "instance")[0].labels)
    assert set(segments.measure(otsu, some)) >= {"PQ", "mIoU", "AP50"}


def test_clicks_fall_on_the_larger_error(some: scenes.Scenes) -> None:
    asked = []

    def predict(scene: int, part: int, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        asked.append((scene, part, points, labels))
        return torch.zeros(64, 64, dtype=torch.bool) if len(labels) == 1 else some.masks(scene)[part]

    assert segments.interactive(predict, some, clicks=3) == pytest.approx([0, 1, 1])
    for scene, part, points, labels in asked:
        x, y = (points - 0.5).long().T
        assert some.masks(scene)[part][y, x].all()  # everything was missed, so a second click lies on the part, too
        assert labels.all()
        assert len(points) <= 2  # where there is no error there is no further click
    with pytest.raises(ValueError, match="at least one pixel"):
        segments.click(torch.zeros(4, 4, dtype=torch.bool), torch.Generator())


def test_a_stroke_lies_on_its_mask_from_end_to_end() -> None:
    mask = torch.zeros(8, 12, dtype=torch.bool)
    mask[2, 1:5] = mask[2, 9:11] = True  # two pieces of a row
    for seed in range(8):
        x, y = segments.stroke(mask, torch.Generator().manual_seed(seed), 23).unbind(1)
        assert (y == 2.5).all()
        assert mask[2, x.long()].all()
        assert len(x) >= 2
    assert len(segments.stroke(torch.ones(4, 4, dtype=torch.bool), torch.Generator().manual_seed(0), 5)) == 5
    for other, points, message in ((mask & False, 5, "mask: expected at least one pixel"), (mask, 1, "points")):
        with pytest.raises(ValueError, match=message):
            segments.stroke(other, torch.Generator(), points)
