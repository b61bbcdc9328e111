"""What an object model answers: masks for prompts, boxes for words, segments for a task.

Coordinates are pixels of the image that was given: x to the right, y downwards, (0, 0) the outer corner of the first
pixel.  A box is (left, top, right, bottom); its right and bottom edges lie beyond its last pixel.

Book: objects/sam, objects/open-vocabulary, objects/universal
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Masks:
    """The answer to p prompts on one image: m masks each, with the overlap (IoU) that the model expects of each.

    `logits` are the masks before they were enlarged and cut at 0; they can be given back as a prompt.
    """

    masks: Bool[Tensor, "p m h w"]
    iou: Float[Tensor, "p m"]
    logits: Float[Tensor, "p m l l"]

    def best(self) -> Bool[Tensor, "p h w"]:
        """Of each prompt the mask that the model trusts most."""
        return self.masks[torch.arange(len(self.iou), device=self.iou.device), self.iou.argmax(1)]


@dataclass(frozen=True)
class Boxes:
    """The k boxes found in one image, the surest first; `labels` are places in the list of texts.  k may be 0."""

    boxes: Float[Tensor, "k 4"]
    scores: Float[Tensor, "k"]
    labels: Int[Tensor, "k"]


@dataclass(frozen=True)
class Segments:
    """The k segments of one image: a mask, the place of its class in `classes`, and a score each.  k may be 0."""

    masks: Bool[Tensor, "k h w"]
    labels: Int[Tensor, "k"]
    scores: Float[Tensor, "k"]


@runtime_checkable
class Promptable(Protocol):
    """A segmenter that encodes an image once and answers many prompts about it."""

    image_size: int  # the longer side, in pixels, of the image that the network sees

    @property
    def device(self) -> torch.device:
        """Where the network lies."""

    def set_image(self, image: UInt8[Tensor, "3 h w"]) -> "Promptable":
        """Encode an image: the expensive thing, once."""

    def predict(
        self,
        points: Float[Tensor, "p n 2"] | None = None,
        labels: Int[Tensor, "p n"] | None = None,
        boxes: Float[Tensor, "p 4"] | None = None,
        logits: Float[Tensor, "p l l"] | None = None,
        several: bool = True,
    ) -> Masks:
        """Masks for p prompts on the image that was set: clicks (label 1 on the object, 0 off it), boxes or both.

        `several` asks for three masks a prompt (whole, part, part of a part), else one.  Raises RuntimeError before
        `set_image`, and ValueError for no prompt, one outside the image, and a box that is upside down.
        """


@runtime_checkable
class OpenVocabulary(Protocol):
    """A detector that finds what words name."""

    @property
    def device(self) -> torch.device:
        """Where the network lies."""

    def detect(
        self, images: UInt8[Tensor, "b 3 h w"], texts: Sequence[str], threshold: float | None = None
    ) -> list[Boxes]:
        """The boxes of what the texts name, an answer an image; by default at the model's own threshold.

        No object found is an answer with no box.  Raises ValueError for no text, or one that is empty.
        """


@runtime_checkable
class Universal(Protocol):
    """A segmenter for every task: "semantic", "instance" and "panoptic"."""

    classes: tuple[str, ...]  # their names; a label is a place in this list

    @property
    def device(self) -> torch.device:
        """Where the network lies."""

    def segment(self, images: UInt8[Tensor, "b 3 h w"], task: str = "panoptic") -> list[Segments]:
        """The segments of each image.  Raises ValueError for another task."""
