"""Contrastive objectives: find the partner of each row among all rows.

Under several processes these are the rows of all of them: see `gadkit.distributed` for the convention.

Book: selfsup/simclr, selfsup/mocov3, anomaly/winclip
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from gadkit import checks
from gadkit.checks import checked
from gadkit.distributed import gather, rank
from gadkit.losses.precision import precisely
from gadkit.losses.shapes import check_alike


@checked
@precisely
def nt_xent(z0: Float[Tensor, "n d"], z1: Float[Tensor, "n d"], temperature: float = 0.5) -> Float[Tensor, ""]:
    """Normalised-temperature cross-entropy of SimCLR: pick each view's partner among the other 2n - 1.

    Identical embeddings give log(2n - 1), the value at which a collapsed network is stuck.  Raises ValueError for
    tensors of different shapes and a temperature that is not positive.  Chen et al. 2020, eq. 1.
    """
    check_alike("nt_xent", z0=z0, z1=z1)
    checks.positive("temperature", temperature)
    n = len(z0)
    z0, z1 = F.normalize(z0, dim=1), F.normalize(z1, dim=1)
    all0, all1 = gather(z0), gather(z1)  # (m, d), all processes' rows
    m, first = len(all0), n * rank()
    logits = torch.cat([z0, z1]) @ torch.cat([all0, all1]).T / temperature  # (2n, 2m)
    own = torch.arange(n, device=z0.device) + first
    own = torch.cat([own, own + m])  # the column in which a row meets itself
    logits = logits.scatter(1, own[:, None], -math.inf)
    return F.cross_entropy(logits, (own + m) % (2 * m))


@checked
@precisely
def info_nce(q: Float[Tensor, "n d"], k: Float[Tensor, "n d"], temperature: float = 0.2) -> Float[Tensor, ""]:
    """InfoNCE of MoCo v3, one direction: find each query's key among all keys; 2 tau times the cross-entropy.

    The factor makes the gradient's size independent of the temperature.  Identical embeddings give 2 tau log n.
    Keys carry no gradient if the caller detached them.  Raises ValueError for tensors of different shapes and a
    temperature that is not positive.  Chen, Xie and He 2021, algorithm 1.
    """
    check_alike("info_nce", q=q, k=k)
    checks.positive("temperature", temperature)
    keys = gather(F.normalize(k, dim=1))  # (m, d)
    logits = F.normalize(q, dim=1) @ keys.T / temperature  # (n, m)
    labels = torch.arange(len(q), device=q.device) + len(q) * rank()
    return 2 * temperature * F.cross_entropy(logits, labels)


@checked
@precisely
def clip_loss(
    images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"], scale: float | Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """CLIP's symmetric cross-entropy: every image finds its text and every text its image.

    Orthonormal pairs give log(1 + (n - 1) exp(-scale)).  Raises ValueError for tensors of different shapes
    and a `scale` that is a number and not positive.  Radford et al. 2021, figure 3.
    """
    check_alike("clip_loss", images=images, texts=texts)
    if not isinstance(scale, Tensor):
        checks.positive("scale", scale)
    images, texts = F.normalize(images, dim=1), F.normalize(texts, dim=1)
    labels = torch.arange(len(images), device=images.device) + len(images) * rank()
    rows = F.cross_entropy(scale * images @ gather(texts).T, labels)
    columns = F.cross_entropy(scale * texts @ gather(images).T, labels)
    return (rows + columns) / 2


@checked
@precisely
def siglip_loss(
    images: Float[Tensor, "n d"],
    texts: Float[Tensor, "n d"],
    scale: float | Float[Tensor, ""],
    bias: float | Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """SigLIP's loss: each of the n x n pairs by itself, a match or not; summed over texts, mean over images.

    Raises ValueError for tensors of different shapes and a `scale` that is a number and not positive.
    Zhai et al. 2023, eq. 1.
    """
    check_alike("siglip_loss", images=images, texts=texts)
    if not isinstance(scale, Tensor):
        checks.positive("scale", scale)
    logits = scale * F.normalize(images, dim=1) @ gather(F.normalize(texts, dim=1)).T + bias  # (n, m)
    labels = -torch.ones_like(logits)
    labels[torch.arange(len(images)), torch.arange(len(images)) + len(images) * rank()] = 1
    return -F.logsigmoid(labels * logits).sum(1).mean()


@checked
def balanced_sigmoid(
    logits: Float[Tensor, "n m"], positive: Bool[Tensor, "n m"], weight: Float[Tensor, "n m"] | None = None
) -> Float[Tensor, ""]:
    """Sigmoid loss over all pairs, as often positive as they like, with both classes counting half.

    SigLIP (Zhai et al. 2023, eq. 1) has one positive a row and lets the bias settle the imbalance.  Here a caption can
    be true of many images, so the weights settle it: logits of 0 give log 2, the value of a network that has learnt
    nothing.  Raises ValueError for tensors of different shapes.
    """
    weight = torch.ones_like(logits) if weight is None else weight
    check_alike("balanced_sigmoid", logits=logits, positive=positive, weight=weight)
    share = [(weight * side).sum().clamp(min=1e-6) for side in (positive, ~positive)]
    each = F.softplus(torch.where(positive, -logits, logits)) * weight
    return 0.5 * ((each * positive).sum() / share[0] + (each * ~positive).sum() / share[1])
