"""The supervised baseline: timm's ViT, ConvNeXt or Swin learns the categories of the pool, with their labels.

It sees the photographs that the self-supervised methods see, as often as they do, in views like theirs but milder: a
label is a promise that the view still shows the thing, and a small crop or another colour may break it.

Source: Dosovitskiy et al. 2021; Liu et al. 2021; Liu et al. 2022.  Label smoothing: Szegedy et al. 2016, section 7.
Book: selfsup/supervised
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gadkit import factory
from gadkit.checks import check_images, describe
from gadkit.data.views import Views
from gadkit.factory.pool import RANDOMISED
from gadkit.method import MethodBase
from gadkit.nn.baselines import tiny_model
from gadkit.protocols import Recipe

CLASSES = len(factory.split("seen")) + len(RANDOMISED)  # of the standard pool


class Supervised(MethodBase):
    """Cross-entropy of a linear classifier on one view of each image; `encoder` is what is kept of it.

    `architecture` is "vit", "convnext" or "swin", with about as many parameters as the book's own transformer.
    `smoothing` is the share of belief that the target spreads over all classes.  Raises ValueError for another
    architecture, fewer than two classes, or a smoothing outside [0, 1).  Betas and decay are those of DeiT
    (Touvron et al. 2021, table 9), the learning rate at this batch is eight times as high as its 1.25e-4,
    and there is no stochastic depth.
    """

    needs = ("images", "labels")
    recipe = Recipe(betas=(0.9, 0.999))

    def __init__(self, architecture: str = "vit", classes: int = CLASSES, smoothing: float = 0.1) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"classes: expected at least 2, got {classes}")
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing: expected a share in [0, 1), got {smoothing}")
        self.encoder = tiny_model(architecture)
        self.head = nn.Linear(self.encoder.head_hidden_size, classes)
        self.classes, self.smoothing = classes, smoothing
        self.view = Views(scale=(0.35, 1.0), strength=0.5)

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """One view of each of `batch["images"]` (uint8), and `batch["labels"]` (n,) from 0 to `classes` - 1.

        Raises ValueError for a batch without these two columns, or labels that are no such numbers.
        """
        images, labels = self.columns(batch)
        if labels.shape != (len(images),) or labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(f"labels: expected {len(images)} whole numbers, got {describe(labels)}")
        if not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
            raise ValueError(
                f"labels: expected numbers from 0 to {self.classes - 1}, got {labels.min()} to {labels.max()}"
            )
        return [self.view(check_images(images)), labels]

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes"]:
        """The classifier's logits for normalised images."""
        return self.head(self.encoder(images))

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """Cross-entropy with the smoothed labels; a mean over this process's images."""
        images, labels = views
        return F.cross_entropy(self(images), labels.long(), label_smoothing=self.smoothing)

    def collapse(self, batch_size: int) -> float:
        """The logarithm of the number of classes: all alike, whatever the image; true with smoothing, too."""
        return math.log(self.classes)
