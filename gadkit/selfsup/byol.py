"""BYOL: predict what a slower copy of the network makes of another view; no negatives.

Source: Grill et al. 2020, section 3.
Book: selfsup/byol
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gadkit.checks import share
from gadkit.data.views import pair
from gadkit.losses import byol_loss
from gadkit.nn import ViT, cosine_momentum, ema_update, mlp, teacher_of
from gadkit.protocols import Recipe
from gadkit.selfsup.base import SelfSupervised, together


class BYOL(SelfSupervised):
    """A predictor on the student, a teacher that follows it, and no negatives.

    `predictor` False and `momentum` 0 are the two ways to let it collapse.  The value shown as `collapse` is
    0: this loss does not show it, so watch the representation's rank.

    Made for runs of minutes: the teacher's momentum starts from 0.95 and not from the paper's 0.99 or 0.996, the heads
    end in batch norm, and AdamW takes the place of LARS, at this transformer's rate and decay.
    """

    recipe = Recipe(lr=2e-3)
    transient = ("teacher.",)

    def __init__(
        self,
        encoder: ViT | None = None,
        *,
        width: int = 256,
        out: int = 128,
        momentum: float = 0.95,
        predictor: bool = True,
    ) -> None:
        super().__init__(encoder)
        # normalised at the end too, as in SimSiam (Chen and He 2021): without it short runs hardly leave the start
        self.head = mlp((self.encoder.width, width, out), last_norm=True)
        self.predictor = mlp((out, width, out)) if predictor else nn.Identity()
        self.teacher = teacher_of(nn.Sequential(self.encoder, self.head))
        self.view = pair(self.size)
        self.momentum = share("momentum", momentum, zero=True)

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Two views of each of `batch["images"]`: the first always blurred, the second seldom (table 6)."""
        (images,) = self.columns(batch)
        return [view(images) for view in self.view]

    def collapse(self, batch_size: int) -> float:
        """0, at every batch: a network that maps all inputs to one point predicts perfectly."""
        return 0.0

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """Each view's prediction of the teacher's projection of the other: eq. 2, symmetrised, so from 0 to 8."""
        p = [self.predictor(self.head(h)) for h in together(self.represent, views)]
        with torch.no_grad():
            z = [self.teacher[1](tokens[:, 0]) for tokens in together(self.teacher[0], views)]
        return byol_loss(p[0], z[1]) + byol_loss(p[1], z[0])

    def after_step(self, progress: float) -> None:
        """The teacher follows, ever more slowly; with `momentum` 0 it has the student's own weights again."""
        momentum = cosine_momentum(progress, self.momentum) if self.momentum else 0.0
        ema_update(self.teacher, nn.Sequential(self.encoder, self.head), momentum)
