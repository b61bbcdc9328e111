"""The contracts that the package is built on: what a backbone gives, what a detector answers.

Read this file first.  Everything above it is written against these types, so a chapter can swap a tiny model of our own
for a published one, or one detector for another, without changing a line.

Book: anomaly/winclip
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn


@dataclass(frozen=True)
class Tokens:
    """What a vision transformer sees in a batch of images.

    `pooled` is the image vector (the backbone's own choice of CLS, mean or attention pool); `patches` holds one
    tensor a requested layer, row-major and without prefix tokens (layers may differ in width); `grid` is
    (rows, columns) with n = rows * columns.
    """

    pooled: Float[Tensor, "b d"]
    patches: tuple[Float[Tensor, "b n _"], ...]
    grid: tuple[int, int]


@runtime_checkable
class Backbone(Protocol):
    """A frozen image encoder together with the preprocessing it was trained with.

    Its layers are blocks or stages.  All of them come on one `grid` of patches, `patch_size` pixels wide; in its own
    network a layer may have had another width, which `strides` tells.
    """

    image_size: int  # side of a preprocessed image, in pixels
    patch_size: int  # side of a patch, in pixels
    grid: tuple[int, int]  # rows and columns of patches
    embed_dim: int  # length of an image vector
    depth: int  # number of layers
    strides: tuple[int, ...]  # pixels from one position to the next in each layer's own network
    patch_layers: tuple[int, ...]  # the layers that describe a patch well, unless one knows better

    @property
    def device(self) -> torch.device:
        """Where the network lies; preprocessed images may lie elsewhere."""

    def preprocess(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        """Resize and normalise raw images, as the weights expect them."""

    def encode_image(self, images: Float[Tensor, "b 3 s s"], layers: Sequence[int] = (-1,)) -> Tokens:
        """Encode preprocessed images; `layers` counts blocks from 0, or from the end when negative."""


@dataclass(frozen=True)
class Recipe:
    """The constants of AdamW with which a method is trained: data, from which `gadkit.train.Plan.of` makes a plan.

    `lr` is the peak learning rate at `batch` samples a step; another batch scales it in proportion.  `weight_decay`
    goes along half a cosine to `weight_decay_end`, if there is one.  `warmup` is a share of the steps.
    """

    lr: float = 1e-3
    batch: int = 128
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    weight_decay_end: float | None = None
    clip: float = 1.0  # the longest gradient; infinite: none is shortened
    warmup: float = 0.1


@runtime_checkable
class Method(Protocol):
    """A way to learn an encoder: an `nn.Module` with its own views and its own loss."""

    encoder: nn.Module
    needs: tuple[str, ...]  # the columns of a batch that `views` takes, such as "images"
    pool: str  # what stands for an image afterwards: "cls", the class token, or "mean", that of the patch tokens
    lr: float  # the peak learning rate of its recipe
    recipe: Recipe
    transient: tuple[str, ...]  # prefixes of the parts that serve learning only, and are not shipped

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Make the views that the loss compares, from a mapping that holds a tensor (b, ...) for each of `needs`."""

    def collapse(self, batch_size: int) -> float:
        """The loss of a network that tells nothing apart, to be shown beside the loss; NaN where it depends on data."""

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """The objective of one step."""

    def after_step(self, progress: float) -> Sequence[nn.Parameter] | None:
        """What follows the optimiser's step (teacher average, centre, prototypes); `progress` runs from 0 to 1.

        Parameters that are returned begin anew: the optimiser forgets what it knew of them.
        """


@dataclass(frozen=True)
class AnomalyResult:
    """A detector's answer for a batch of images: higher means more anomalous.

    `maps` has the height and width of the images that were given, `scores` one number an image.
    """

    maps: Float[Tensor, "b h w"]
    scores: Float[Tensor, "b"]


class Detector(Protocol):
    """An anomaly detector, by scikit-learn's rules.

    Hyper-parameters go to `__init__`, and what is learnt by `fit` ends in an underscore.
    """

    def fit(self, normal: UInt8[Tensor, "k 3 h w"] | None = None) -> "Detector":
        """Learn from k normal images; None asks for zero-shot detection."""

    def score(self, images: UInt8[Tensor, "b 3 h w"]) -> AnomalyResult:
        """Score images and every pixel of them."""
