"""The tiny CLIP: open_clip's own `CLIP` class, small enough to train from scratch on a laptop.

Two things differ from a published one: early convolutions stand in for the patch embedding (Xiao et al. 2021: they make
small vision transformers train well), and the tokenizer knows only the words of the factory's captions.

Book: anomaly/winclip
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gadkit import weights
from gadkit.backbones.openclip import OpenCLIP


@dataclass(frozen=True)
class TinyConfig:
    """The architecture; the shipped weights carry theirs in their header."""

    image_size: int = 96
    patch_size: int = 8
    width: int = 160
    layers: int = 5
    head_width: int = 32
    text_width: int = 128
    text_layers: int = 3
    context: int = 48  # WinCLIP's prompts take up to 24 tokens, a noun that is spelt out some more
    embed: int = 128
    mean: float = 0.45  # of the factory's photographs, per channel alike
    std: float = 0.27


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(8, width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x plus what the convolutions make of it."""
        return x + self.layers(x)


class Stem(nn.Sequential):
    """Early convolutions in place of `VisionTransformer.conv1`: (b, 3, s, s) to (b, width, s / 8, s / 8)."""

    def __init__(self, width: int) -> None:
        channels = (3, 32, 64, width)
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(channels)):
            layers += [nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.GroupNorm(8, b), nn.GELU()]
            layers += [Residual(b)] * (i == 1)
        super().__init__(*layers, nn.Conv2d(width, width, 1))


def build_tiny_clip(config: TinyConfig = TinyConfig()) -> nn.Module:
    """An untrained model of this architecture, from torch's global generator."""
    import open_clip
    from open_clip.model import CLIP

    if config.patch_size != 8:
        raise ValueError(f"patch_size: expected 8, the stride of the convolutional stem, got {config.patch_size}")
    vision = {"image_size": config.image_size, "patch_size": 8, "width": config.width, "layers": config.layers}
    text = {"context_length": config.context, "width": config.text_width, "layers": config.text_layers}
    text |= {"vocab_size": tokenizer().vocab_size, "heads": config.text_width // 32}
    model = CLIP(
        config.embed,
        vision | {"head_width": config.head_width},
        text,
        init_logit_scale=math.log(10),
        init_logit_bias=-2.0,  # a sigmoid loss starts near its class balance: Zhai et al. 2023, section 3.2
    )
    model.visual.conv1 = Stem(config.width)
    open_clip.set_model_preprocess_cfg(model, {"mean": (config.mean,) * 3, "std": (config.std,) * 3})
    return model


def tokenizer() -> Callable[[list[str]], Tensor]:
    """open_clip's byte-pair tokenizer with the merges of the captions' words."""
    from open_clip.tokenizer import SimpleTokenizer

    merges = weights.verified(weights.ASSETS / "tiny-bpe.txt.gz")
    return SimpleTokenizer(str(merges), context_length=TinyConfig.context)


def save(model: nn.Module, config: TinyConfig, path: Path) -> None:
    """Write half-precision weights with their architecture in the header; the file appears when it is whole."""
    state = {name: value for name, value in model.state_dict().items() if name != "attn_mask"}
    weights.write(state, path, {"config": json.dumps(asdict(config))})


def load(
    source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None
) -> OpenCLIP:
    """The tiny CLIP from `file` or the shipped checkpoint, or the same architecture untrained.

    Raises FileNotFoundError for a file that is not there, ValueError for a damaged one or another model's.
    """
    path = file or weights.ASSETS / "tiny-clip.safetensors"
    held = weights.header(path)
    try:
        config = TinyConfig(**json.loads(held["config"]))
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"weights: expected a header with a tiny CLIP's config in {path.name}, got another") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_tiny_clip(config)
    if not source.options.get("random"):
        weights.fill(model, weights.read(path), "a tiny CLIP", ("attn_mask",))
    return OpenCLIP(model.to(where), tokenizer())
