"""The contracts that the package is built on: what a backbone gives, what a detector answers.

Read this file first.  Everything above it is written against these types, so a chapter can swap a tiny model of our own
for a published one, or one detector for another, without changing a line.

Book: anomaly/winclip
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

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
    """A frozen image encoder together with the preprocessing it was trained with."""

    image_size: int
    patch_size: int
    embed_dim: int

    def preprocess(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        """Resize and normalise raw images, as the weights expect them."""

    def encode_image(self, images: Float[Tensor, "b 3 s s"], layers: Sequence[int] = (-1,)) -> Tokens:
        """Encode preprocessed images; `layers` counts blocks from 0, or from the end when negative."""


@runtime_checkable
class Method(Protocol):
    """A way to learn an encoder without labels: an `nn.Module` with its own views and its own loss."""

    encoder: nn.Module
    collapse: float  # the loss of a network that tells nothing apart, to be shown beside the loss
    lr: float  # the peak learning rate of its recipe
    needs: str  # what it learns from: "images", or more than them
    transient: tuple[str, ...]  # the parts that serve learning only, and are not shipped

    def views(self, images: UInt8[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Make the views that the loss compares."""

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
