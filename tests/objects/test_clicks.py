"""Clicks go where the protocol of the paper puts them."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import ndimage

from gadkit.objects import clicks
from gadkit.objects.protocols import Masks, Promptable


def blobs(count: int = 6, side: int = 24) -> torch.Tensor:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((count, side, side)), (0, 2, 2))
    return torch.from_numpy(noise > 0.02)


def test_depth_is_the_chessboard_distance_from_outside_and_frame() -> None:
    masks = blobs()
    for mask, deep in zip(masks, clicks.depth(masks), strict=True):
        padded = np.pad(mask.numpy(), 1)
        expected = ndimage.distance_transform_cdt(padded, "chessboard")[1:-1, 1:-1]
        np.testing.assert_array_equal(deep.numpy(), expected)


def test_the_middle_lies_deepest() -> None:
    masks = torch.zeros(2, 9, 12, dtype=torch.bool)
    masks[0, 2:7, 3:8] = True
    masks[1, 4, 11] = True
    assert clicks.middle(masks).tolist() == [[5.5, 4.5], [11.5, 4.5]]
    masks = blobs()
    x, y = clicks.middle(masks).long().T
    deep = clicks.depth(masks)
    assert torch.equal(deep[torch.arange(6), y, x], deep.amax((1, 2)))
    with pytest.raises(ValueError, match="a pixel to click on"):
        clicks.middle(torch.zeros(1, 4, 4, dtype=torch.bool))


def test_drawn_clicks_lie_in_their_masks_and_everywhere_in_them() -> None:
    mask = torch.zeros(400, 6, 6, dtype=torch.bool)
    mask[:, 2:4, 1:4] = True
    found = clicks.somewhere(mask, torch.Generator().manual_seed(0))
    assert sorted(map(tuple, found.unique(dim=0).tolist())) == [(x + 0.5, y + 0.5) for x in (1, 2, 3) for y in (2, 3)]


def test_the_larger_error_is_clicked() -> None:
    truth, found = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    truth[0, :, :2], found[0, 0, :] = True, True  # 6 pixels missed, 2 added
    found[1, 1] = True  # nothing is there
    where, label = clicks.wrong(found, truth)
    assert label.tolist() == [1, 0]
    assert torch.equal(where[0], truth[0] & ~found[0])
    assert torch.equal(where[1], found[1])


@dataclass
class Oracle:
    """A segmenter that draws a square about its clicks, and knows what an image is worth."""

    image_size: int = 12

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def set_image(self, image: torch.Tensor) -> "Oracle":
        self.size = image.shape[1:]
        return self

    def predict(self, points=None, labels=None, boxes=None, logits=None, several=True) -> Masks:
        assert several == (points.shape[1] == 1)
        assert (logits is None) == (points.shape[1] == 1), "the logits before come with the second click"
        masks = torch.zeros(len(points), 3 if several else 1, *self.size, dtype=torch.bool)
        for p, (places, on) in enumerate(zip(points.long(), labels, strict=True)):
            for (x, y), label in zip(places, on, strict=True):
                masks[p, :, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = bool(label)
        return Masks(masks, torch.rand(masks.shape[:2]), masks.float() - 0.5)


def test_more_clicks_mend_what_is_wrong() -> None:
    assert isinstance(Oracle(), Promptable)
    truth = torch.zeros(2, 12, 12, dtype=torch.bool)
    truth[0, 0:3, 0:9] = True  # three squares of 3 x 3
    truth[1, 5:8, 5:8] = True  # one
    found = clicks.interactive(Oracle(), torch.zeros(3, 12, 12, dtype=torch.uint8), truth, 4)
    assert found.shape == (2, 4)
    assert (found[1] == 1).all(), "right from the first click on"
    assert found[0, 0] == pytest.approx(1 / 3)
    assert (found[0].diff() >= 0).all()
    assert found[0, 3] > 0.8
    images = torch.zeros(2, 3, 12, 12, dtype=torch.uint8)
    torch.testing.assert_close(clicks.curve(Oracle(), images, [truth, truth[:0]], 4), found)
    with pytest.raises(ValueError, match="clicks: expected"):
        clicks.interactive(Oracle(), images[0], truth, 0)
