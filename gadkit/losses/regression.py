"""Objectives that predict: another view's features (BYOL), or hidden pixels (MAE).

Book: selfsup/byol, selfsup/mae
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gadkit.checks import checked
from gadkit.losses.precision import precisely
from gadkit.losses.shapes import check_alike


@checked
@precisely
def byol_loss(p: Float[Tensor, "n d"], z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Squared distance between the unit vectors of a prediction and its target: 2 - 2 cos, from 0 to 4.

    The target carries no gradient.  A collapsed network gives 0, so the loss does not show a collapse.  Raises
    ValueError for tensors of different shapes.  Grill et al. 2020, eq. 2.
    """
    check_alike("byol_loss", p=p, z=z)
    return 2 - 2 * F.cosine_similarity(p, z.detach(), dim=1).mean()


@checked
@precisely
def mae_loss(
    prediction: Float[Tensor, "b n e"],
    target: Float[Tensor, "b n e"],
    mask: Float[Tensor, "b n"],
    norm_pix: bool = True,
) -> Float[Tensor, ""]:
    """Mean squared error on the masked patches only; `mask` is 1 where a patch was removed.

    With `norm_pix` each target patch has its mean taken out and its (unbiased) deviation divided out; predicting 0 then
    costs (e - 1) / e.  Raises ValueError for a mask of another shape, and for one that hides nothing.  He et al. 2022,
    section 3.
    """
    if mask.shape != prediction.shape[:2] or prediction.shape != target.shape:
        shapes = ", ".join(str(tuple(x.shape)) for x in (prediction, target, mask))
        raise ValueError(f"mae: expected prediction and target (b, n, e) and a mask (b, n), got {shapes}")
    if not mask.any():
        raise ValueError("mae: expected a mask that hides a patch, got none hidden")
    if norm_pix:
        spread = (target.var(2, keepdim=True) + 1e-6).sqrt()
        target = (target - target.mean(2, keepdim=True)) / spread
    each = (prediction - target).square().mean(2)  # (b, n)
    return (each * mask).sum() / mask.sum()
