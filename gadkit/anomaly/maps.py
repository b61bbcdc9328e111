"""From scores of windows and patches to maps: where windows lie, how their scores meet, how far features are apart.

Source: Jeong et al., WinCLIP, CVPR 2023, sections 4.2 (harmonic aggregation, eq. 4) and 4.3 (reference association).
Book: anomaly/winclip
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def window_indices(grid: tuple[int, int], scale: int) -> Int[Tensor, "w k"]:
    """Patch numbers of every scale x scale window, stride 1; windows and patches row-major, k = scale * scale.

    Raises ValueError for a scale that does not fit the grid.
    """
    rows, columns = grid
    if not 1 <= scale <= min(rows, columns):
        raise ValueError(f"scale: expected a window of 1 to {min(rows, columns)} patches, got {scale}")
    numbers = torch.arange(rows * columns).view(rows, columns)
    return numbers.unfold(0, scale, 1).unfold(1, scale, 1).reshape(-1, scale * scale)  # (w, k)


def harmonic_mean(maps: Sequence[Float[Tensor, "*shape"]]) -> Float[Tensor, "*shape"]:
    """Harmonic mean of maps, entry by entry: small as soon as one of them is; 0 where one is 0."""
    return len(maps) / sum(1 / m for m in maps)


def spread_windows(scores: Float[Tensor, "b w"], grid: tuple[int, int], scale: int) -> Float[Tensor, "b r c"]:
    """Give each patch the harmonic mean of the scores of all windows that cover it.

    n / (1/s_1 + ... + 1/s_n), where both the count n and the sum fold the windows back onto the grid.
    """
    inverse = (1 / scores)[:, None].expand(-1, scale * scale, -1)  # (b, k, w): each window speaks for its k patches
    total = F.fold(inverse, grid, scale)[:, 0]  # (b, r, c)
    count = F.fold(torch.ones_like(inverse[:1]), grid, scale)[:, 0]
    return count / total


def upsample(maps: Float[Tensor, "b r c"], size: tuple[int, int]) -> Float[Tensor, "b h w"]:
    """Bilinear interpolation between the centres of patches, to `size` (height, width) in pixels."""
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def association(
    queries: Float[Tensor, "b n e"], references: Float[Tensor, "m e"], chunk: int = 2048
) -> Float[Tensor, "b n"]:
    """How unlike its most similar reference each query is: (1 - max cos) / 2, from 0 (the same) to 1 (opposite).

    Both sides hold unit vectors.  At most `chunk` queries meet at most `chunk` references at once.
    Raises ValueError for no references.
    """
    if not len(references):
        raise ValueError("references: expected at least one, got none")
    best = [
        torch.stack([(rows @ part.T).amax(dim=1) for part in references.split(chunk)]).amax(dim=0)
        for rows in queries.flatten(0, 1).split(chunk)
    ]
    # rounding can take a cosine past 1, and a negative distance would turn a harmonic mean upside down
    return ((1 - torch.cat(best)) / 2).clamp(min=0).unflatten(0, queries.shape[:2])
