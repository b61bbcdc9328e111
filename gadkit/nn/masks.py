"""Which patches to hide: blocks of random shape, as many patches as asked for.

Book: selfsup/dino
"""

import math

import torch
from jaxtyping import Bool
from torch import Tensor

from gadkit.checks import checked

LEAST = 4  # patches of a block
STRETCH = 0.3  # the shape of a block, height over width, lies between this and its inverse
TRIALS = 16  # blocks that are drawn for each image: more than the largest share needs


@checked
def block_masks(
    counts: list[int], grid: tuple[int, int], generator: torch.Generator | None = None
) -> Bool[Tensor, "b n"]:
    """Masks, True for hidden patches: exactly `counts[i]` of them in image i, in rectangular blocks.

    Blocks are drawn one after the other, of 4 patches up to as many as are to be hidden, of random shape and place; the
    last one is cut short, row by row, to keep to the count.  After Bao et al. 2022, algorithm 1, which the code of
    DINOv2 follows, and which comes out near the count only.  Raises ValueError for a count that the grid does not hold.
    """
    rows, columns = grid
    n, b = rows * columns, len(counts)
    if not all(0 <= count <= n for count in counts):
        raise ValueError(f"counts: expected 0 to {n} patches an image, got {min(counts)} to {max(counts)}")
    draws = torch.rand(b, TRIALS, 4, generator=generator)
    largest = torch.tensor(counts, dtype=torch.float32).clamp(min=LEAST)[:, None]
    area = LEAST + draws[..., 0] * (largest - LEAST)
    shape = torch.exp((2 * draws[..., 1] - 1) * math.log(1 / STRETCH))
    high = (area * shape).sqrt().round().clamp(1, rows)
    wide = (area / shape).sqrt().round().clamp(1, columns)
    top = (draws[..., 2] * (rows - high + 1)).floor()
    left = (draws[..., 3] * (columns - wide + 1)).floor()
    y, x = torch.arange(rows)[:, None], torch.arange(columns)
    inside = (y >= top[..., None, None]) & (y < (top + high)[..., None, None])
    inside = inside & (x >= left[..., None, None]) & (x < (left + wide)[..., None, None])  # (b, t, rows, columns)
    covered = torch.cat([inside.flatten(2), torch.ones(b, 1, n, dtype=torch.bool)], 1)  # everything, should they miss
    first = covered.int().argmax(1)  # the block that hides a patch first: (b, n)
    order = (first * n + torch.arange(n)).argsort(1).argsort(1)
    masks = (order < torch.tensor(counts)[:, None]).unflatten(1, grid)
    upside_down = torch.rand(b, generator=generator) < 0.5  # so that cutting short does not favour the upper rows
    return torch.where(upside_down[:, None, None], masks.flip(1), masks).flatten(1)
