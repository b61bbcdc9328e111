"""Every method of Parts I and II by its name: how it is built, what it learns from, its recipe and its shipped weights.

All of them see the same number of photographs of the same factory, so their representations can be compared.  A
checkpoint is a safetensors file in half precision; its header says how to build the network that it belongs to.

Book: selfsup/comparison
"""

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from gadkit import distributed, files, runtime, weights
from gadkit.protocols import Method
from gadkit.train import Plan, learn

PHOTOGRAPHS = 49_152  # that a method sees; a clip of eight frames counts as eight
CLIPS = 1536  # as many frames as the pool has photographs


@dataclass(frozen=True)
class Recipe:
    """A class by its address, the data it asks for, and what its constructor is given."""

    build: str
    options: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 128  # samples a step
    frames: int = 1  # photographs a sample


RECIPES: dict[str, Recipe] = {
    "simclr": Recipe("gadkit.selfsup:SimCLR"),
    "mocov3": Recipe("gadkit.selfsup:MoCoV3"),
    "byol": Recipe("gadkit.selfsup:BYOL"),
    "swav": Recipe("gadkit.selfsup:SwAV"),
    "dino": Recipe("gadkit.selfsup:DINO"),
    "dinov2": Recipe("gadkit.selfsup:DINO", {"ibot": 1.0, "koleo": 0.1, "registers": 4, "balance": "sinkhorn"}),
    "mae": Recipe("gadkit.selfsup:MAE"),
    "colourisation": Recipe("gadkit.pretext:Colourisation"),
    "inpainting": Recipe("gadkit.pretext:Inpainting"),
    "autoencoder": Recipe("gadkit.pretext:Autoencoder"),
    "next-frame": Recipe("gadkit.pretext:NextFrame", batch=16, frames=8),
    "rotation": Recipe("gadkit.pretext:Rotation"),
    "jigsaw": Recipe("gadkit.pretext:Jigsaw"),
    "relative-position": Recipe("gadkit.pretext:RelativePosition"),
    "deepcluster": Recipe("gadkit.pretext:DeepCluster"),
    "frame-order": Recipe("gadkit.pretext:FrameOrder", batch=16, frames=8),
    "free-labels": Recipe("gadkit.pretext:FreeLabels"),
    "sight-and-sound": Recipe("gadkit.pretext:SightAndSound", batch=16, frames=8),
    "rgb-and-flow": Recipe("gadkit.pretext:RGBAndFlow", batch=16, frames=8),
    "vit": Recipe("gadkit.supervised:Supervised", {"architecture": "vit"}),
    "convnext": Recipe("gadkit.supervised:Supervised", {"architecture": "convnext"}),
    "swin": Recipe("gadkit.supervised:Supervised", {"architecture": "swin"}),
}


def build(name: str, **options: Any) -> Method:
    """A method before training; `options` overrule its recipe's.  Raises ValueError for an unknown name."""
    recipe = _recipe(name)
    module, attribute = recipe.build.split(":")
    return getattr(importlib.import_module(module), attribute)(**{**recipe.options, **options})


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise ValueError(f"method: expected one of {', '.join(RECIPES)}, got {name!r}")
    return RECIPES[name]


def plan_of(name: str, method: Method, photographs: int = PHOTOGRAPHS) -> Plan:
    """The plan that shows a method so many photographs, by the recipe of its class."""
    recipe = _recipe(name)
    return Plan.of(method, max(1, photographs // (recipe.batch * recipe.frames)), recipe.batch)


def train(name: str, out: Path, photographs: int = PHOTOGRAPHS, seed: int = 0) -> Path:
    """Train a method by its recipe, or go on training, and write `out/NAME.safetensors`; return its path.

    Under `accelerate launch` every process takes its share of each batch, and the first one writes.  Raises ValueError
    where `out` cannot be written to, or holds an unfinished or finished training of another method, length or seed.
    """
    if photographs < 1:
        raise ValueError(f"photographs: expected at least 1, got {photographs}")
    where = distributed.start() or runtime.device()
    if distributed.rank() == 0:
        files.writable(out, "out")  # before the photographs are rendered
    runtime.seed_everything(seed)
    method = build(name).to(where)
    plan = plan_of(name, method, photographs)
    data = training_data(method.needs, seed)
    seconds = learn(method, data, plan, Path(out), seed, name)
    path = Path(out) / f"{name}.safetensors"
    if distributed.rank() == 0:
        facts = {"photographs": photographs, "steps": plan.steps, "seed": seed, "seconds": round(seconds, 1)}
        save(method, name, path, facts | {"device": str(where), "torch": torch.__version__})
    return path


def training_data(needs: Sequence[str], seed: int = 0) -> Mapping[str, Tensor]:
    """What a method learns from, by the columns in its `needs`."""
    asked = {*needs}
    if asked and asked <= {"images", "labels"}:
        from gadkit.factory.pool import unlabelled

        pool = unlabelled(seed=seed)
        return {"images": pool.images, "labels": pool.labels}
    if asked == {"images", "height", "materials"}:
        from gadkit.factory import geometry

        return geometry.unlabelled(seed=seed).columns()
    if asked in ({"frames"}, {"frames", "flow"}, {"frames", "sound"}):
        from gadkit.factory.films import mechanics, motion, sound

        if "sound" not in asked:
            return motion.clips(CLIPS, seed).columns()
        clips = motion.clips(CLIPS, seed, actions=mechanics.HEARD)  # of the others there is nothing to hear
        return {"frames": clips.frames, "sound": sound.hear(clips)}
    raise ValueError(
        "needs: expected images, with or without labels, images with height and materials, or frames, alone or with "
        f"flow or sound, got {', '.join(needs) or 'nothing'}"
    )


def save(method: Method, name: str, path: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Write a method's weights in half precision, whole or not at all, without what it only needs while it learns."""
    kept = {k: v for k, v in method.state_dict().items() if not k.startswith(tuple(method.transient))}
    half = {k: (v.half() if v.is_floating_point() else v).cpu().contiguous() for k, v in kept.items()}
    header = {
        "method": name,
        "options": json.dumps(dict(_recipe(name).options)),
        "facts": json.dumps(dict(facts or {})),
    }
    part = path.with_name(path.name + ".part")
    save_file(half, part, header)
    part.chmod(0o644)  # the library writes for the owner only
    os.replace(part, path)


def load(name: str, path: Path | None = None) -> Method:
    """A trained method, in evaluation mode: the shipped one, or the one in `path`.

    Raises FileNotFoundError where there is no checkpoint, ValueError where it belongs to another method.
    """
    _recipe(name)
    path = weights.ASSETS / f"{name}.safetensors" if path is None else Path(path)
    state = {
        key: tensor.float() if tensor.is_floating_point() else tensor
        for key, tensor in weights.load_state(path).items()
    }
    if (held := facts(path)["method"]) != name:
        raise ValueError(f"weights: expected those of {name} in {path.name}, got those of {held}")
    method = build(name)
    missing, unexpected = method.load_state_dict(state, strict=False)
    if unexpected or [key for key in missing if not key.startswith(tuple(method.transient))]:
        raise ValueError(f"weights: expected a state of {name}, got one without {missing} and with {unexpected}")
    return method.eval()


def facts(path: Path) -> dict[str, Any]:
    """What a checkpoint's header says: the method, its options, and how it was trained."""
    with safe_open(path, "pt") as file:
        header = file.metadata() or {}
    if "method" not in header:
        raise ValueError(f"weights: expected a header with the method's name, got {header or 'none'} in {path.name}")
    return {"method": header["method"], "options": json.loads(header["options"]), **json.loads(header["facts"])}
