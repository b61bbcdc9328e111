"""SwAV: sort views into clusters that are all used equally, and predict one view's cluster from another.

Source: Caron et al. 2020, section 3.
Book: selfsup/swav
"""

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit.data.views import multi_crop
from gadkit.losses import swav_loss
from gadkit.nn import Prototypes, ViT, mlp
from gadkit.selfsup.base import SelfSupervised


class SwAV(SelfSupervised):
    """Prototypes, Sinkhorn's balanced assignments, and many small crops beside two large ones.

    `frozen` is the share of training at whose beginning the prototypes do not move.
    """

    lr = 1e-3

    def __init__(
        self,
        encoder: ViT | None = None,
        *,
        prototypes: int = 128,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        small: int = 4,
        width: int = 256,
        out: int = 64,
        frozen: float = 0.05,
    ) -> None:
        super().__init__(encoder)
        self.head = mlp((self.encoder.width, width, out))
        self.prototypes = Prototypes(out, prototypes)
        self.temperature, self.epsilon, self.small, self.frozen = temperature, epsilon, small, frozen
        self.register_buffer("still", torch.tensor(frozen > 0))
        self.collapse = math.log(prototypes)

    def views(self, images: UInt8[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Two large views, then small ones of half the side."""
        return multi_crop(images, 2, self.small, (self.size, self.half))

    def scores(self, views: Float[Tensor, "b 3 s s"], still: bool = False) -> Float[Tensor, "b k"]:
        """Cosines with the prototypes, which get no gradient while they are `still`."""
        return self.prototypes(self.head(self.represent(views)), still)

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """Swapped prediction, eq. 2 and 6; the prototypes do not move at the beginning of training."""
        still = bool(self.still)
        return swav_loss([self.scores(v, still) for v in views], self.temperature, self.epsilon)

    def after_step(self, progress: float) -> None:
        """Prototypes go back to unit length, and may move once the beginning is over."""
        self.prototypes.normalise()
        self.still.fill_(progress < self.frozen)
