"""The tiny CLIPs: open_clip's own `CLIP` class, small enough to train on a laptop.

Two things differ from a published one: convolutions stand in for the patch embedding (Xiao et al. 2021: early ones make
small vision transformers train well), and the tokenizer knows only the words of the factory's captions.  The
convolutions are either learnt from scratch, or the frozen stages of a network that has seen real photographs.

Book: anomaly/winclip
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gadkit import weights
from gadkit.backbones.openclip import OpenCLIP
from gadkit.checks import one_of
from gadkit.nn import private


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
    stem: str = "convolutions"  # or the eyes, one of `EYES`


ELSEWHERE = ("attn_mask", "visual.conv1.eyes.")  # computed, or in the eyes' own file
EYES = ("efficientnet-lite0", "efficientnet-random")
REAL = TinyConfig(image_size=224, patch_size=16, layers=4, mean=0.5, std=0.5, stem=EYES[0])


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


class Eyes(nn.Module):
    """EfficientNet-Lite0 up to its last stage, frozen: (b, 3, s, s) to maps of strides 8, 16 and 32.

    `name` is one of `EYES`: the shipped weights, or random ones by seed 0.
    """

    channels = (40, 112, 320)

    def __init__(self, name: str) -> None:
        super().__init__()
        with private.without_compiler():
            import timm
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = timm.create_model("tf_efficientnet_lite0")
        if name == EYES[0]:
            weights.fill(network, weights.read(weights.ASSETS / f"{name}.safetensors"), name)
        self.start, self.stages = nn.Sequential(network.conv_stem, network.bn1), network.blocks
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> "Eyes":
        """Batch norm keeps the statistics of the published weights in training, too."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "b 3 s s"]) -> tuple[Tensor, Tensor, Tensor]:
        """The maps after stages 2, 4 and 6: the last ones of their stride."""
        x, maps = self.start(x.contiguous(memory_format=torch.channels_last)), []
        for stage in self.stages:
            maps.append(x := stage(x))
        return maps[2], maps[4], maps[6]


class RealStem(nn.Module):
    """Frozen eyes in place of `VisionTransformer.conv1`: (b, 3, s, s) to (b, width, s / 16, s / 16).

    The three maps come on the grid of stride 16, the finer one unshuffled and the coarser one interpolated, and every
    channel is standardised by `mean` and `std`, which `standardise` sets.  A light convolutional layer follows.
    """

    def __init__(self, width: int, name: str) -> None:
        super().__init__()
        self.eyes = Eyes(name)
        fine, middle, coarse = self.eyes.channels
        joined = 4 * fine + middle + coarse
        self.register_buffer("mean", torch.zeros(joined, 1, 1))
        self.register_buffer("std", torch.ones(joined, 1, 1))
        self.drop = nn.Dropout2d(0.1)
        self.project = nn.Conv2d(joined, width, 1)
        self.norm = nn.GroupNorm(8, width)
        self.mix = nn.Sequential(
            nn.GELU(), nn.Conv2d(width, width, 3, padding=1, groups=width), nn.GELU(), nn.Conv2d(width, width, 1)
        )

    def join(self, x: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b e r c"]:
        """The three maps on one grid."""
        fine, middle, coarse = self.eyes(x)
        coarse = F.interpolate(coarse, middle.shape[2:], mode="bilinear")
        return torch.cat([F.pixel_unshuffle(fine, 2), middle, coarse], 1)

    def standardise(self, images: Float[Tensor, "b 3 s s"]) -> None:
        """Take each channel's mean and deviation over some typical images."""
        std, mean = torch.std_mean(self.join(images).float(), (0, 2, 3))
        self.mean.copy_(mean[:, None, None]), self.std.copy_(std[:, None, None] + 1e-2)  # half precision can hold them

    def forward(self, x: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b width r c"]:
        """Tokens of patches, as a map."""
        return self.refine(self.join(x))

    def refine(self, joined: Float[Tensor, "b e r c"]) -> Float[Tensor, "b width r c"]:
        """The same from the joined maps on: what learns."""
        x = self.norm(self.project(self.drop((joined - self.mean) / self.std)))
        return x + self.mix(x)


def build_tiny_clip(config: TinyConfig = TinyConfig()) -> nn.Module:
    """An untrained model of this architecture, from torch's global generator."""
    with private.without_compiler():
        import open_clip
    one_of("stem", config.stem, ("convolutions", *EYES))
    stride = 16 if config.stem in EYES else 8
    if config.patch_size != stride:
        raise ValueError(f"patch_size: expected {stride}, the stride of the stem, got {config.patch_size}")
    vision = {"image_size": config.image_size, "patch_size": stride, "width": config.width, "layers": config.layers}
    text = {"context_length": config.context, "width": config.text_width, "layers": config.text_layers}
    text |= {"vocab_size": tokenizer().vocab_size, "heads": config.text_width // 32}
    model = open_clip.CLIP(
        config.embed,
        vision | {"head_width": config.head_width},
        text,
        init_logit_scale=math.log(10),
        init_logit_bias=-2.0,  # a sigmoid loss starts near its class balance: Zhai et al. 2023, section 3.2
    )
    model.visual.conv1 = RealStem(config.width, config.stem) if config.stem in EYES else Stem(config.width)
    open_clip.set_model_preprocess_cfg(model, {"mean": (config.mean,) * 3, "std": (config.std,) * 3})
    return model


def tokenizer() -> Callable[[list[str]], Tensor]:
    """open_clip's byte-pair tokenizer with the merges of the captions' words."""
    with private.without_compiler():
        import open_clip

    merges = weights.verified(weights.ASSETS / "tiny-bpe.txt.gz")
    return open_clip.SimpleTokenizer(str(merges), context_length=TinyConfig.context)


def save(model: nn.Module, config: TinyConfig, path: Path) -> None:
    """Write half-precision weights with their architecture in the header; the file appears when it is whole."""
    state = {name: value for name, value in model.state_dict().items() if not name.startswith(ELSEWHERE)}
    weights.write(state, path, {"config": json.dumps(asdict(config))})


def load(
    source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None
) -> OpenCLIP:
    """The tiny CLIP from `file` or the shipped checkpoint, or the same architecture untrained.

    Raises FileNotFoundError for a file that is not there, ValueError for a damaged one or another model's.
    """
    untrained = source.options.get("random")
    path = file or weights.ASSETS / f"{'clip' if untrained else source.id}.safetensors"
    held = weights.header(path)
    try:
        config = TinyConfig(**json.loads(held["config"]))
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"weights: expected a header with a tiny CLIP's config in {path.name}, got another") from error
    if untrained and config.stem in EYES:
        config = replace(config, stem=EYES[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_tiny_clip(config)
    if not untrained:
        weights.fill(model, weights.read(path), "a tiny CLIP", ELSEWHERE)
    return OpenCLIP(model.to(where), tokenizer())
