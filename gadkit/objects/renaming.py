"""SAM's weights under the names of transformers' `SamModel`, and the configuration that fits them.

Book: objects/sam
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from gadkit.objects.architecture import SamConfig

NAMES = {  # patterns of segment_anything's names, and transformers' for them, in this order
    r"^image_encoder\.": "vision_encoder.",
    r"neck\.0": "neck.conv1",
    r"neck\.1": "neck.layer_norm1",
    r"neck\.2": "neck.conv2",
    r"neck\.3": "neck.layer_norm2",
    r"patch_embed\.proj": "patch_embed.projection",
    r"\.norm": ".layer_norm",
    r"\.blocks\.": ".layers.",
    r"mask_downscaling\.0": "mask_embed.conv1",
    r"mask_downscaling\.1": "mask_embed.layer_norm1",
    r"mask_downscaling\.3": "mask_embed.conv2",
    r"mask_downscaling\.4": "mask_embed.layer_norm2",
    r"mask_downscaling\.6": "mask_embed.conv3",
    r"point_embeddings": "point_embed",
    r"pe_layer\.positional_encoding_gaussian_matrix": "shared_embedding.positional_embedding",
    r"output_upscaling\.0": "upscale_conv1",
    r"output_upscaling\.1": "upscale_layer_norm",
    r"output_upscaling\.3": "upscale_conv2",
    r"(iou_prediction_head|output_hypernetworks_mlps\.\d)\.layers\.0": r"\1.proj_in",
    r"(iou_prediction_head|output_hypernetworks_mlps\.\d)\.layers\.1": r"\1.layers.0",
    r"(iou_prediction_head|output_hypernetworks_mlps\.\d)\.layers\.2": r"\1.proj_out",
}
SHARED = "prompt_encoder.shared_embedding.positional_embedding"


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state of segment_anything's `Sam` under the names of `SamModel`, which holds the positions' table twice."""
    found = {}
    for name, tensor in state.items():
        for pattern, other in NAMES.items():
            name = re.sub(pattern, other, name)
        found[name] = tensor
    return found | {"shared_image_embedding.positional_embedding": found[SHARED]}


def transformers_config(config: SamConfig) -> dict[str, Any]:
    """The arguments of `SamConfig` in transformers.  Raises ValueError for a network with eyes beside its patches."""
    if config.eyes:
        raise ValueError(f"config: expected an image encoder of SAM's own, got one with {config.eyes} beside it")
    vision = {
        "hidden_size": config.width,
        "output_channels": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "image_size": config.size,
        "patch_size": config.patch,
        "window_size": config.window,
        "global_attn_indexes": list(config.everywhere),
        "mlp_dim": 4 * config.width,
        "num_pos_feats": config.dim // 2,
    }
    prompts = {
        "hidden_size": config.dim,
        "image_size": config.size,
        "patch_size": config.patch,
        "mask_input_channels": 8,
    }
    decoder = {
        "hidden_size": config.dim,
        "mlp_dim": 4 * config.dim,
        "num_attention_heads": 4,
        "iou_head_hidden_dim": config.dim,
    }
    return {"vision_config": vision, "prompt_encoder_config": prompts, "mask_decoder_config": decoder}
