"""Heads and their measures: IoU against scikit-learn, AP50 against its literal form, boxes there and back again."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score
from torch import Tensor
from torchvision.ops import box_iou

from gadkit.evaluation import downstream
from gadkit.evaluation.downstream import (
    Boxes,
    class_ious,
    clip_features,
    fit_boxes,
    fit_segmenter,
    mean_average_precision,
    mean_iou,
    regions,
    segment,
)


@given(seed=st.integers(0, 10_000))
def test_mean_iou_is_scikit_learn_s(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    found, truth = torch.randint(3, (2, 4, 5, 5), generator=draw)
    expected = jaccard_score(truth.flatten(), found.flatten(), average="macro")
    assert mean_iou(found, truth, 3) == pytest.approx(expected)
    assert mean_iou(truth, truth, 3) == 1
    assert mean_iou(found, truth, 5) == pytest.approx(expected), "classes that are not named don't count"


def test_a_class_that_is_missed_scores_0() -> None:
    truth = torch.tensor([[0, 0, 1, 2]])
    ious = class_ious(torch.tensor([[0, 0, 1, 1]]), truth, 4)
    assert ious[:3].tolist() == [1, 0.5, 0]
    assert ious[3].isnan()


@pytest.mark.usefixtures("untyped")
def test_masks_must_agree() -> None:
    with pytest.raises(ValueError, match=r"truth: expected Int\[Tensor, '\*s'\] beside found \(1, 4\), got .*\(1, 5\)"):
        mean_iou(torch.zeros(1, 4).long(), torch.zeros(1, 5).long(), 2)


def test_patches_that_know_their_class_segment_perfectly(generator: torch.Generator) -> None:
    truth = torch.randint(3, (10, 4, 6), generator=generator)
    patches = torch.randn(3, 7, generator=generator)[truth.flatten(1)]  # (10, 24, 7)
    masks = truth.repeat_interleave(8, 1).repeat_interleave(8, 2)  # (10, 32, 48)
    head = fit_segmenter(patches[:5], (4, 6), masks[:5], 3)
    assert torch.equal(segment(head, patches[5:], (4, 6), (4, 6)), truth[5:])
    assert mean_iou(segment(head, patches[5:], (4, 6), (32, 48)), masks[5:], 3) > 0.7


def test_a_segmenter_says_how_much_of_a_patch_a_class_covers() -> None:
    masks = torch.zeros(1, 8, 8, dtype=torch.long)
    masks[0, :, :2] = 1  # half of the left column of 4 x 4 patches, a quarter of it for one more pixel row
    patches = torch.eye(2)[torch.tensor([0, 1, 0, 1])][None]  # left and right look different
    head = fit_segmenter(patches, (2, 2), masks, 2)
    share = head.logits(patches)[0].softmax(-1)[:, 1]
    assert share[0] == pytest.approx(0.5, abs=0.1)
    assert share[1] < 0.2


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


def test_regions_keep_what_is_where(generator: torch.Generator) -> None:
    patches = torch.randn(2, 36, 5, generator=generator)
    found = regions(patches, (6, 6)).unflatten(1, (5, 3, 3))
    torch.testing.assert_close(found[1, :, 2, 0], patches[1].unflatten(0, (6, 6))[4:, :2].mean((0, 1)))
    torch.testing.assert_close(regions(patches, (6, 6), 1), patches.mean(1))


def test_a_clip_backwards_has_its_differences_reversed(generator: torch.Generator) -> None:
    frames = torch.randn(5, 4, 6, generator=generator)
    forward, backward = clip_features(frames), clip_features(frames.flip(1))
    assert forward.shape == (5, 42)
    torch.testing.assert_close(forward[:, :6], backward[:, :6])
    there, back = (x[:, 6:].unflatten(1, (2, 3, 6)).flip(2 if x is backward else ()) for x in (forward, backward))
    torch.testing.assert_close(there[:, 0], -back[:, 0])
    torch.testing.assert_close(there[:, 1], back[:, 1])
    torch.testing.assert_close(there[:, 1], there[:, 0].abs())
    with pytest.raises(ValueError, match=r"at least 2 frames, got shape \(5, 1, 6\)"):
        clip_features(frames[:, :1])
