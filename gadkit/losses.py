"""Objectives as pure functions: their equations on a page.

Book: anomaly/winclip
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def balanced_sigmoid(
    logits: Float[Tensor, "n m"], positive: Bool[Tensor, "n m"], weight: Float[Tensor, "n m"] | None = None
) -> Float[Tensor, ""]:
    """Sigmoid loss over all pairs, as often positive as they like, with both classes counting half.

    SigLIP (Zhai et al. 2023, eq. 1) has one positive a row and lets the bias settle the imbalance.  Here a caption
    can be
    true of many images, so the weights settle it: logits of 0 give log 2, the value of a network that has learnt
    nothing.
    """
    weight = torch.ones_like(logits) if weight is None else weight
    share = [(weight * side).sum().clamp(min=1e-6) for side in (positive, ~positive)]
    each = F.softplus(torch.where(positive, -logits, logits)) * weight
    return 0.5 * ((each * positive).sum() / share[0] + (each * ~positive).sum() / share[1])
