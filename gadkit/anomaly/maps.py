"""From scores of windows and patches to maps: where windows lie, how their scores meet, how far features are apart.

Source: Jeong et al., WinCLIP, CVPR 2023, sections 4.2 (harmonic aggregation, eq. 4) and 4.3 (reference association).
Book: anomaly/winclip, anomaly/parity
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.checks import check_finite, checked, share
from gadkit.runtime import chunks
from gadkit.search.neighbors import can_fuse

SIGMA = 4 / 518  # of AnomalyCLIP's Gaussian, as a share of the side: 4 pixels of the paper's 518


@checked
def window_indices(grid: tuple[int, int], scale: int) -> Int[Tensor, "w k"]:
    """Patch numbers of every scale x scale window, stride 1; windows and patches row-major, k = scale * scale.

    Raises ValueError for a scale that does not fit the grid.
    """
    rows, columns = _check_window(grid, scale)
    numbers = torch.arange(rows * columns).view(rows, columns)
    return numbers.unfold(0, scale, 1).unfold(1, scale, 1).reshape(-1, scale * scale)  # (w, k)


def _check_window(grid: tuple[int, int], scale: int) -> tuple[int, int]:
    if not 1 <= scale <= min(grid):
        raise ValueError(f"scale: expected a window of 1 to {min(grid)} patches, got {scale} for a grid of {grid}")
    return grid


@checked
def harmonic_mean(maps: Sequence[Float[Tensor, "*shape"]]) -> Float[Tensor, "*shape"]:
    """Harmonic mean of at least one map, entry by entry: small as soon as one of them is; 0 where one is 0."""
    if not len(maps):
        raise ValueError("maps: expected at least one, got none")
    return len(maps) / sum(1 / m for m in maps)


@checked
def spread_windows(scores: Float[Tensor, "b w"], grid: tuple[int, int], scale: int) -> Float[Tensor, "b r c"]:
    """Give each patch the harmonic mean of the scores of all windows that cover it.

    n / (1/s_1 + ... + 1/s_n), where both the count n and the sum fold the windows back onto the grid.
    Raises ValueError for another number of windows than the grid has, or NaN.
    """
    _check_window(grid, scale)
    expected = (grid[0] - scale + 1) * (grid[1] - scale + 1)
    if scores.shape[1] != expected:
        raise ValueError(f"scores: expected shape (b, {expected}), got {tuple(scores.shape)}")
    check_finite(scores, "scores")
    inverse = (1 / scores)[:, None].expand(-1, scale * scale, -1)  # (b, k, w): each window speaks for its k patches
    total = F.fold(inverse, grid, scale)[:, 0]  # (b, r, c)
    count = F.fold(torch.ones_like(inverse[:1]), grid, scale)[:, 0]
    return count / total


@checked
def upsample(maps: Float[Tensor, "b r c"], size: tuple[int, int]) -> Float[Tensor, "b h w"]:
    """Bilinear interpolation between the centres of patches, to `size` (height, width) in pixels.

    Raises ValueError for a size below one pixel, and for maps without any.
    """
    if min(size) < 1:
        raise ValueError(f"size: expected at least one pixel a side, got {size}")
    if not maps.numel():
        raise ValueError(f"maps: expected at least one pixel, got shape {tuple(maps.shape)}")
    return F.interpolate(check_finite(maps, "maps")[:, None], size, mode="bilinear", align_corners=False)[:, 0]


@checked
def smooth_upsample(maps: Float[Tensor, "b r c"], size: tuple[int, int], sigma: float) -> Float[Tensor, "b h w"]:
    """`upsample`, and then a Gaussian of `sigma`, a share of the map's side, as `scipy.ndimage.gaussian_filter` has it.

    Both are linear and separable, so each is one small matrix an axis; 0 leaves the Gaussian out.  Raises ValueError as
    `upsample` does, and for a `sigma` below 0 or above 1.
    """
    share("sigma", sigma, zero=True)
    if min(size) < 1 or not maps.numel() or not sigma:
        return upsample(maps, size)
    check_finite(maps, "maps")
    rows, columns = (_blurred(n, length, sigma).to(maps) for n, length in zip(maps.shape[1:], size, strict=True))
    return rows @ maps @ columns.T


@lru_cache(maxsize=32)
def _blurred(cells: int, pixels: int, sigma: float) -> Float[Tensor, "pixels cells"]:
    """What each pixel of a line takes of each cell: interpolation, then the Gaussian, four deviations wide."""
    line = F.interpolate(torch.eye(cells, dtype=torch.double)[None], pixels, mode="linear", align_corners=False)[0]
    reach = int(4 * sigma * pixels + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    kernel = (-0.5 * (offsets / (sigma * pixels)).double() ** 2).exp()
    at = (torch.arange(pixels)[:, None] + offsets) % (2 * pixels)  # the line and its mirror image, over and over
    at = torch.where(at < pixels, at, 2 * pixels - 1 - at)
    blur = torch.zeros(pixels, pixels, dtype=torch.double)
    blur.scatter_add_(1, at, (kernel / kernel.sum()).expand(pixels, -1))
    return blur @ line.T


@checked
def probability(vectors: Float[Tensor, "*b d"], pair: Float[Tensor, "2 d"], temperature: float) -> Float[Tensor, "*b"]:
    """Of the second against the first of two vectors, by a softmax over cosines; all are unit vectors."""
    return (vectors @ pair.T / temperature).softmax(dim=-1)[..., 1]


@checked
def association(
    queries: Float[Tensor, "b n e"], references: Float[Tensor, "m e"], chunk: int = 2048
) -> Float[Tensor, "b n"]:
    """How unlike its most similar reference each query is: (1 - max cos) / 2, from 0 (the same) to 1 (opposite).

    Both sides hold unit vectors.  At most `chunk` queries meet at most `chunk` references at once.
    Raises ValueError for no references, features of another length, or NaN.
    """
    if not len(references) or not queries.numel():
        raise ValueError(
            f"references: expected some, and queries, got {tuple(references.shape)} and {tuple(queries.shape)}"
        )
    check_finite(queries, "queries"), check_finite(references, "references")
    references = references.to(queries.dtype)
    if can_fuse(queries, references):
        from gadkit.search import fused  # imported late: it needs Triton

        nearest = fused.nearest(queries.flatten(0, 1), references)[0].to(queries.dtype)
        return ((1 - nearest) / 2).clamp(min=0).unflatten(0, queries.shape[:2])
    best = [
        torch.stack([(rows @ part.T).amax(dim=1) for part in chunks(references, chunk)]).amax(dim=0)
        for rows in chunks(queries.flatten(0, 1), chunk)
    ]
    # rounding can take a cosine past 1, and a negative distance would turn a harmonic mean upside down
    return ((1 - torch.cat(best)) / 2).clamp(min=0).unflatten(0, queries.shape[:2])
