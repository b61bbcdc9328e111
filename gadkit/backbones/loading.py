"""The CLIP that a preset names.

Book: anomaly/winclip
"""

from pathlib import Path

from gadkit import runtime, weights
from gadkit.backbones.openclip import OpenCLIP
from gadkit.backbones.tiny import load_tiny_clip

PAPER = ("ViT-B-16-plus-240", "laion400m_e31")


def load_clip(preset: str | None = None, device: str | None = None, cache_dir: str | Path | None = None) -> OpenCLIP:
    """The CLIP that a preset names: `tiny` is shipped, `paper` is open_clip's ViT-B-16-plus-240 (LAION-400M, epoch 31).

    `cache_dir` is where open_clip looks for (and keeps) what it downloads; by default the hub's own cache.
    Raises ValueError for an unknown preset and `WeightsUnavailable` for weights neither cached nor reachable.
    """
    name, where = weights.preset(preset), runtime.device(device)
    if name == "tiny":
        clip = load_tiny_clip()
        clip.model.to(where)
        return clip
    import open_clip

    architecture, tag = PAPER
    cache = None if cache_dir is None else str(cache_dir)
    try:
        model = open_clip.create_model(architecture, pretrained=tag, device=where, cache_dir=cache)
    except RuntimeError as error:
        if "download" not in str(error):  # the file was there, and something is wrong with it
            raise
        repository = open_clip.get_pretrained_cfg(architecture, tag)["hf_hub"].strip("/")
        missing = f"open_clip_model.safetensors of {repository}"
        raise weights.unavailable(weights.lookup("clip", name), missing) from error
    return OpenCLIP(model, open_clip.get_tokenizer(architecture))
