"""Clusters as labels: group the network's features, then learn to classify the groups, again and again.

Book: pretext/context
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from gadkit import distributed
from gadkit.checks import check_images, one_of
from gadkit.data.views import colour_jitter, denormalise, grey, greyscale, normalise, resize, to_float
from gadkit.nn.ema import ema_update, teacher_of
from gadkit.nn.vit import ViT
from gadkit.pretext.base import Pretext, weighted_cross_entropy
from gadkit.search.kmeans import assign, kmeans


class DeepCluster(Pretext):
    """Pseudo-labels by k-means on the network's own features (Caron et al. 2018): `collapse` is log k.

    After every `bank` photographs these are clustered by their whitened features; then the classifier starts from zero,
    and the loss from log k.  Until the next time a photograph keeps the cluster in which the network of that moment put
    it: a network that moved its own labels could put everything into one cluster, and be right.  Two more trivial
    answers are possible.  One cluster for (nearly) everything: `balance` weighs each label by its cluster's inverse
    size.  Clusters by colour: `colour="keep"` allows them, "grey" takes the colour out of what is clustered, as the
    paper's Sobel filter does, while the crops to learn from keep their colours, jittered.
    """

    transient = ("bank", "filled", "sorter.", "clusterings", "mean", "whitening", "centres", "sizes")
    rounds = 20  # iterations of k-means

    def __init__(
        self,
        encoder: ViT | None = None,
        clusters: int = 64,
        bank: int = 4096,
        components: int = 16,
        colour: str = "grey",
        balance: bool = True,
        size: int = 64,
    ) -> None:
        super().__init__(encoder, size)
        width = self.encoder.width
        if not 2 <= clusters <= bank or not 1 <= components <= width:
            raise ValueError(
                f"clusters: expected 2 to {bank} (the bank) of 1 to {width} components, got {clusters} of {components}"
            )
        self.colour, self.balance = one_of("colour", colour, ("keep", "grey")), balance
        self.head = nn.Linear(width, clusters)
        self.sorter = teacher_of(self.encoder)  # the network that made the present clusters
        self.register_buffer("bank", torch.zeros(bank, 3, size, size, dtype=torch.uint8))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))
        self.register_buffer("clusterings", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("whitening", torch.eye(width)[:, :components].clone())
        self.register_buffer("centres", torch.zeros(clusters, components))
        self.register_buffer("sizes", torch.ones(clusters))

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Each photograph whole, whose cluster is the label, and a crop of it to learn from."""
        (images,) = self.columns(batch)
        first, second = resize(check_images(images), self.size), self.photographs(images)
        if self.colour == "grey":
            first, second = grey(first).expand_as(first), greyscale(colour_jitter(second))
        return [normalise(first), normalise(second)]

    @torch.no_grad()
    def labels(self, features: Float[Tensor, "b w"]) -> Int[Tensor, "b"]:
        """The cluster of each row."""
        with torch.autocast(features.device.type, enabled=False):
            return assign(self.whiten(features.float()), self.centres)

    def whiten(self, features: Float[Tensor, "b w"]) -> Float[Tensor, "b c"]:
        """Principal components of unit variance, then unit length, as in the paper's section 4.1."""
        return F.normalize((features - self.mean) @ self.whitening, dim=1)

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """Cross-entropy against the clusters; in training, the photographs go to the bank."""
        first, second = views
        if self.training:
            self._keep(distributed.gather((denormalise(first) * 255).round().clamp(0, 255).byte()))
        labels = self.labels(self._sorted(first))
        weight = self.sizes.clamp(min=1).reciprocal() if self.balance else None
        logits = self.head(self.features(second)).float()
        return F.cross_entropy(logits, labels) if weight is None else weighted_cross_entropy(logits, labels, weight)

    def collapse(self, batch_size: int) -> float:
        """Log k: all clusters alike."""
        return math.log(len(self.centres))

    def after_step(self, progress: float) -> Sequence[nn.Parameter]:
        """Cluster again when the bank is full, and return whose training begins anew: the classifier's parameters."""
        if self.filled < len(self.bank):
            return ()
        self._renew(self.bank)
        self.filled.zero_()
        return tuple(self.head.parameters())

    def _keep(self, photographs: UInt8[Tensor, "b 3 s s"]) -> None:
        """Into the bank; the very first batch is clustered at once, so that there are labels."""
        if self.clusterings == 0:
            self._renew(photographs)
        room = photographs[: len(self.bank) - int(self.filled)]
        self.bank[self.filled : self.filled + len(room)] = room
        self.filled += len(room)

    def _renew(self, photographs: UInt8[Tensor, "n 3 s s"]) -> None:
        """Cluster photographs by their present features, and keep a copy of the network that gave them."""
        ema_update(self.sorter, self.encoder, 0.0)
        self.recluster(torch.cat([self._sorted(normalise(to_float(part))) for part in photographs.split(256)]))

    @torch.no_grad()
    def _sorted(self, views: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b w"]:
        """Features of the network that made the clusters, in full precision: whitening magnifies small differences."""
        with torch.autocast(views.device.type, enabled=False):
            return self.sorter(views)[:, self.sorter.prefix :].mean(1)

    @torch.no_grad()
    def recluster(self, features: Float[Tensor, "n w"]) -> None:
        """Whiten, cluster, and start the classifier from zero.  Every process comes to the same result."""
        generator = torch.Generator().manual_seed(int(self.clusterings))
        with torch.autocast(features.device.type, enabled=False):
            self.mean.copy_(features.mean(0))
            spread, axes = torch.linalg.eigh(torch.cov(features.T))  # ascending
            largest = slice(-self.whitening.shape[1], None)
            spread = spread.clamp(min=1e-5 * spread[-1] + 1e-12)  # axes along which nothing varies stay as they are
            self.whitening.copy_(axes[:, largest] * spread[largest].rsqrt())
            found = kmeans(self.whiten(features), len(self.centres), generator, iterations=self.rounds)
        self.centres.copy_(found.centres)
        self.sizes.copy_(found.assignment.bincount(minlength=len(self.sizes)))
        self.clusterings += 1
        self.head.weight.zero_()
        self.head.bias.zero_()
