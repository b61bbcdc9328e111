"""MoCo v3: keys from a teacher that follows slowly, and a vision transformer that stays stable.

Source: Chen, Xie and He 2021, algorithm 1 and section 4.
Book: selfsup/mocov3
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gadkit.checks import positive, share
from gadkit.data.views import pair
from gadkit.losses import info_nce
from gadkit.nn import ViT, cosine_momentum, ema_update, mlp, teacher_of
from gadkit.protocols import Recipe
from gadkit.selfsup.base import SelfSupervised, together


class MoCoV3(SelfSupervised):
    """Queries from the student and a predictor, keys from the teacher; each view is once the query, once the key.

    `fixed_patches` keeps the patch embedding at its random values, the paper's remedy for unstable training.  Views,
    decay, betas and the lack of clipping are the official code's.  Its learning rate, 7.5e-5 at this batch, is for
    hundreds of epochs of a network seventy times as large.
    """

    recipe = Recipe(lr=1e-3, betas=(0.9, 0.999), weight_decay=0.1, clip=math.inf)
    transient = ("teacher.",)

    def __init__(
        self,
        encoder: ViT | None = None,
        *,
        temperature: float = 0.2,
        width: int = 256,
        out: int = 128,
        momentum: float = 0.99,
        fixed_patches: bool = True,
    ) -> None:
        super().__init__(encoder)
        self.head = mlp((self.encoder.width, width, width, out), last_norm=True)
        self.predictor = mlp((out, width, out), last_norm=True)
        if fixed_patches:
            self.encoder.patch.requires_grad_(False)
        self.teacher = teacher_of(nn.Sequential(self.encoder, self.head))
        self.view = pair(self.size)
        self.temperature, self.momentum = positive("temperature", temperature), share("momentum", momentum, zero=True)

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Two views of each of `batch["images"]`, by BYOL's two recipes."""
        (images,) = self.columns(batch)
        return [view(images) for view in self.view]

    def collapse(self, batch_size: int) -> float:
        """4 tau log n: of n keys all are as near as the right one, in both directions."""
        return 4 * self.temperature * math.log(batch_size)

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """Symmetrised InfoNCE between the student's queries and the teacher's keys."""
        q = [self.predictor(self.head(h)) for h in together(self.represent, views)]
        with torch.no_grad():
            k = [self.teacher[1](tokens[:, 0]) for tokens in together(self.teacher[0], views)]
        return info_nce(q[0], k[1], self.temperature) + info_nce(q[1], k[0], self.temperature)

    def after_step(self, progress: float) -> None:
        """The teacher follows, ever more slowly: its momentum rises to 1 along half a cosine."""
        ema_update(self.teacher, nn.Sequential(self.encoder, self.head), cosine_momentum(progress, self.momentum))
