"""The network of a small OWL-ViT: transformers' own, with a CLIP's stem in place of its patch embedding, and its heads.

Source: Minderer et al., Simple Open-Vocabulary Object Detection with Vision Transformers, ECCV 2022.
Book: objects/open-vocabulary
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit.backbones.tiny import EYES, RealStem, Stem
from gadkit.checks import one_of
from gadkit.objects.vocabulary import byte_pairs

if TYPE_CHECKING:
    from transformers import OwlViTForObjectDetection, OwlViTProcessor

STEMS = ("patches", "convolutions", *EYES)
PATCHES = "owlvit.vision_model.embeddings.patch_embedding."
ELSEWHERE = (f"{PATCHES}eyes.",)  # in the eyes' own file
STEEP, RARE = 15.0, -5.0  # what a cosine is multiplied by at first, and the logit of one of 0
THRESHOLD = 0.1  # that of the published model


@dataclass(frozen=True)
class OwlConfig:
    """The architecture of a small OWL-ViT; the shipped weights carry theirs in their header."""

    image_size: int = 224
    patch_size: int = 16
    width: int = 160
    layers: int = 4
    head_width: int = 32
    text_width: int = 128  # also that of the vectors that images and words are compared by
    text_layers: int = 3
    context: int = 48
    mean: float = 0.5
    std: float = 0.5
    stem: str = EYES[0]  # one of `STEMS`; "patches" is the published linear one
    threshold: float = THRESHOLD


class _Real(RealStem):
    """The hybrid CLIP's stem; transformers asks a patch embedding for the type of its weight."""

    @property
    def weight(self) -> Tensor:
        """A weight of it."""
        return self.project.weight

    def forward(self, x: Float[Tensor, "b channels h w"]) -> Float[Tensor, "b width r c"]:
        """Tokens of images, or of the joined maps that the frozen eyes made of them earlier."""
        return self.refine(self.join(x) if x.shape[1] == 3 else x)


class _Convolutions(Stem):
    """The convolutional stem, likewise."""

    @property
    def weight(self) -> Tensor:
        """A weight of it."""
        return self[0].weight


def build(config: OwlConfig = OwlConfig()) -> "OwlViTForObjectDetection":
    """An untrained model of this architecture, from torch's global generator.

    Raises ValueError for an unknown stem.
    """
    from transformers import OwlViTConfig, OwlViTForObjectDetection

    one_of("stem", config.stem, STEMS)
    words = byte_pairs()
    text = {
        "vocab_size": len(words),
        "hidden_size": config.text_width,
        "intermediate_size": 4 * config.text_width,
        "num_hidden_layers": config.text_layers,
        "num_attention_heads": config.text_width // 32,
        "max_position_embeddings": config.context,
        "hidden_act": "gelu",
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": 0,
    }
    vision = {
        "hidden_size": config.width,
        "intermediate_size": 4 * config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.width // config.head_width,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "hidden_act": "gelu",
    }
    model = OwlViTForObjectDetection(
        OwlViTConfig(text_config=text, vision_config=vision, projection_dim=config.text_width)
    )
    if config.stem != "patches":
        stem = _Real(config.width, config.stem) if config.stem in EYES else _Convolutions(config.width)
        model.owlvit.vision_model.embeddings.patch_embedding = stem
    _begin_heads(model)
    return model.eval()


@torch.no_grad()
def _begin_heads(model: torch.nn.Module) -> None:
    """Heads to begin with: every token's box lies where the token does, and nearly every token is nothing.

    transformers draws them so wide that every box would fill the image or have no area, and no gradient.
    """
    box, label = model.box_head, model.class_head
    for layer in (box.dense0, box.dense1, box.dense2, label.dense0, label.logit_shift, label.logit_scale):
        layer.reset_parameters()
    for layer in (box.dense2, label.logit_shift, label.logit_scale):
        layer.weight.zero_(), layer.bias.zero_()
    label.logit_scale.bias.fill_(STEEP - 1), label.logit_shift.bias.fill_(RARE / STEEP)  # (cos + shift) (1 + scale)


def processor_for(config: OwlConfig) -> "OwlViTProcessor":
    """The processor of a small OWL-ViT: images squashed to a square, texts by the CLIP's byte pairs."""
    from transformers import OwlViTImageProcessor, OwlViTProcessor

    side = {"height": config.image_size, "width": config.image_size}
    images = OwlViTImageProcessor(size=side, image_mean=[config.mean] * 3, image_std=[config.std] * 3)
    return OwlViTProcessor(images, byte_pairs())
