"""The weights of an open_clip CLIP by the names that transformers' OWL-ViT has for them.

Book: objects/open-vocabulary
"""

from collections.abc import Mapping

from torch import Tensor

_BLOCK = {
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "attn.out_proj.": "self_attn.out_proj.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
}
_NAMES = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.": "vision_model.pre_layernorm.",
    "visual.ln_post.": "vision_model.post_layernorm.",
    "visual.conv1.": "vision_model.embeddings.patch_embedding.",
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "token_embedding.": "text_model.embeddings.token_embedding.",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.": "text_model.final_layer_norm.",
    "transformer.resblocks.": "text_model.encoder.layers.",
}


def from_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an open_clip CLIP by the names of OWL-ViT's two towers, its image projection as the class head's.

    Raises ValueError for a name that a CLIP of ours does not have.
    """
    found = {}
    for name, value in state.items():
        if name in ("logit_scale", "logit_bias", "attn_mask"):
            found |= {"owlvit.logit_scale": value} if name == "logit_scale" else {}
        elif name == "visual.proj":
            found |= {"owlvit.visual_projection.weight": value.T, "class_head.dense0.weight": value.T}
        elif name == "text_projection":
            found["owlvit.text_projection.weight"] = value.T
        else:
            found |= _renamed(name, value)
    return {name: value.contiguous() for name, value in found.items()}


def _renamed(name: str, value: Tensor) -> dict[str, Tensor]:
    old = next((old for old in _NAMES if name.startswith(old)), None)
    if old is None:
        raise ValueError(f"weights: expected those of a CLIP, got {name}")
    new = f"owlvit.{_NAMES[old]}{name.removeprefix(old)}"
    if ".attn.in_proj_" in new:
        stem, kind = new.split("attn.in_proj_")
        return {f"{stem}self_attn.{p}_proj.{kind}": v for p, v in zip("qkv", value.chunk(3), strict=True)}
    for before, after in _BLOCK.items():
        new = new.replace(before, after) if "encoder.layers" in new else new
    return {new: value}
