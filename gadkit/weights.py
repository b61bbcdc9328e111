"""Every set of weights that the book names, in one table, and the rules for getting at them.

The preset decides which ones a chapter gets: `tiny` is shipped with the package, `paper` is what was published.

Book: intro/run-it
"""

import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

ASSETS = Path(__file__).parent / "assets"
PRESETS = ("tiny", "paper")
SHIPPED = "use the shipped models with GADKIT_PRESET=tiny (on the command line: --preset tiny)."


class WeightsUnavailable(RuntimeError):
    """Published weights were asked for that are neither cached nor reachable."""


@dataclass(frozen=True)
class Weights:
    """Where a set of weights comes from: `id` names them in the library's hub, or is the file's address.

    `size` is in megabytes (millions of bytes), None where it is unknown; `card` is an address, or a file beside the
    weights.
    """

    library: str
    id: str
    licence: str
    size: float | None
    card: str


HUB = "https://huggingface.co/"


def _hub(id: str, licence: str, size: float) -> Weights:
    return Weights("timm", id, licence, size, HUB + id)


WEIGHTS: dict[tuple[str, str], Weights] = {
    ("clip", "tiny"): Weights("gadkit", "tiny-clip", "MIT", 5.1, "tiny-clip.md"),
    ("clip", "paper"): Weights(
        "open_clip",
        "ViT-B-16-plus-240/laion400m_e31",
        "MIT (open_clip)",
        833.0,
        "https://github.com/mlfoundations/open_clip",
    ),
    # all but DINOv2 learnt from ImageNet-1k alone, so that the method is what differs; SimCLR and SwAV are ResNet-50s
    ("vit", "paper"): _hub("timm/vit_base_patch16_224.augreg_in1k", "Apache-2.0", 346.0),
    ("convnext", "paper"): _hub("timm/convnext_base.fb_in1k", "Apache-2.0 (this copy), MIT (the authors')", 354.0),
    ("swin", "paper"): _hub("timm/swin_base_patch4_window7_224.ms_in1k", "MIT", 353.0),
    ("dino", "paper"): _hub("timm/vit_base_patch16_224.dino", "Apache-2.0", 343.0),
    ("dinov2", "paper"): _hub("timm/vit_base_patch14_reg4_dinov2.lvd142m", "Apache-2.0", 346.0),
    ("mae", "paper"): _hub("timm/vit_base_patch16_224.mae", "CC BY-NC 4.0", 343.0),
    ("mocov3", "paper"): _hub("nyu-visionx/moco-v3-vit-b", "unknown (this copy), CC BY-NC 4.0 (the authors')", 346.0),
    ("simclr", "paper"): _hub("lightly-ai/simclrv1-imagenet1k-resnet50-1x", "Apache-2.0", 103.0),
    ("swav", "paper"): Weights(
        "timm",
        "https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar",
        "CC BY-NC 4.0 (the repository's)",
        None,
        "https://github.com/facebookresearch/swav",
    ),
}

# megabytes of what `gadkit train NAME` made, one checkpoint for each method of Parts I and II
TRAINED = {
    "simclr": 2.6,
    "mocov3": 2.8,
    "byol": 2.7,
    "swav": 2.6,
    "dino": 2.7,
    "dinov2": 2.7,
    "mae": 2.7,
    "colourisation": 2.5,
    "inpainting": 2.6,
    "autoencoder": 2.7,
    "next-frame": 3.0,
    "rotation": 2.4,
    "jigsaw": 2.7,
    "relative-position": 2.5,
    "deepcluster": 2.5,
    "frame-order": 2.5,
    "free-labels": 2.6,
    "sight-and-sound": 2.8,
    "rgb-and-flow": 2.9,
    "vit": 2.5,
    "convnext": 2.5,
    "swin": 2.6,
}
WEIGHTS |= {(m, "tiny"): Weights("gadkit", m, "MIT", size, "representations.md") for m, size in TRAINED.items()}

UNPUBLISHED: dict[str, str] = {  # methods of the book that the paper preset cannot have, and why
    "byol": "its authors' checkpoint is a pickle for JAX",
    **dict.fromkeys(
        (
            *("colourisation", "inpainting", "autoencoder", "next-frame"),
            *("rotation", "jigsaw", "relative-position", "deepcluster", "frame-order"),
            *("free-labels", "sight-and-sound", "rgb-and-flow"),
        ),
        "what its authors published, if anything, is for networks and libraries of their day",
    ),
}


def preset(name: str | None = None) -> str:
    """The preset in force: `name`, else `GADKIT_PRESET`, else "tiny".  Raises ValueError for an unknown one."""
    name = name or os.environ.get("GADKIT_PRESET") or "tiny"
    if name not in PRESETS:
        raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    return name


def lookup(model: str, name: str | None = None) -> Weights:
    """The weights that `model` has under a preset.

    Raises ValueError for a model the table does not hold, `WeightsUnavailable` for one that was never published in a
    form that a library here loads.
    """
    key = (model, preset(name))
    if key[1] == "paper" and model in UNPUBLISHED:
        raise WeightsUnavailable(f"no library here loads published weights of {model}: {UNPUBLISHED[model]}; {SHIPPED}")
    if key not in WEIGHTS:
        raise ValueError(f"weights: expected one of {sorted({m for m, _ in WEIGHTS})}, got {model!r}")
    return WEIGHTS[key]


def load_state(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file: the only format the project ships, because reading it runs no code."""
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(f"weights: no file {path.name} in {path.parent}")
    return load_file(path)


def unavailable(weights: Weights, missing: str) -> WeightsUnavailable:
    """The error for weights that cannot be had here: which file is missing, and the two ways to get on."""
    size = "of unknown size" if weights.size is None else f"{weights.size:.0f} MB"
    return WeightsUnavailable(
        f"the weights {weights.id} ({size}, {weights.library}) are not cached here: {missing} is missing.  Either run "
        f"once with a network, so that the library can download them, or {SHIPPED}"
    )
