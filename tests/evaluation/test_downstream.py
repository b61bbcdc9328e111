"""Heads and their measures: IoU against scikit-learn, pixels between patches, clips by hand."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from gadkit.evaluation.downstream import (
    Boxes,
    class_ious,
    clip_features,
    fit_boxes,
    fit_segmenter,
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


def test_logits_are_bilinear_between_the_centres_of_patches(plain_head: Callable) -> None:
    head = plain_head([[1.0], [0.0]], [0.0, 0.4])  # the first class where the feature is above 0.4
    patches = torch.tensor([[[-1.0], [1.0]]])  # -1, -0.5, 0.5, 1 on four pixels
    assert segment(head, patches, (1, 2), (1, 4)).tolist() == [[[1, 1, 0, 0]]]
    assert segment(head, patches, (2, 1), (4, 1)).tolist() == [[[1], [1], [0], [0]]]


@pytest.mark.parametrize("grid", [(2, 3), (-2, -2), (0, 4), (4, 0)])
def test_a_grid_that_the_patches_do_not_fill_is_named(grid: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"a grid of \({grid[0]}, {grid[1]}\), got \(1, 4, 1\)"):
        regions(torch.zeros(1, 4, 1), grid)
    with pytest.raises(ValueError, match="some images of a grid"):
        regions(torch.zeros(0, 4, 1), (2, 2))
    assert regions(torch.zeros(1, 4, 1), (1, 4), 1).shape == (1, 1)


@pytest.mark.parametrize(("size", "what"), [((0, 4), "height"), ((4, 0), "width")])
def test_a_picture_without_a_pixel_is_named(plain_head: Callable, size: tuple[int, int], what: str) -> None:
    with pytest.raises(ValueError, match=f"{what}: expected a whole number from 1, got int 0"):
        segment(plain_head([[1.0]], [0.0]), torch.zeros(1, 4, 1), (2, 2), size)


@pytest.mark.parametrize(("worst", "ends"), [(-1, "-1 to 1"), (3, "1 to 3")])
def test_numbers_that_are_no_classes_are_named(worst: int, ends: str) -> None:
    right, wrong = torch.ones(1, 2, 2, dtype=torch.long), torch.tensor([[[1, 1], [worst, 1]]])
    with pytest.raises(ValueError, match=f"found: expected classes from 0 to 2, got {ends}"):
        class_ious(wrong, right, 3)
    with pytest.raises(ValueError, match=f"truth: expected classes from 0 to 2, got {ends}"):
        class_ious(right, wrong, 3)
    with pytest.raises(ValueError, match=f"masks: expected classes from 0 to 2, got {ends}"):
        fit_segmenter(torch.zeros(1, 4, 1), (2, 2), wrong, 3)
    with pytest.raises(ValueError, match=f"truth: expected classes from 0 to 2, got {ends}"):
        fit_boxes(torch.zeros(1, 4, 1), (2, 2), [Boxes(torch.ones(4, 4), wrong.flatten())], (4, 4), 3)
    with pytest.raises(ValueError, match="at least one pixel"):
        class_ious(right[:0], right[:0], 3)


def test_a_clip_of_two_frames_by_hand() -> None:
    found = clip_features(torch.tensor([[[1.0, 2.0], [4.0, 0.0]]]))
    assert found.tolist() == [[2.5, 1.0, 3.0, -2.0, 3.0, 2.0]]
    with pytest.raises(ValueError, match=r"at least 2 frames, got shape \(0, 2, 2\)"):
        clip_features(torch.zeros(0, 2, 2))
