"""Every mask of an image, without a prompt: a grid of clicks, and of their answers those that are sure and stable.

Source: Kirillov et al., Segment Anything, ICCV 2023, section 4 and appendix B; the masks are those of its package's
`SamAutomaticMaskGenerator` with one crop.
Book: objects/sam
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from gadkit.checks import checked, whole
from gadkit.objects.promptable import SAM, Given


@dataclass(frozen=True)
class Found:
    """The k masks of an image, the surest first: `iou` as the model expects it, and how `stable` each is.  k may be 0.

    `boxes` hold the first and last pixel of each mask (left, top, right, bottom), `points` the clicks.
    """

    masks: Bool[Tensor, "k h w"]
    iou: Float[Tensor, "k"]
    stability: Float[Tensor, "k"]
    boxes: Float[Tensor, "k 4"]
    points: Float[Tensor, "k 2"]


def grid(side: int, height: int, width: int) -> Float[Tensor, "n 2"]:
    """The centres of side x side equal cells of an image, row by row."""
    t = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    y, x = torch.meshgrid(t, t, indexing="ij")
    return torch.stack([x * width, y * height], -1).view(-1, 2).float()


@checked
@torch.no_grad()
def automatic(
    model: SAM,
    image: UInt8[Tensor, "3 h w"],
    side: int = 32,
    least_iou: float = 0.88,
    least_stability: float = 0.95,
    offset: float = 1.0,
    overlap: float = 0.7,
    batch: int = 256,
) -> Found:
    """The masks of an image for side x side clicks, three each, without repetitions.

    A mask stays if the model expects an IoU above `least_iou`; if its stability, the IoU of its logits cut at `offset`
    and at -`offset`, is at least `least_stability`; and if no surer one has a box that overlaps its own by more than
    `overlap`.  The defaults are the package's.  What is not sure is dropped before it is enlarged, which is what makes
    this faster than the package.  No mask at all is an empty answer.

    Raises ValueError for another side or batch than from 1, or a share outside [0, 1].
    """
    from torchvision.ops import nms

    whole("side", side), whole("batch", batch)
    for name, value in (("least_iou", least_iou), ("least_stability", least_stability), ("overlap", overlap)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: expected a share from 0 to 1, got {value}")
    if offset < 0:
        raise ValueError(f"offset: expected a number from 0, got {offset}")
    model.set_image(image)
    clicks = grid(side, *model.original).to(model.device)
    parts = [_kept(model, some, least_iou, least_stability, offset) for some in clicks.split(batch)]
    masks, iou, stability, points = (torch.cat(column) for column in zip(*parts, strict=True))
    boxes = _boxes(masks)
    keep = nms(boxes, iou, overlap)  # the surest first
    return Found(masks[keep], iou[keep], stability[keep], boxes[keep], points[keep])


def _kept(model: SAM, clicks: Float[Tensor, "n 2"], least_iou: float, least_stability: float, offset: float):
    """Of the masks of some clicks those that are sure and stable, with their numbers."""
    logits, iou = (some.flatten(0, 1) for some in model.decode(Given(clicks[:, None])))
    points = clicks.repeat_interleave(3, 0)
    sure = iou > least_iou if least_iou > 0 else torch.ones_like(iou, dtype=torch.bool)
    large = model.enlarge(logits[sure, None])[:, 0]
    cut = model.sam.mask_threshold
    inner, outer = (large > cut + offset).sum((1, 2)), (large > cut - offset).sum((1, 2))
    stability = inner / outer  # 0 / 0 is not a number and no mask
    stable = stability >= least_stability if least_stability > 0 else torch.ones_like(stability, dtype=torch.bool)
    return large[stable] > cut, iou[sure][stable], stability[stable], points[sure][stable]


def _boxes(masks: Bool[Tensor, "k h w"]) -> Float[Tensor, "k 4"]:
    """First and last pixel of each mask in x and y; of an empty mask zeros."""
    ends = []
    for line in (masks.any(1), masks.any(2)):  # columns, rows
        line = line.int()
        last = line.shape[1] - 1 - line.flip(1).argmax(1)
        ends.append((line.argmax(1), torch.where(line.any(1), last, 0)))
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], 1).float()
