"""Losses of masks against literal forms of their equations."""

import math

import pytest
import torch

from gadkit.losses.masks import mask_dice, mask_focal, mask_iou


def test_focal_and_dice_pixel_by_pixel() -> None:
    logits, truth = torch.randn(2, 3, 4, 5), torch.rand(2, 3, 4, 5).round()
    truth[0, 0, 0] = 0.25  # a pixel at the rim may belong to the mask in part
    for n in range(2):
        for m in range(3):
            focal, both, each = 0.0, 0.0, 0.0
            for z, t in zip(logits[n, m].flatten().tolist(), truth[n, m].flatten().tolist(), strict=True):
                p = 1 / (1 + math.exp(-z))
                right = p * t + (1 - p) * (1 - t)
                focal += (1 - right) ** 2 * -(t * math.log(p) + (1 - t) * math.log(1 - p))
                both, each = both + p * t, each + p + t
            assert mask_focal(logits, truth)[n, m] == pytest.approx(focal / 20, abs=1e-6)
            assert mask_dice(logits, truth)[n, m] == pytest.approx(1 - (2 * both + 1) / (each + 1), abs=1e-6)


def test_overlap_of_masks() -> None:
    one = torch.tensor([[[1, 1, 0]], [[0, 0, 0]], [[1, 0, 0]]]).bool()
    other = torch.tensor([[[0, 1, 1]], [[0, 0, 0]], [[0, 0, 0]]]).bool()
    torch.testing.assert_close(mask_iou(one, other), torch.tensor([1 / 3, 1.0, 0.0]))
