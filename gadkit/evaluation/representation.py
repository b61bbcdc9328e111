"""The health of a representation, and pictures of it: rank, alignment, uniformity, colours, kernels, attention.

None of these needs a label.  A collapsed network shows here before any probe is fitted: its vectors are perfectly
aligned and not uniform at all, and its rank is 0, or near one as long as a last direction separates images.

Book: selfsup/representations
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from gadkit.backbones.encoder import Encoder
from gadkit.checks import check_finite, check_images, checked, positive
from gadkit.search.neighbors import topk

ROUNDING = 10  # machine epsilons: a collapsed ViT of float32 leaves about 2 to its features, a healthy one millions


def _check(x: Tensor, what: str) -> Tensor:
    if not x.numel():
        raise ValueError(f"{what}: expected at least one row of features, got shape {tuple(x.shape)}")
    return check_finite(x, what)


@checked
def effective_rank(x: Float[Tensor, "n d"]) -> float:
    """How many directions the features spread over: exp of the entropy of their centred singular values.

    Between 1 and min(n - 1, d); 0 if all features are alike but for rounding, which spreads over all directions: if no
    direction has more than ROUNDING epsilons of the features' norm.  Units don't matter.  Roy and Vetterli 2007,
    section 2, on centred features, so that a common offset doesn't pass for a direction.  Raises ValueError for no
    features, or features that aren't finite.
    """
    rounding = ROUNDING * torch.finfo(x.dtype).eps
    x = _check(x, "features").double()
    values = torch.linalg.svdvals(x - x.mean(0))
    if float(values[0]) <= rounding * float(x.norm()):
        return 0.0
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp())


@checked
def alignment(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> float:
    """Mean squared distance between the unit vectors of positive pairs: 0 (all alike) to 4.

    Wang and Isola 2020, section 4.1.1, alpha = 2.  Raises ValueError for no features, or features that aren't finite.
    """
    _check(x, "x"), _check(y, "y")
    return float((F.normalize(x, dim=1) - F.normalize(y, dim=1)).square().sum(1).mean())


@checked
def uniformity(x: Float[Tensor, "n d"], t: float = 2.0) -> float:
    """Log of the mean of exp(-t |u - v|^2) over all pairs of different rows' unit vectors: 0 if all coincide.

    The lower, the more evenly they cover the sphere.  Wang and Isola 2020, section 4.1.2.  Raises ValueError for fewer
    than two rows, features that aren't finite, or a `t` that isn't above 0.
    """
    _check(x, "features")
    positive("t", t)
    if len(x) < 2:
        raise ValueError(f"uniformity: expected at least 2 rows, got {len(x)}")
    u = F.normalize(x.double(), dim=1)
    squared = (2 - 2 * u @ u.T).clamp(min=0)  # (n, n)
    upper = squared[torch.triu(torch.ones_like(squared, dtype=torch.bool), diagonal=1)]
    return float(torch.logsumexp(-t * upper, 0) - math.log(len(upper)))


@dataclass(frozen=True)
class Colours:
    """Three principal directions of patch tokens, and the range along each that fills a colour channel."""

    centre: Float[Tensor, "e"]
    axes: Float[Tensor, "3 e"]
    low: Float[Tensor, "3"]
    high: Float[Tensor, "3"]

    def __call__(self, patches: Float[Tensor, "b n e"], grid: tuple[int, int]) -> Float[Tensor, "b 3 r c"]:
        """Patch tokens as small RGB images in [0, 1], row-major like the patches."""
        scores = (patches - self.centre) @ self.axes.T  # (b, n, 3)
        span = torch.where(self.high > self.low, self.high - self.low, 1.0)
        return ((scores - self.low) / span).clamp(0, 1).transpose(1, 2).unflatten(2, grid)  # (b, 3, r, c)


@checked
def fit_colours(patches: Float[Tensor, "b n e"], margin: float = 0.02) -> Colours:
    """Principal components of all patches of a batch together, so that a colour means one thing in every image.

    Ordered by variance.  An axis points to where the scores' third moment is positive, so neither the order of the
    images nor a rotation of the feature space changes a colour; a share `margin` of the scores at either end is
    clipped.  Raises ValueError for tokens of fewer than 3 dimensions or that aren't finite, or a margin outside
    [0, 0.5).
    """
    if not 0 <= margin < 0.5:
        raise ValueError(f"margin: expected a share from 0 to below 0.5, got {margin}")
    x = _check(patches, "patches").flatten(0, 1).double()  # (b n, e)
    if x.shape[1] < 3:
        raise ValueError(f"patches: expected tokens of at least 3 dimensions, got {x.shape[1]}")
    centre = x.mean(0)
    x = x - centre
    axes = torch.linalg.eigh(x.T @ x)[1].flip(1)[:, :3].T  # (3, e), largest variance first
    scores = x @ axes.T  # (b n, 3)
    sign = torch.where(scores.pow(3).sum(0) < 0, -1.0, 1.0).to(axes)
    axes, scores = axes * sign[:, None], scores * sign
    low, high = torch.quantile(scores, margin, dim=0), torch.quantile(scores, 1 - margin, dim=0)
    return Colours(*(v.to(patches) for v in (centre, axes, low, high)))


@checked
def pca_colours(patches: Float[Tensor, "b n e"], grid: tuple[int, int]) -> Float[Tensor, "b 3 r c"]:
    """`fit_colours` of a batch, applied to it: feature maps as RGB images in [0, 1].

    Raises ValueError as `fit_colours` does, and for another number of patches than the grid has.
    """
    if grid[0] * grid[1] != patches.shape[1]:
        raise ValueError(f"grid: expected one of {patches.shape[1]} patches, got {grid}")
    return fit_colours(patches)(patches, grid)


@checked
def kernels(network: nn.Module) -> Float[Tensor, "k 3 p q"]:
    """The first layer's kernels, strongest first, each scaled so that 0 is mid-grey and the largest weight 0 or 1.

    The first layer is the first convolution of RGB, or the first linear layer that takes whole RGB patches, row-major
    with channels last.  Raises ValueError for a network without either.
    """
    weight = next(filter(lambda w: w is not None, map(_rgb_weight, network.modules())), None)
    if weight is None:
        raise ValueError("network: expected a convolution or a linear layer with RGB input, found none")
    weight = weight.detach().float()
    weight = weight[weight.flatten(1).norm(dim=1).argsort(descending=True)]
    largest = weight.abs().amax(dim=(1, 2, 3), keepdim=True)
    return 0.5 + 0.5 * weight / torch.where(largest > 0, largest, 1.0)


def _rgb_weight(layer: nn.Module) -> Tensor | None:
    if isinstance(layer, nn.Conv2d) and layer.in_channels == 3:
        return layer.weight
    if isinstance(layer, nn.Linear):
        side = math.isqrt(layer.in_features // 3)
        if 3 * side * side == layer.in_features:
            return layer.weight.unflatten(1, (side, side, 3)).permute(0, 3, 1, 2)  # (k, 3, p, p)
    return None


@checked
@torch.no_grad()
def attention_maps(backbone: Encoder, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b heads r c"]:
    """How much the class token attends to each patch, by head, in the last block; the rest is for other tokens.

    Raises ValueError for any other backbone than an `Encoder`, and anything but uint8 RGB images.
    """
    vit = backbone.vit
    x = backbone.preprocess(check_images(images)).to(backbone.device)
    rows, columns = (side // vit.patch_size for side in x.shape[2:])
    seen = vit.attention(x)[:, :, 0, vit.prefix :].to(images.device)
    return seen.unflatten(2, (rows, columns))  # (b, heads, r, c)


@checked
def nearest(queries: Int[Tensor, "q"], x: Float[Tensor, "n d"], k: int = 5) -> Int[Tensor, "q k"]:
    """The k rows most like each of the rows `queries` by cosine, most similar first, itself left out.

    Raises ValueError for a k that is not from 1 to n - 1, or a row that does not exist.
    """
    if len(queries) and not 0 <= int(queries.min()) <= int(queries.max()) < len(x):
        raise ValueError(f"queries: expected rows from 0 to {len(x) - 1}, got {queries.min()} to {queries.max()}")
    if not 1 <= k < len(x):
        raise ValueError(f"k: expected from 1 to {len(x) - 1} neighbours, got {k}")
    _, found = topk(x[queries], x, k + 1)  # (q, k + 1)
    others = found != queries[:, None].to(found.device)
    others[:, -1] &= ~others.all(1)  # where a double pushed the row itself out, the last one goes
    return found[others].view(-1, k)
