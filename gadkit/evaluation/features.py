"""A frozen backbone's view of whole image sets: encoded once, in chunks, and kept in memory.

Book: selfsup/representations
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit.checks import check_images, checked, whole
from gadkit.protocols import Backbone

T = TypeVar("T")
CHUNKS = {"cpu": 8}  # images encoded at once: a few, so that activations stay in a processor's cache ...
CHUNK = 256  # ... and many, to keep anything else busy


@dataclass(frozen=True)
class ImageFeatures:
    """An image set as a backbone encodes it, on the CPU.

    `pooled` is the image vector, `blocks` the mean patch token after every block (none unless asked for), `patches`
    the tokens after the last block (None unless asked for) on a `grid` of rows and columns.
    """

    pooled: Float[Tensor, "n d"]
    blocks: tuple[Float[Tensor, "n _"], ...]
    patches: Float[Tensor, "n p e"] | None
    grid: tuple[int, int]


@checked
@torch.no_grad()
def encode(
    backbone: Backbone,
    images: UInt8[Tensor, "n 3 h w"],
    blocks: bool = False,
    patches: bool = False,
    chunk: int | None = None,
) -> ImageFeatures:
    """Encode images, at most `chunk` at a time (by default a number that suits the device).

    Raises ValueError for anything but a batch of uint8 RGB images.
    """
    if chunk is not None:
        whole("chunk", chunk)
    where = backbone.device
    layers = tuple(range(backbone.depth)) if blocks else (-1,) if patches else ()
    pooled, means, kept = [], [], []
    for part in check_images(images).split(chunk or CHUNKS.get(where.type, CHUNK)):
        tokens = backbone.encode_image(backbone.preprocess(part.to(where)), layers)
        pooled.append(tokens.pooled.float().cpu())
        means.append([p.float().mean(1).cpu() for p in tokens.patches] if blocks else [])
        if patches:
            kept.append(tokens.patches[-1].float().cpu())
    joined = tuple(torch.cat(one) for one in zip(*means, strict=True))
    return ImageFeatures(torch.cat(pooled), joined, torch.cat(kept) if patches else None, tokens.grid)


class Features:
    """The features of a protocol's sets, computed when it is first asked for and never again."""

    def __init__(self, backbone: Backbone, chunk: int | None = None) -> None:
        self.backbone, self.chunk = backbone, chunk
        self._kept: dict[Hashable, Any] = {}

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The result of `compute`, from memory if something was computed under this key before."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def __call__(
        self, name: str, images: UInt8[Tensor, "n 3 h w"], blocks: bool = False, patches: bool = False
    ) -> ImageFeatures:
        """The features of the image set of this name."""
        return self.once((name, blocks, patches), lambda: encode(self.backbone, images, blocks, patches, self.chunk))
