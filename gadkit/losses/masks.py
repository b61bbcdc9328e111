"""Losses of predicted masks, one number a mask, and the overlap that they are after.

Source: Kirillov et al., Segment Anything, ICCV 2023, appendix A; Lin et al., Focal loss, ICCV 2017.
Book: objects/sam
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss


def mask_focal(logits: Float[Tensor, "*n h w"], truth: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n"]:
    """Focal loss (gamma 2, both sides of equal weight), the mean over each mask.  `truth` runs from 0 to 1."""
    return sigmoid_focal_loss(logits, truth, alpha=-1).mean((-2, -1))


def mask_dice(logits: Float[Tensor, "*n h w"], truth: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n"]:
    """One minus the Dice overlap of each mask, smoothed by 1 so that an empty mask can be right."""
    found = logits.sigmoid()
    both, each = (found * truth).sum((-2, -1)), (found + truth).sum((-2, -1))
    return 1 - (2 * both + 1) / (each + 1)


def mask_iou(one: Bool[Tensor, "*n h w"], other: Bool[Tensor, "*n h w"]) -> Float[Tensor, "*n"]:
    """Intersection over union of masks; that of two empty ones is 1."""
    both, either = (one & other).sum((-2, -1)), (one | other).sum((-2, -1))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)
