"""Clicks: the first one, the next one from what is still wrong, and the overlap that a number of clicks reaches.

Source: Kirillov et al., Segment Anything, ICCV 2023, section 7.1 and appendix A.
Book: objects/sam
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from gadkit.checks import checked, whole
from gadkit.losses.masks import mask_iou
from gadkit.objects.protocols import Promptable


def depth(masks: Bool[Tensor, "n h w"]) -> Int[Tensor, "n h w"]:
    """How deep in its mask each pixel lies: 0 outside, 1 on its border; what is beyond the frame is outside."""
    left, total = masks.float(), torch.zeros(masks.shape, dtype=torch.long, device=masks.device)
    while left.any():
        total += left.long()
        left = 1 - F.max_pool2d(F.pad(1 - left, (1, 1, 1, 1), value=1.0)[:, None], 3, 1)[:, 0]
    return total


@checked
def middle(masks: Bool[Tensor, "n h w"]) -> Float[Tensor, "n 2"]:
    """The centre (x, y) of the pixel farthest from the border of each mask: of several, the one next to their mean.

    Raises ValueError for an empty mask.
    """
    if not bool(masks.flatten(1).any(1).all()):
        raise ValueError("masks: expected a pixel to click on in each, got an empty one")
    deep = depth(masks)
    deepest = (deep == deep.amax((1, 2), keepdim=True)).float()  # (n, h, w)
    y, x = (torch.arange(side, device=masks.device).float() for side in masks.shape[1:])
    count = deepest.sum((1, 2))
    mean_x, mean_y = deepest.sum(1) @ x / count, deepest.sum(2) @ y / count
    far = (x - mean_x[:, None, None]).square() + (y[:, None] - mean_y[:, None, None]).square()
    return _centre(torch.where(deepest > 0, far, torch.inf).flatten(1).argmin(1), masks.shape[2])


def somewhere(masks: Bool[Tensor, "n h w"], generator: torch.Generator) -> Float[Tensor, "n 2"]:
    """The centre of a pixel drawn from each mask; of an empty one, from the whole frame."""
    lots = torch.rand(masks.shape[1:].numel(), generator=generator).to(masks.device)
    turn = torch.randint(len(lots), (len(masks), 1), generator=generator).to(masks.device)
    lots = lots[(turn + torch.arange(len(lots), device=masks.device)) % len(lots)]  # one reel, read from many places
    return _centre((lots + masks.flatten(1)).argmax(1), masks.shape[2])


def _centre(place: Int[Tensor, "n"], width: int) -> Float[Tensor, "n 2"]:
    return torch.stack([place % width, place // width], 1) + 0.5


def wrong(found: Bool[Tensor, "n h w"], truth: Bool[Tensor, "n h w"]) -> tuple[Bool[Tensor, "n h w"], Int[Tensor, "n"]]:
    """The larger of what was missed and what was added, and the label of a click there: 1 for missed, else 0."""
    missed, added = truth & ~found, found & ~truth
    label = (missed.sum((1, 2)) >= added.sum((1, 2))).long()
    return torch.where(label[:, None, None] > 0, missed, added), label


@checked
def interactive(
    model: Promptable, image: UInt8[Tensor, "3 h w"], truth: Bool[Tensor, "k h w"], clicks: int = 9
) -> Float[Tensor, "k n"]:
    """IoU of k masks of one image after each of n clicks, each in the middle of the larger error.

    After the first click the model's most trusted mask of three counts, afterwards its one mask, which is given the
    logits before.  A mask that is right already is clicked again in its middle.  Raises ValueError for an empty mask.
    """
    whole("clicks", clicks)
    model.set_image(image)
    truth = truth.to(model.device)
    points = middle(truth)[:, None]
    labels = torch.ones(points.shape[:2], dtype=torch.long, device=points.device)
    overlaps, logits = [], None
    for click in range(clicks):
        answer = model.predict(points, labels, logits=logits, several=click == 0)
        rows, best = torch.arange(len(truth)), answer.iou.argmax(1)
        found, logits = answer.masks[rows, best], answer.logits[rows, best]
        overlaps.append(mask_iou(found, truth))
        where, label = wrong(found, truth)
        right = ~where.flatten(1).any(1)
        where, label = torch.where(right[:, None, None], truth, where), torch.where(right, 1, label)
        points = torch.cat([points, middle(where)[:, None]], 1)
        labels = torch.cat([labels, label[:, None]], 1)
    return torch.stack(overlaps, 1)


@checked
def curve(
    model: Promptable, images: UInt8[Tensor, "b 3 h w"], masks: Sequence[Bool[Tensor, "_ h w"]], clicks: int = 9
) -> Float[Tensor, "k n"]:
    """`interactive` over images with masks of their own, one row a mask."""
    pairs = zip(images, masks, strict=True)
    return torch.cat([interactive(model, image, truth, clicks) for image, truth in pairs if len(truth)])
