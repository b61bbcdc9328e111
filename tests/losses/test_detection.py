"""The objective of detectors: against torchvision's losses, and against a literal form that tries every matching."""

import math
from itertools import permutations

import pytest
import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from gadkit.losses.detection import (
    Costs,
    centres,
    check_boxes,
    corners,
    focal_loss,
    generalized_iou,
    match,
    set_loss,
)


def some_boxes(count: int, generator: torch.Generator) -> Tensor:
    """Boxes (left, top, right, bottom) inside the unit square."""
    low = 0.6 * torch.rand(count, 2, generator=generator)
    return torch.cat([low, low + 0.05 + 0.35 * torch.rand(count, 2, generator=generator)], 1)


def literal_giou(a: list[float], b: list[float]) -> float:
    """By the paper's algorithm 1, number by number."""
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    wide, high = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    union = sum(areas) - wide * high
    return wide * high / union - (hull - union) / hull


def literal_focal(logit: float, truth: float, alpha: float = 0.25, gamma: float = 2.0) -> float:
    p = 1 / (1 + math.exp(-logit))
    right, weight = (p, alpha) if truth else (1 - p, 1 - alpha)
    return -weight * (1 - right) ** gamma * math.log(right)


def test_corners_and_centres_are_each_others_inverse(generator: torch.Generator) -> None:
    boxes = some_boxes(5, generator)
    torch.testing.assert_close(corners(centres(boxes)), boxes)
    assert centres(torch.tensor([0.0, 0.0, 2.0, 4.0])).tolist() == [1.0, 2.0, 2.0, 4.0]


def test_generalized_iou_is_the_papers_and_torchvisions(generator: torch.Generator) -> None:
    a, b = some_boxes(50, generator), some_boxes(50, generator)
    found = generalized_iou(a, b)
    literal = [literal_giou(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    torch.testing.assert_close(found, torch.tensor(literal), atol=1e-6, rtol=0)
    torch.testing.assert_close(1 - found, generalized_box_iou_loss(a, b), atol=1e-5, rtol=0)
    assert generalized_iou(a, a).tolist() == pytest.approx([1.0] * 50)
    far = generalized_iou(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[9.0, 0, 10, 1]]))
    assert far.item() == pytest.approx(-0.8)


def test_boxes_without_area_have_an_overlap_that_is_finite() -> None:
    point = torch.tensor([[0.5, 0.5, 0.5, 0.5]], requires_grad=True)
    generalized_iou(point, point.detach()).sum().backward()
    assert point.grad.isfinite().all()


def test_focal_loss_is_the_papers_and_torchvisions(generator: torch.Generator) -> None:
    logits = 4 * torch.randn(6, 5, generator=generator)
    truth = (torch.rand(6, 5, generator=generator) < 0.3).float()
    found = focal_loss(logits, truth)
    literal = [literal_focal(x, t) for x, t in zip(logits.flatten().tolist(), truth.flatten().tolist(), strict=True)]
    torch.testing.assert_close(found.flatten(), torch.tensor(literal), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found, sigmoid_focal_loss(logits, truth), atol=1e-6, rtol=1e-5)
    other = focal_loss(logits, truth, 0.4, 1.5)
    torch.testing.assert_close(other, sigmoid_focal_loss(logits, truth, 0.4, 1.5), atol=1e-6, rtol=1e-5)


def literal_cost(logits: Tensor, box: Tensor, label: int, true: Tensor, costs: Costs) -> float:
    logit = logits[label].item()
    name = literal_focal(logit, 1.0) - literal_focal(logit, 0.0)
    distance = sum(abs(x - y) for x, y in zip(box.tolist(), true.tolist(), strict=True))
    overlap = literal_giou(corners(box).tolist(), corners(true).tolist())
    return costs.label * name + costs.distance * distance - costs.overlap * overlap


@pytest.mark.parametrize(("answers", "things"), [(5, 3), (3, 3), (2, 3), (4, 0)])
def test_matching_is_the_cheapest_of_all(answers: int, things: int, generator: torch.Generator) -> None:
    logits, boxes = torch.randn(answers, 4, generator=generator), centres(some_boxes(answers, generator))
    labels, true = torch.randint(4, (things,), generator=generator), centres(some_boxes(things, generator))
    costs = Costs(1.0, 2.0, 3.0)
    rows, columns = match(logits, boxes, labels, true, costs)
    price = [
        [literal_cost(logits[i], boxes[i], labels[j].item(), true[j], costs) for j in range(things)]
        for i in range(answers)
    ]
    if answers >= things:
        ways = [list(zip(way, range(things), strict=True)) for way in permutations(range(answers), things)]
    else:
        ways = [list(zip(range(answers), way, strict=True)) for way in permutations(range(things), answers)]
    best = min(ways, key=lambda way: sum(price[i][j] for i, j in way))
    assert {*zip(rows.tolist(), columns.tolist(), strict=True)} == {*best}


def test_the_loss_of_a_set_is_its_literal_form(generator: torch.Generator) -> None:
    logits = torch.randn(2, 5, 3, generator=generator, requires_grad=True)
    boxes = centres(some_boxes(10, generator)).unflatten(0, (2, 5))
    labels = [torch.tensor([2, 0]), torch.tensor([1])]
    true = [centres(some_boxes(2, generator)), centres(some_boxes(1, generator))]
    costs, total = Costs(), 0.0
    for i in range(2):
        rows, columns = match(logits[i].detach(), boxes[i], labels[i], true[i])
        hit = {(r, labels[i][c].item()) for r, c in zip(rows.tolist(), columns.tolist(), strict=True)}
        for n in range(5):
            for q in range(3):
                total += costs.label * literal_focal(logits[i, n, q].item(), float((n, q) in hit))
        for r, c in zip(rows.tolist(), columns.tolist(), strict=True):
            gaps = (boxes[i, r] - true[i][c]).abs().sum().item()
            total += costs.distance * gaps
            total += costs.overlap * (1 - literal_giou(corners(boxes[i, r]).tolist(), corners(true[i][c]).tolist()))
    found = set_loss(logits, boxes, labels, true)
    assert found.item() == pytest.approx(total / 3, rel=1e-5)
    found.backward()
    assert logits.grad.isfinite().all()


def test_images_without_things_teach_that_nothing_is_there() -> None:
    logits, boxes = torch.zeros(1, 4, 2), torch.full((1, 4, 4), 0.5)
    none = set_loss(logits, boxes, [torch.zeros(0, dtype=torch.long)], [torch.zeros(0, 4)])
    assert none.item() == pytest.approx(2.0 * 8 * literal_focal(0.0, 0.0))


@pytest.mark.usefixtures("untyped")
def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"boxes: expected \(left, .*, got \[3.0, 0.0, 1.0, 2.0\]"):
        check_boxes(torch.tensor([[0.0, 0, 1, 1], [3, 0, 1, 2]]))
    with pytest.raises(ValueError, match=r"b: expected Float.*, got Tensor of dtype float32, shape \(2, 4\)"):
        generalized_iou(torch.zeros(1, 4), torch.zeros(2, 4))
    logits, boxes = torch.zeros(1, 2, 3), torch.full((1, 2, 4), 0.5)
    with pytest.raises(ValueError, match="labels: expected queries from 0 to 2, got int 3"):
        set_loss(logits, boxes, [torch.tensor([3])], [torch.full((1, 4), 0.5)])
    with pytest.raises(ValueError, match="true: expected"):
        set_loss(logits, boxes, [torch.tensor([1])], [torch.tensor([[0.5, 0.5, -0.1, 0.2]])])
    with pytest.raises(ValueError, match="as many labels as boxes"):
        set_loss(logits, boxes, [torch.tensor([1, 1])], [torch.full((1, 4), 0.5)])
