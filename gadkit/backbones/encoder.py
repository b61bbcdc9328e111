"""The book's small vision transformer as a frozen backbone.

Book: selfsup/representations
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit import weights
from gadkit.backbones.preprocess import Preprocess, check_layers, check_prepared
from gadkit.checks import checked, one_of
from gadkit.data.views import MEAN, STD
from gadkit.nn.vit import ViT
from gadkit.protocols import Tokens

POOLS = ("cls", "mean")


class Encoder:
    """A `ViT`, trained or not: images in, the image vector and patch tokens out.

    `image_size` may be larger than the crops that it was trained on: its positions stretch.  `pool` says what stands
    for the image, the class token or the mean of the patch tokens, whichever the training gave a meaning.
    Raises ValueError for another pool, or a size that is no multiple of the patch.
    """

    patch_layers: tuple[int, ...] = (-1,)

    @checked
    def __init__(self, vit: ViT, image_size: int = 96, pool: str = "cls") -> None:
        if image_size < 1 or image_size % vit.patch_size:
            raise ValueError(f"image_size: expected a multiple of the patch, {vit.patch_size}, got {image_size}")
        self.vit, self.image_size, self.pool = vit.eval(), image_size, one_of("pool", pool, POOLS)
        self.patch_size, self.embed_dim, self.depth = vit.patch_size, vit.width, vit.depth
        self.strides: tuple[int, ...] = (vit.patch_size,) * vit.depth
        self.grid: tuple[int, int] = (image_size // vit.patch_size,) * 2
        self.preprocess = Preprocess(image_size, (MEAN,) * 3, (STD,) * 3)

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.vit.cls.device

    @torch.no_grad()
    def encode_image(self, images: Float[Tensor, "b 3 s s"], layers: Sequence[int] = (-1,)) -> Tokens:
        """Encode preprocessed images of any device; `layers` counts blocks from 0, or from the end when negative.

        The last block's patches have gone through the final norm.  Raises ValueError for images of another size or
        kind, an empty batch, NaN, or a layer that does not exist.
        """
        x, layers = check_prepared(images, self.image_size), check_layers(layers, self.depth)
        tokens = self.vit.blocks_out(x.to(self.vit.cls))
        last, lead = tokens[-1], self.vit.prefix
        pooled = last[:, 0] if self.pool == "cls" else last[:, lead:].mean(1)
        return Tokens(pooled, tuple(tokens[i][:, lead:] for i in layers), self.grid)


def load(
    source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None
) -> Encoder:
    """The encoder of a method that the project trained, from `file` or the shipped checkpoint, or an untrained one.

    Raises FileNotFoundError for a file that is not there, ValueError for a damaged one or another method's.
    """
    if source.options.get("random"):
        with torch.random.fork_rng(range(torch.cuda.device_count())):  # `manual_seed` seeds every device
            torch.manual_seed(0)
            return Encoder(ViT().to(where))
    state = weights.read_method(file or weights.ASSETS / f"{source.id}.safetensors", source.id, "encoder.")
    with torch.device("meta"):
        vit = ViT(registers=source.options.get("registers", 0))
    weights.fill(vit, state, source.id)
    return Encoder(vit.to(where), pool=source.options["pool"])
