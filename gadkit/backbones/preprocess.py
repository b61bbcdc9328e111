"""The work of every backbone on images and layer numbers before its network runs.

Book: anomaly/winclip
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from gadkit.checks import check_finite, check_images, checked, describe, one_of
from gadkit.data.resampling import resample

PIXELS = 1 << 22  # resized at once
INTERPOLATIONS = ("bicubic", "bilinear")


@dataclass(frozen=True)
class Preprocess:
    """Squash to a square with antialiased interpolation, scale to [0, 1], normalise.

    The whole image stays in view, so a map of patches is a map of the image.  Raises ValueError for an interpolation
    that is neither bicubic nor bilinear.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        one_of("interpolation", self.interpolation, INTERPOLATIONS)

    def __call__(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        """Raises ValueError for anything but a batch of uint8 RGB images."""
        pieces = check_images(images).split(max(1, PIXELS // images[0, 0].numel()))
        x = torch.cat([self._squash(piece.float()) for piece in pieces])  # (b, 3, s, s)
        mean, std = (255 * x.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        return (x - mean) / std

    def _squash(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        same = x.shape[-2:] == (self.size, self.size)
        return x if same else resample(x, self.size, self.interpolation)


def check_prepared(images: Float[Tensor, "b 3 s s"], size: int) -> Float[Tensor, "b 3 s s"]:
    """Return `images` if they are preprocessed.

    Raises ValueError for anything but (b, 3, size, size) finite floats, b > 0.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point() or images.shape[1:] != (3, size, size):
        raise ValueError(f"images: expected preprocessed floats (b, 3, {size}, {size}), got {describe(images)}")
    if not len(images):
        raise ValueError(f"images: expected at least one, got an empty batch of shape {tuple(images.shape)}")
    return check_finite(images, "images")


@checked
def check_layers(layers: Sequence[int], depth: int) -> list[int]:
    """The layers counted from 0.  Raises ValueError for one that does not exist."""
    if wrong := [i for i in layers if not -depth <= i < depth]:
        raise ValueError(f"layers: expected numbers from {-depth} to {depth - 1}, got {wrong[0]}")
    return [i % depth for i in layers]


def by_pillow(images: UInt8[Tensor, "b 3 h w"], height: int, width: int) -> UInt8[Tensor, "b 3 height width"]:
    """Images squashed by Pillow's bicubic filter on bytes, on the CPU: as CLIP was trained."""
    pictures = [Image.fromarray(image.permute(1, 2, 0).cpu().numpy()) for image in images]
    small = [np.array(picture.resize((width, height), Image.Resampling.BICUBIC)) for picture in pictures]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2)
