"""SwAV: sort views into clusters that are all used equally, and predict one view's cluster from another.

Source: Caron et al. 2020, section 3.
Book: selfsup/swav
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gadkit.checks import positive, whole
from gadkit.data.views import multi_crop
from gadkit.losses import swav_loss
from gadkit.nn import Prototypes, ViT, mlp
from gadkit.selfsup.base import SelfSupervised, together


class SwAV(SelfSupervised):
    """Prototypes, Sinkhorn's balanced assignments, and many small crops beside two large ones.

    `frozen` is the share of training at whose beginning the prototypes do not move.  `queue` keeps the projections of
    so many earlier images for each large view; from the share `queue_from` of training on, once it is full, they take
    part in the balancing, which a batch that is small beside the number of prototypes needs.  The paper trains a ResNet
    by LARS, with a decay of 1e-6 and a queue of 3,840; the recipe is AdamW's for this transformer, without a queue.
    """

    transient = ("queue",)

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
        queue: int = 0,
        queue_from: float = 0.05,
    ) -> None:
        super().__init__(encoder)
        self.head = mlp((self.encoder.width, width, out))
        self.prototypes = Prototypes(out, prototypes)
        self.temperature, self.epsilon = positive("temperature", temperature), positive("epsilon", epsilon)
        self.small, self.frozen, self.queue_from = small, frozen, queue_from
        self.register_buffer("still", torch.tensor(frozen > 0))
        self.register_buffer("queue", torch.zeros(2, whole("queue", queue, 0), out))
        self.register_buffer("queued", torch.tensor(0))
        self.register_buffer("queue_on", torch.tensor(queue_from <= 0))

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Of each of `batch["images"]` two large views, then small ones of half the side."""
        (images,) = self.columns(batch)
        return multi_crop(images, 2, self.small, (self.size, self.half))

    def collapse(self, batch_size: int) -> float:
        """Log k, at every batch: all prototypes are as near."""
        return math.log(len(self.prototypes.weight))

    def project(self, views: list[Tensor]) -> Float[Tensor, "v b d"]:
        """The head's output for all views, run once over all of them: they share the statistics of its batch norm."""
        return self.head(torch.cat(together(self.represent, views))).unflatten(0, (len(views), -1))

    def scores(self, views: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b k"]:
        """Cosines of views of one size with the prototypes."""
        return self.prototypes(self.head(self.represent(views)))

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """Swapped prediction, eq. 2 and 6; the prototypes do not move at the beginning of training."""
        z, still, earlier = self.project(views), bool(self.still), []
        if self.queue.shape[1] and self.queue_on and self.queued >= self.queue.shape[1]:
            with torch.no_grad():
                earlier = [self.prototypes(rows) for rows in self.queue]
        scores = [self.prototypes(one, still) for one in z]
        loss = swav_loss(scores, self.temperature, self.epsilon, queue=earlier)
        if self.training and self.queue.shape[1]:
            self._remember(z[:2].detach())
        return loss

    def _remember(self, z: Float[Tensor, "2 b d"]) -> None:
        """The newest projections, of unit length, push the oldest out."""
        room = self.queue.shape[1]
        self.queue.copy_(torch.cat([F.normalize(z.float(), dim=2), self.queue], 1)[:, :room])
        self.queued.add_(z.shape[1])

    def after_step(self, progress: float) -> None:
        """Prototypes go back to unit length, and may move once the beginning is over; then the queue may begin."""
        self.prototypes.normalise()
        self.still.fill_(progress < self.frozen)
        self.queue_on.fill_(progress >= self.queue_from)
