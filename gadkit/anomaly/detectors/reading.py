"""Detectors that read: what those that compare images with descriptions of good and damaged parts have in common.

Book: anomaly/winclip
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gadkit.anomaly.detectors.base import Base
from gadkit.anomaly.prompts import PromptEnsemble
from gadkit.backbones.openclip import OpenCLIP
from gadkit.checks import TextCut, describe


class Reading(Base):
    """A detector on a CLIP, for an object by its name.  Subclasses set `chunk`, tokens that are encoded at once."""

    backbone: OpenCLIP
    chunk: int

    def __init__(self, backbone: OpenCLIP, object_name: str, prompts: PromptEnsemble) -> None:
        if not isinstance(backbone, OpenCLIP) or not isinstance(prompts, PromptEnsemble):
            raise ValueError(
                f"expected an OpenCLIP and a PromptEnsemble, got {describe(backbone)}, {describe(prompts)}"
            )
        prompts.texts(object_name)  # complains about a bad name here, not in fit
        self.backbone, self.object_name, self.prompts = backbone, object_name, prompts

    def remarks(self) -> list[str]:
        """Whether the prompts fit into the model's context."""
        texts = [text for group in self.prompts.texts(self.object_name) for text in group]
        if not (cut := self.backbone.full(texts)):
            return []
        return [
            f"the name fills this model's {self.backbone.context_length} tokens: {cut} of {len(texts)} prompts are "
            "probably cut off before they say whether the part is damaged; use a short, common English name"
        ]

    def _pool(self, texts: Sequence[str], normalised: bool) -> Float[Tensor, "d"]:
        """The direction of the mean of text vectors, raw or made unit vectors before."""
        with warnings.catch_warnings(
            action="ignore", category=TextCut
        ):  # `remarks` says what is too long, once for all prompts
            vectors = self.backbone.encode_text(texts)  # (n, d)
        vectors = F.normalize(vectors, dim=-1) if normalised else vectors
        return F.normalize(vectors.mean(dim=0), dim=0)

    def _group(self) -> int:
        """As many images as have their tokens in a chunk, at least one."""
        return images_of(self.backbone, self.chunk)

    def _parsed(self, name: str, value: Any) -> Any:
        if name == "prompts":
            return PromptEnsemble(**{field: tuple(texts) for field, texts in value.items()})
        return super()._parsed(name, value)


def images_of(clip: OpenCLIP, chunk: int) -> int:
    """How many images have their tokens in a chunk, at least one."""
    rows, columns = clip.grid
    return max(1, chunk // (1 + rows * columns))
