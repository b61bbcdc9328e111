"""Images as sequences of patches, and back.

Book: selfsup/attention, selfsup/mae
"""

from jaxtyping import Float
from torch import Tensor

from gadkit.checks import checked, whole


@checked
def patchify(images: Float[Tensor, "b 3 h w"], patch: int) -> Float[Tensor, "b n e"]:
    """Cut images into patches, row-major; a patch is its pixels row by row, channels last: e = 3 * patch * patch.

    Raises ValueError for sides that are no multiples of the patch.
    """
    whole("patch", patch)
    rows, columns = (side // patch for side in images.shape[2:])
    if (rows * patch, columns * patch) != tuple(images.shape[2:]):
        raise ValueError(f"images: expected sides that are multiples of {patch}, got {tuple(images.shape[2:])}")
    x = images.unflatten(3, (columns, patch)).unflatten(2, (rows, patch))  # (b, 3, rows, p, columns, p)
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)  # (b, rows * columns, p * p * 3)


@checked
def unpatchify(patches: Float[Tensor, "b n e"], patch: int, grid: tuple[int, int]) -> Float[Tensor, "b 3 h w"]:
    """The images that `patchify` cut.  Raises ValueError where patches and grid do not fit."""
    whole("patch", patch), whole("rows", grid[0]), whole("columns", grid[1])
    if patches.shape[1] != grid[0] * grid[1] or patches.shape[2] != 3 * patch * patch:
        expected = (grid[0] * grid[1], 3 * patch * patch)
        raise ValueError(f"patches: expected shape (b, {expected[0]}, {expected[1]}), got {tuple(patches.shape)}")
    x = patches.unflatten(2, (patch, patch, 3)).unflatten(1, grid)  # (b, rows, columns, p, p, 3)
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)  # (b, 3, rows * p, columns * p)
