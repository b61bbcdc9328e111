"""What a model that reads pictures answers: captions, answers to questions, and how well a text fits.

Book: multimodal/words
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


@runtime_checkable
class Reader(Protocol):
    """A model that writes a caption of a photograph and answers questions about it."""

    @property
    def device(self) -> torch.device:
        """Where the network lies."""

    def caption(self, images: UInt8[Tensor, "b 3 h w"]) -> list[str]:
        """A caption of each image."""

    def answer(self, images: UInt8[Tensor, "b 3 h w"], questions: Sequence[str]) -> list[str]:
        """An answer to the question that belongs to each image.  Raises ValueError for an empty question."""


@runtime_checkable
class Matcher(Protocol):
    """A reader that also says how well texts fit."""

    def match(self, images: UInt8[Tensor, "b 3 h w"], texts: Sequence[str]) -> Float[Tensor, "b t"]:
        """The probability, by image-text matching, that each text fits each image."""
