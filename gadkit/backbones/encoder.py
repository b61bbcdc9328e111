"""The book's small vision transformer as a frozen backbone, and every representation of Parts I and II by its name.

Book: selfsup/representations
"""

from collections.abc import Sequence
from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit import runtime, weights
from gadkit.backbones.openclip import Preprocess
from gadkit.backbones.timm_models import ARCHITECTURES, Timm, load_timm
from gadkit.checks import check_finite, describe
from gadkit.data.views import MEAN, STD
from gadkit.nn.vit import ViT
from gadkit.protocols import Tokens

POOLS = ("cls", "mean")


class Encoder:
    """A `ViT` that has learnt, or not: images in, the image vector and patch tokens out.

    `image_size` may be larger than the crops that it was trained on, for its positions stretch.  `pool` says what
    stands for the image, the class token or the mean of the patch tokens, whichever the training gave a meaning.
    Raises ValueError for another pool, or a size that is no multiple of the patch.
    """

    def __init__(self, vit: ViT, image_size: int = 96, pool: str = "cls") -> None:
        if pool not in POOLS:
            raise ValueError(f"pool: expected one of {', '.join(POOLS)}, got {pool!r}")
        if image_size < 1 or image_size % vit.patch_size:
            raise ValueError(f"image_size: expected a multiple of the patch, {vit.patch_size}, got {image_size}")
        self.vit, self.image_size, self.pool = vit.eval(), image_size, pool
        self.patch_size, self.embed_dim, self.depth = vit.patch_size, vit.width, vit.depth
        self.preprocess = Preprocess(image_size, (MEAN,) * 3, (STD,) * 3)

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.vit.cls.device

    @no_type_check  # bad input is a ValueError
    @torch.no_grad()
    def encode_image(self, images: Float[Tensor, "b 3 s s"], layers: Sequence[int] = (-1,)) -> Tokens:
        """Encode preprocessed images of any device; `layers` counts blocks from 0, or from the end when negative.

        The last block's patches have gone through the final norm.  Raises ValueError for images of another size or
        kind, an empty batch, NaN, or a layer that does not exist.
        """
        s = self.image_size
        if not isinstance(images, Tensor) or not images.is_floating_point() or images.shape[1:] != (3, s, s):
            raise ValueError(f"images: expected preprocessed floats (b, 3, {s}, {s}), got {describe(images)}")
        if not len(images):
            raise ValueError(f"images: expected at least one, got an empty batch of shape {tuple(images.shape)}")
        if wrong := [i for i in layers if not -self.depth <= i < self.depth]:
            raise ValueError(f"layers: expected numbers from {-self.depth} to {self.depth - 1}, got {wrong[0]}")
        tokens = self.vit.blocks_out(check_finite(images, "images").to(self.vit.cls))
        last, lead = tokens[-1], self.vit.prefix
        pooled = last[:, 0] if self.pool == "cls" else last[:, lead:].mean(1)
        side = s // self.patch_size
        return Tokens(pooled, tuple(tokens[i][:, lead:] for i in layers), (side, side))


def load_encoder(name: str, preset: str | None = None, device: str | None = None) -> Encoder | Timm:
    """The representation that a method of this book learnt, by the preset; "random" is the control, the same untrained.

    Raises ValueError for an unknown name, FileNotFoundError for a method without shipped weights, `WeightsUnavailable`
    for published ones that cannot be had.
    """
    where = runtime.device(device)
    if name == "random":
        with torch.random.fork_rng(range(torch.cuda.device_count())):  # `manual_seed` seeds every device
            torch.manual_seed(0)
            return Encoder(ViT().to(where))
    if weights.preset(preset) == "paper" or name in ARCHITECTURES:
        return load_timm(name, preset, device)
    from gadkit import methods  # which builds on the backbones

    method = methods.load(name)
    return Encoder(method.encoder.to(where), pool=method.pool)
