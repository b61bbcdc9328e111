"""A small Florence-2: its architecture, its words, its processor; transformers' own classes throughout.

The published vision tower is a DaViT from its first convolution on.  Ours has one stage of it, behind the frozen eyes
that the package ships, in place of the first convolution; with `stem="davit"` it is a whole small DaViT.

Source: Xiao et al., Florence-2, CVPR 2024; Ding et al., DaViT, ECCV 2022; Lewis et al., BART, ACL 2020.
Book: multimodal/florence2
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gadkit import weights
from gadkit.backbones.tiny import EYES, RealStem
from gadkit.checks import one_of
from gadkit.multimodal.florence_words import tokenizer
from gadkit.multimodal.location import BINS

if TYPE_CHECKING:
    from transformers import Florence2ForConditionalGeneration, Florence2Processor

STEMS = (*EYES, "davit")
TASKS = ("<CAPTION>", "<OD>", "<REFERRING_EXPRESSION_SEGMENTATION>", "<REGION_TO_DESCRIPTION>")
TASKS = (*TASKS, "<OPEN_VOCABULARY_DETECTION>")  # those that the small one learns
PARSED = ("pure_text", "polygons", "description_with_polygons", "description_with_bboxes_or_polygons", "bboxes", "ocr")
PARSED = (*PARSED, "phrase_grounding", "description_with_bboxes")  # what the processor is told that it may parse


@dataclass(frozen=True)
class FlorenceConfig:
    """The architecture of a small Florence-2; the shipped weights carry theirs in their header."""

    image_size: int = 192
    width: int = 144  # of image tokens and words
    layers: int = 3  # of BART's encoder, and of its decoder
    head_width: int = 24
    context: int = 192  # tokens that the encoder reads, those of the image included
    answer: int = 64  # tokens of the longest answer
    stem: str = EYES[0]  # one of `STEMS`

    @property
    def grid(self) -> int:
        """Image tokens along a side."""
        return self.image_size // 16


class _Real(RealStem):
    """The frozen eyes as the first convolution of a DaViT, whose type of weights transformers asks for."""

    @property
    def conv(self) -> nn.Conv2d:
        """The layer that learns first."""
        return self.project

    def forward(self, x: Float[Tensor, "b channels h w"]) -> Float[Tensor, "b width r c"]:
        """A map of images, or of the joined maps that the frozen eyes made of them earlier."""
        return self.refine(self.join(x) if x.shape[1] == 3 else x)


def processor_for(config: FlorenceConfig, words: str) -> "Florence2Processor":
    """The processor of a small Florence-2: images squashed to a square, task tokens turned into sentences."""
    from transformers import CLIPImageProcessor, Florence2Processor

    side = {"height": config.image_size, "width": config.image_size}
    images = CLIPImageProcessor(size=side, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    images.image_seq_length = config.grid**2 + 1  # and their mean
    return Florence2Processor(images, tokenizer(words), post_processor_config={kind: {} for kind in PARSED})


def build(config: FlorenceConfig, words: str) -> "Florence2ForConditionalGeneration":
    """An untrained model, from torch's global generator.  Raises ValueError for an unknown stem."""
    from transformers import Florence2Config, Florence2ForConditionalGeneration, GenerationConfig

    real, tokens = one_of("stem", config.stem, STEMS) in EYES, tokenizer(words)
    heads, ends = config.width // config.head_width, {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    text = ends | {"model_type": "bart", "vocab_size": len(tokens), "d_model": config.width}
    text |= {"decoder_start_token_id": 2, "max_position_embeddings": max(config.context, config.answer)}
    for part in ("encoder", "decoder"):
        text |= {f"{part}_layers": config.layers, f"{part}_ffn_dim": 2 * config.width}
        text |= {f"{part}_attention_heads": heads}
    last = config.width
    stages = {"embed_dim": (last, last), "depths": (0, 1), "patch_size": (7, 3), "patch_padding": (3, 1)}
    stages |= {"patch_stride": (4, 1), "patch_prenorm": (False, True)}  # the first convolution gives way to the eyes
    if not real:
        stages = {"embed_dim": (32, 64, 96, last), "depths": (1, 1, 2, 1), "patch_stride": (4, 2, 2, 1)}
    groups = [max(1, dim // config.head_width) for dim in stages["embed_dim"]]
    vision = stages | {"num_heads": groups, "num_groups": groups, "window_size": config.grid, "mlp_ratio": 2.0}
    vision |= {"projection_dim": config.width, "max_position_embeddings": config.grid, "max_temporal_embeddings": 4}
    vision |= {"drop_path_rate": 0.0}
    model = Florence2ForConditionalGeneration(
        Florence2Config(vision_config=vision, text_config=text, image_token_id=tokens.image_token_id)
    )
    if real:
        model.model.vision_tower.convs[0] = _Real(config.width, config.stem)
    _begin_locations(model, tokens.convert_tokens_to_ids("<loc_0>"))
    model.generation_config = GenerationConfig(**ends, decoder_start_token_id=2, max_new_tokens=config.answer - 1)
    return model.eval()


@torch.no_grad()
def _begin_locations(model: nn.Module, first: int) -> None:
    """Neighbouring bins begin with alike vectors: sines and cosines of the place, from half a wave to 32 of them."""
    table = model.get_input_embeddings().weight
    waves = 0.5 * 64 ** torch.linspace(0, 1, table.shape[1] // 2)
    angles = 2 * torch.pi * (torch.arange(BINS) + 0.5)[:, None] / BINS * waves  # (bins, width / 2)
    table[first : first + BINS] = 0.03 * torch.cat([angles.sin(), angles.cos()], 1)


TIED = ("lm_head.", "model.language_model.encoder.embed_tokens.", "model.language_model.decoder.embed_tokens.")
ELSEWHERE = (*TIED, "model.vision_tower.convs.0.eyes.")  # the same as the words' vectors, or in the eyes' own file


def save(model: nn.Module, config: FlorenceConfig, words: str, path: Path, facts: Mapping[str, object]) -> None:
    """Write half-precision weights, with their architecture, words and how they were made in the header."""
    state = {name: value for name, value in model.state_dict().items() if not name.startswith(ELSEWHERE)}
    held = {"florence": json.dumps(asdict(config)), "words": words, "facts": json.dumps(dict(facts))}
    weights.write(state, path, held)
