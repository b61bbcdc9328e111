"""Boxes: AP50 against its literal form, the light detector against scikit-learn, there and back again."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import Tensor
from torchvision.ops import box_iou

from gadkit.evaluation import downstream
from gadkit.evaluation.downstream import Boxes, fit_boxes, mean_average_precision
from gadkit.evaluation.probes import fit_linear


def random_boxes(draw: torch.Generator, images: int, most: int, scored: bool) -> list[Boxes]:
    out = []
    for _ in range(images):
        n = int(torch.randint(0, most + 1, (1,), generator=draw))
        low = torch.rand(n, 2, generator=draw) * 20
        boxes = torch.cat([low, low + 5 + torch.rand(n, 2, generator=draw) * 25], 1)
        scores = (torch.rand(n, generator=draw) * 20).round() / 20 if scored else None  # some tie
        out.append(Boxes(boxes, torch.randint(3, (n,), generator=draw), scores))
    return out


def plain_precision(found: list[Boxes], truth: list[Boxes], iou: float) -> float:
    """Average precision as it is written down: greedy matching, a falling envelope, 101 recalls."""
    each = []
    for kind in sorted({int(c) for t in truth for c in t.labels}):
        total, hits = 0, []
        for f, t in zip(found, truth, strict=True):
            true, taken = t.boxes[t.labels == kind], set()
            total += len(true)
            own = f.labels == kind
            for i in f.scores[own].argsort(descending=True, stable=True).tolist():
                overlaps = box_iou(f.boxes[own][i : i + 1], true)[0].tolist()
                best = max(((o, j) for j, o in enumerate(overlaps) if j not in taken), default=(-1.0, -1))
                if best[0] >= iou:
                    taken.add(best[1])
                hits.append((float(f.scores[own][i]), best[0] >= iou))
        hits.sort(key=lambda hit: -hit[0])  # stable: of equal scores, the earlier image's first
        right = np.cumsum([ok for _, ok in hits])
        precision, recall = right / np.arange(1, len(hits) + 1), right / total
        read = [max(precision[recall >= level], default=0.0) for level in np.linspace(0, 1, 101)]
        each.append(np.mean(read))
    return float(np.mean(each))


@settings(max_examples=40)
@given(seed=st.integers(0, 100_000), iou=st.sampled_from([0.3, 0.5, 0.75]))
def test_average_precision_is_the_one_that_is_written_down(seed: int, iou: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    truth, found = random_boxes(draw, 6, 4, False), random_boxes(draw, 6, 8, True)
    for own, true in zip(found, truth, strict=True):  # some boxes come close
        n = min(len(own.boxes), len(true.boxes)) - 1
        if n > 0:
            own.boxes[:n] = true.boxes[:n] + torch.randn(n, 4, generator=draw)
            own.labels[:n] = true.labels[:n]
    if not any(len(t.boxes) for t in truth) or not any(len(f.boxes) for f in found):
        return
    assert mean_average_precision(found, truth, 3, iou) == pytest.approx(plain_precision(found, truth, iou), abs=1e-6)


def test_average_precision_at_its_ends() -> None:
    truth = [Boxes(torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40]]), torch.tensor([0, 1]))]
    none = Boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), torch.zeros(0))
    right = Boxes(truth[0].boxes, truth[0].labels, torch.tensor([0.2, 0.9]))
    swapped = Boxes(truth[0].boxes, truth[0].labels.flip(0), torch.tensor([0.2, 0.9]))
    assert mean_average_precision([right], truth, 5) == pytest.approx(1)
    assert mean_average_precision([swapped], truth, 5) == 0
    assert mean_average_precision([none], truth, 5) == 0
    with pytest.raises(ValueError, match="got 2 and 1"):
        mean_average_precision([none, none], truth, 5)
    with pytest.raises(ValueError, match="at least one true box"):
        mean_average_precision([none], [Boxes(none.boxes, none.labels)], 5)


def test_boxes_there_and_back() -> None:
    truth = Boxes(torch.tensor([[3.0, 5, 29, 31], [40, 34, 62, 63]]), torch.tensor([1, 0]))
    kind, reach = downstream._targets(truth, (8, 8), (64, 64), 2)
    boxes = downstream._boxes(reach[None], (8, 8), (64, 64))[0]
    assert set(kind.tolist()) == {0, 1, 2}
    for number, label in enumerate(truth.labels.tolist()):
        torch.testing.assert_close(boxes[kind == label], truth.boxes[number].expand(int((kind == label).sum()), -1))


def described(seed: int, count: int) -> tuple[Tensor, list[Boxes]]:
    """Patches that say in so many words what a detector wants to know, and the boxes they speak of."""
    draw = torch.Generator().manual_seed(seed)
    truth, patches = [], []
    for _ in range(count):
        low = torch.randint(0, 12, (2, 2), generator=draw).float() + torch.tensor([[0.0, 0.0], [32.0, 32.0]])
        boxes = torch.cat([low, low + 14 + 6 * torch.rand(2, 2, generator=draw)], 1)
        truth.append(Boxes(boxes, torch.randperm(2, generator=draw)))
        kind, reach = downstream._targets(truth[-1], (8, 8), (64, 64), 2)
        told = torch.cat([torch.eye(3)[kind], torch.where(kind[:, None] < 2, reach, 0.0)], 1)
        patches.append(told)
    return torch.stack(patches), truth


def test_a_light_head_finds_what_the_patches_tell() -> None:
    known, truth = described(0, 20)
    head = fit_boxes(known, (8, 8), truth, (64, 64), 2)
    seen, hidden = described(1, 10)
    found = head.find(seen)
    assert mean_average_precision(found, hidden, 2) > 0.99
    assert mean_average_precision(found, hidden, 2, iou=0.8) > 0.8
    assert all((f.scores.diff() <= 0).all() for f in found)
    blind = head.find(torch.randn(seen.shape, generator=torch.Generator().manual_seed(0)))
    assert mean_average_precision(blind, hidden, 2) < 0.3


def test_boxes_to_learn_from_must_be_there() -> None:
    none, some = Boxes(torch.zeros(0, 4), torch.zeros(0).long()), Boxes(torch.ones(1, 4), torch.zeros(1).long())
    for truth in ([none, none], [some], [some] * 3):
        with pytest.raises(ValueError, match=f"boxes of 2 images, some with any, got {len(truth)} images"):
            fit_boxes(torch.zeros(2, 4, 1), (2, 2), truth, (4, 4), 1)


def test_patch_centres_by_hand() -> None:
    centres, step = downstream._centres((2, 3), (20, 60))
    assert step.tolist() == [20, 10]
    assert centres.tolist() == [[10, 5], [30, 5], [50, 5], [10, 15], [30, 15], [50, 15]]


def test_a_patch_belongs_to_the_box_whose_central_half_it_is_in() -> None:
    around = Boxes(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([1]))  # the central half is 1 to 3
    kind, reach = downstream._targets(around, (4, 4), (4, 4), 2)
    assert kind.view(4, 4).tolist() == [[2, 2, 2, 2], [2, 1, 1, 2], [2, 1, 1, 2], [2, 2, 2, 2]]
    torch.testing.assert_close(reach[5].exp(), torch.tensor([1.5, 1.5, 2.5, 2.5]))
    border = Boxes(torch.tensor([[1.0, 1, 3, 3]]), torch.tensor([0]))  # 1.5 to 2.5: four centres lie on its corners
    assert (downstream._targets(border, (4, 4), (4, 4), 2)[0] == 0).sum() == 4
    corner = Boxes(torch.tensor([[0.0, 0, 0.2, 0.2]]), torch.tensor([0]))  # holds no centre: the nearest patch is its
    kind, reach = downstream._targets(corner, (4, 4), (4, 4), 2)
    assert kind.tolist() == [0] + [2] * 15
    torch.testing.assert_close(reach[0].exp(), torch.tensor([0.5, 0.5, 0.1, 0.1]))  # no side is nearer than a tenth
    kind, reach = downstream._targets(Boxes(torch.zeros(0, 4), torch.zeros(0).long()), (2, 2), (4, 4), 2)
    assert (kind.tolist(), reach.tolist()) == ([2] * 4, [[0.0] * 4] * 4)


def test_boxes_there_and_back_where_patches_are_not_square() -> None:
    truth = Boxes(torch.tensor([[5.0, 2, 39, 18]]), torch.tensor([0]))
    kind, reach = downstream._targets(truth, (4, 3), (20, 60), 1)
    boxes = downstream._boxes(reach[None], (4, 3), (20, 60))[0][kind == 0]
    torch.testing.assert_close(boxes, truth.boxes.expand(len(boxes), -1))
    huge = downstream._boxes(torch.full((1, 12, 4), 4.0), (4, 3), (20, 60))[0]
    assert huge.tolist() == [[0, 0, 60, 20]] * 12, "a box ends where the image does"


def test_the_detector_s_layers_are_a_logistic_and_a_ridge_regression() -> None:
    known, truth = described(0, 4)
    truth[3] = Boxes(torch.zeros(0, 4), torch.zeros(0).long())
    head = fit_boxes(known, (8, 8), truth, (64, 64), 2)
    kind, reach = map(torch.cat, zip(*(downstream._targets(t, (8, 8), (64, 64), 2) for t in truth), strict=True))
    x = known.flatten(0, 1)
    expected = fit_linear(x, kind, 3, strength=1.0)
    torch.testing.assert_close(head.kinds.weight, expected.weight)
    z = ((x - expected.centre) / expected.spread)[kind < 2].double().numpy()
    ridge = Ridge(alpha=1.0).fit(z, reach[kind < 2].double().numpy())
    np.testing.assert_allclose(head.reach[:-1].numpy(), ridge.coef_.T, atol=1e-4)
    np.testing.assert_allclose(head.reach[-1].numpy(), ridge.intercept_, atol=1e-4)


def test_a_side_is_from_e_to_the_minus_5_to_e_to_the_5_patches_away(plain_head: Callable) -> None:
    kinds = plain_head([[1.0], [-1.0]], [0.0, 0.0])
    reach = torch.tensor([[0.0] * 4, [9.0, 9.0, -9.0, 9.0]])
    patches = torch.zeros(1, 400, 1)
    patches[0, 200] = 9
    (found,) = downstream.BoxHead(kinds, reach, (1, 400), (400, 400)).find(patches, least=0.6)
    torch.testing.assert_close(found.boxes, torch.tensor([[200.5 - np.e**5, 0, 200.5 + np.e**-5, 400]]).float())
    assert found.labels.tolist() == [0]


def test_the_faintest_box_has_the_least_score(plain_head: Callable) -> None:
    kinds = plain_head([[0.0], [0.0]], [0.0, 0.0])  # one class and nothing, as likely
    head = downstream.BoxHead(kinds, torch.zeros(2, 4), (1, 1), (8, 8))
    assert [len(head.find(torch.zeros(1, 1, 1), least)[0].boxes) for least in (0.5, 0.51)] == [1, 0]


def test_a_box_that_overlaps_by_more_than_half_with_a_better_one_of_its_class_is_dropped() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 5], [0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]])
    share = torch.tensor([[0.3, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 0.7]])
    found = downstream._suppress(boxes, share, 0.1)
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.3])  # 0.8 overlaps by 0.9; 0.3 by exactly a half
    assert found.labels.tolist() == [0, 1, 0]
    assert torch.equal(found.boxes, boxes[[1, 3, 0]])


def test_what_is_compared_has_scores_and_sense() -> None:
    box = Boxes(torch.tensor([[0.0, 0, 0.5, 0.5]]), torch.tensor([0]))
    scored = Boxes(box.boxes, box.labels, torch.tensor([0.5]))
    assert mean_average_precision([scored], [box], 1) == pytest.approx(1), "a box smaller than a pixel counts"
    assert mean_average_precision([scored], [box], 1, iou=1.0) == pytest.approx(1)
    with pytest.raises(ValueError, match="boxes with scores, got some without"):
        mean_average_precision([box], [box], 1)
    for iou in (0.0, 1.1):
        with pytest.raises(ValueError, match="iou: expected a share"):
            mean_average_precision([scored], [box], 1, iou)
    with pytest.raises(ValueError, match="classes: expected a whole number from 1"):
        mean_average_precision([scored], [box], 0)
