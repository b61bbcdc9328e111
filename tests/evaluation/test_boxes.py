"""Average precision by hand, and the baseline of blobs."""

import pytest
import torch

from gadkit.evaluation.boxes import average_precisions, blobs
from gadkit.objects.protocols import Boxes

BOX = [0.0, 0, 10, 10]
FAR = [50.0, 50, 60, 60]


def answer(*rows: tuple[list[float], float, int]) -> Boxes:
    return Boxes(
        torch.tensor([row[0] for row in rows]).reshape(-1, 4),
        torch.tensor([row[1] for row in rows]),
        torch.tensor([row[2] for row in rows], dtype=torch.long),
    )


def truth(*rows: tuple[list[float], int]) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        torch.tensor([row[0] for row in rows]).reshape(-1, 4),
        torch.tensor([row[1] for row in rows], dtype=torch.long),
    )


def test_it_is_the_area_by_hand() -> None:
    """Label 0: right, wrong, right: precision 1 up to half the recall, 2/3 beyond.  Label 1: a word for another."""
    found = [answer((BOX, 0.9, 0), (FAR, 0.8, 0)), answer((BOX, 0.7, 0), (FAR, 0.6, 0))]
    true = [truth((BOX, 0)), truth((BOX, 0), (FAR, 1))]
    areas = average_precisions(found, true, [0, 1, 2])
    assert areas == {0: pytest.approx((51 + 50 * 2 / 3) / 101), 1: 0.0}


def test_a_word_that_is_not_true_costs_nothing_of_another() -> None:
    areas = average_precisions([answer((BOX, 0.9, 0), (BOX, 0.8, 1))], [truth((BOX, 1))], [0, 1])
    assert areas == {1: pytest.approx(1.0)}


def test_blobs_are_boxes_around_regions_for_every_label() -> None:
    images = torch.full((2, 3, 40, 60), 30, dtype=torch.uint8)
    images[0, :, 5:15, 10:40] = 200
    images[0, :, 30:36, 2:8] = 200
    found = blobs(images, 2)
    assert found[0].boxes.tolist() == [[10, 5, 40, 15]] * 2 + [[2, 30, 8, 36]] * 2
    assert found[0].labels.tolist() == [0, 1, 0, 1]
    assert found[0].scores.tolist() == pytest.approx([300 / 2400] * 2 + [36 / 2400] * 2)
    assert found[1].boxes.shape == (0, 4)
    dark = blobs(255 - images, 1)[0]
    assert dark.boxes.tolist() == [[10, 5, 40, 15], [2, 30, 8, 36]]


@pytest.mark.usefixtures("untyped")
def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="expected as many images found as true, got 1 and 0"):
        average_precisions([answer()], [], [0])
    with pytest.raises(ValueError, match=r"truth: expected a box with one of the labels \[3\], got none"):
        average_precisions([answer()], [truth((BOX, 0))], [3])
    with pytest.raises(ValueError, match="labels: expected a whole number from 1"):
        blobs(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 0)
