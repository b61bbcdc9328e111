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

from gadkit.backbones.openclip import OpenCLIP
from gadkit.weights import ASSETS, load_state

MERGES = ASSETS / "tiny-bpe.txt.gz"
WEIGHTS = ASSETS / "tiny-clip.safetensors"


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

    return SimpleTokenizer(str(MERGES), context_length=TinyConfig.context)


def save_tiny_clip(model: nn.Module, config: TinyConfig, path: Path = WEIGHTS) -> None:
    """Write half-precision weights with their architecture in the header; the file appears when it is whole."""
    from safetensors.torch import save_file

    state = {k: v.detach().half().contiguous().cpu() for k, v in model.state_dict().items() if k != "attn_mask"}
    part = path.with_suffix(".part")
    save_file(state, part, {"config": json.dumps(asdict(config))})
    part.chmod(0o644)  # the library writes for the owner only
    part.replace(path)


def load_tiny_clip(path: Path = WEIGHTS, random: bool = False) -> OpenCLIP:
    """The shipped model, on the CPU; `random` gives the same architecture untrained, the control of every table.

    Raises FileNotFoundError where there is no such file.
    """
    from safetensors import safe_open

    state = load_state(path)
    with safe_open(path, "pt") as file:
        config = TinyConfig(**json.loads(file.metadata()["config"]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_tiny_clip(config)
    if not random:
        missing, unexpected = model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
        if unexpected or set(missing) - {"attn_mask"}:
            raise ValueError(
                f"tiny CLIP: {path.name} does not fit its config: missing {missing}, unexpected {unexpected}"
            )
    return OpenCLIP(model, tokenizer())
