"""One way to change the size of photographs.

Book: selfsup/simclr
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def resample(
    images: Float[Tensor, "b c h w"], size: int | tuple[int, int], mode: str = "bicubic", white: float = 255.0
) -> Float[Tensor, "b c s t"]:
    """Squash images to a square of `size`, or to (height, width), with an antialiased filter.

    Values run from 0 to `white`: what bicubic weights overshoot at edges is cut off.
    """
    size = (size, size) if isinstance(size, int) else size
    return F.interpolate(images, size, mode=mode, antialias=True, align_corners=False).clamp(0, white)
