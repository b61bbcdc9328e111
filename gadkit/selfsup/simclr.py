"""SimCLR: agree with yourself, and disagree with everybody else.

Source: Chen, Kornblith, Norouzi and Hinton 2020.
Book: selfsup/simclr
"""

import math

from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit.data.views import Views
from gadkit.losses import nt_xent
from gadkit.nn import ViT, mlp
from gadkit.selfsup.base import SelfSupervised


class SimCLR(SelfSupervised):
    """Two views of each photograph; every view picks its partner out of all others.

    `strength` scales the colour distortion, which with the crop decides what may not be used for recognition.
    """

    lr = 1e-3

    def __init__(
        self,
        encoder: ViT | None = None,
        *,
        temperature: float = 0.2,
        width: int = 256,
        out: int = 128,
        strength: float = 1.0,
        batch: int = 128,
    ) -> None:
        super().__init__(encoder)
        self.head = mlp((self.encoder.width, width, out), last_norm=True)
        self.view = Views(self.size, strength=strength)
        self.temperature, self.collapse = temperature, math.log(2 * batch - 1)

    def views(self, images: UInt8[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Two random views of each image."""
        return [self.view(images), self.view(images)]

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """NT-Xent (eq. 1) of the heads' outputs."""
        z0, z1 = (self.head(self.represent(v)) for v in views)
        return nt_xent(z0, z1, self.temperature)
