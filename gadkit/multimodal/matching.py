"""Contrast and matching of images and texts, the two losses that BLIP and BLIP-2 share.

Source: Li et al., BLIP, ICML 2022, section 3.2; Li et al., Align before Fuse, NeurIPS 2021, for the hard negatives.
Book: multimodal/blip
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gadkit.checks import checked

FAR = -1e4  # in place of the logit of what must not be drawn


@checked
def contrast(logits: Float[Tensor, "b b"], true: Bool[Tensor, "b b"]) -> Float[Tensor, ""]:
    """Image-text contrast: of images (rows) among texts and of texts among images, by cross-entropy.

    `true[i, j]` says whether text j is true of image i; an image's texts share its target in equal parts.
    """
    share = true.float()
    rows = -(share / share.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1)
    columns = -(share / share.sum(0, keepdim=True) * logits.log_softmax(0)).sum(0)
    return (rows.mean() + columns.mean()) / 2


@checked
@torch.no_grad()
def hard_negatives(
    logits: Float[Tensor, "b b"], true: Bool[Tensor, "b b"]
) -> tuple[Int[Tensor, "b"], Int[Tensor, "b"]]:
    """For every image a text, and for every text an image, that is not true of it: the likelier the more similar.

    They are drawn from torch's generator for the device.  Where all are true, any is drawn.
    """
    chances = logits.float().masked_fill(true, FAR)
    texts = torch.multinomial(chances.softmax(1), 1)[:, 0]
    images = torch.multinomial(chances.T.softmax(1), 1)[:, 0]
    return texts, images


@checked
def match_loss(
    logits: Float[Tensor, "n 2"], matches: Bool[Tensor, "n"], counts: Bool[Tensor, "n"]
) -> Float[Tensor, ""]:
    """Image-text matching: cross-entropy of the two answers, over the pairs that count, both answers of one weight."""
    losses = F.cross_entropy(logits.float(), matches.long(), reduction="none")
    return (_mean(losses, matches & counts) + _mean(losses, ~matches & counts)) / 2


def _mean(values: Float[Tensor, "n"], where: Bool[Tensor, "n"]) -> Float[Tensor, ""]:
    return (values * where).sum() / where.sum().clamp(min=1)
