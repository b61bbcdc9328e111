"""The base of the self-supervised methods: an encoder, and the class token that stands for the image.

Book: selfsup/simclr
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit.method import MethodBase
from gadkit.nn import ViT


class SelfSupervised(MethodBase):
    """An encoder and the sizes of its views; a method adds its head, `views`, `loss` and `collapse`."""

    pool = "cls"

    def __init__(self, encoder: ViT | None = None) -> None:
        super().__init__()
        self.encoder = ViT() if encoder is None else encoder
        self.size = self.encoder.side * self.encoder.patch_size  # of a view, in pixels
        self.half = self.encoder.side // 2 * self.encoder.patch_size  # of a small one

    def represent(self, views: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b w"]:
        """The class token: what stays when the head is gone."""
        return self.encoder(views)[:, 0]


def together(network: Callable[[Tensor], Tensor], views: Sequence[Tensor]) -> list[Tensor]:
    """`network(view)` of each view, in order, but run once over all views of one size: fewer and larger products.

    The network must treat every image by itself, as an encoder with layer norms does and a head with batch norm does
    not.  SwAV's and DINO's official code does the same.
    """
    found: dict[int, Tensor] = {}
    for size in {view.shape[1:] for view in views}:
        places = [place for place, view in enumerate(views) if view.shape[1:] == size]
        out = network(torch.cat([views[place] for place in places]))
        found |= zip(places, out.split([len(views[place]) for place in places]), strict=True)
    return [found[place] for place in range(len(views))]
