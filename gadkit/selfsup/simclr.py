"""SimCLR: two views of a photograph agree, and disagree with those of all others.

Source: Chen, Kornblith, Norouzi and Hinton 2020.
Book: selfsup/simclr
"""

import math
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from gadkit.checks import positive
from gadkit.data.views import Views
from gadkit.losses import nt_xent
from gadkit.nn import ViT, mlp
from gadkit.selfsup.base import SelfSupervised, together


class SimCLR(SelfSupervised):
    """Two views of each photograph; every view picks its partner out of all others.

    `strength` scales the colour distortion, which with the crop decides what may not be used for recognition.  The
    paper trains a ResNet by LARS, with a decay of 1e-6; the recipe is AdamW's for this transformer.
    """

    def __init__(
        self,
        encoder: ViT | None = None,
        *,
        temperature: float = 0.2,
        width: int = 256,
        out: int = 128,
        strength: float = 1.0,
    ) -> None:
        super().__init__(encoder)
        self.head = mlp((self.encoder.width, width, out), last_norm=True)
        self.view = Views(self.size, strength=strength)
        self.temperature = positive("temperature", temperature)

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Two random views of each of `batch["images"]` (uint8, b x 3 x h x w)."""
        (images,) = self.columns(batch)
        return [self.view(images), self.view(images)]

    def collapse(self, batch_size: int) -> float:
        """Log(2n - 1): every other view is as near as the partner."""
        return math.log(2 * batch_size - 1)

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """NT-Xent (eq. 1) of the heads' outputs."""
        z0, z1 = (self.head(h) for h in together(self.represent, views))
        return nt_xent(z0, z1, self.temperature)
