"""Every method of Parts I and II by its name: its class, how it is trained, and how its checkpoint is written and read.

All of them learn from photographs of the same factory, by default from the same number of them.  A checkpoint is a
safetensors file in half precision; its header says how many photographs it has seen, and how to build its network.

Book: selfsup/comparison
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from gadkit import __version__, distributed, files, pretext, runtime, selfsup, weights
from gadkit.checks import one_of
from gadkit.protocols import Method
from gadkit.supervised import Supervised
from gadkit.train import Plan, learn

PHOTOGRAPHS = 49_152  # of a short run, an eighth of what shipped weights saw; a clip of eight frames counts as eight
CLIPS = 6144  # with four times as many frames as the pool has photographs: those of a clip are much alike


@dataclass(frozen=True)
class Training:
    """A method's class, what its constructor is given, and how many photographs make one sample."""

    build: Callable[..., Method]
    options: Mapping[str, Any] = field(default_factory=dict)
    frames: int = 1  # photographs a sample


TRAININGS: dict[str, Training] = {
    "simclr": Training(selfsup.SimCLR),
    "mocov3": Training(selfsup.MoCoV3),
    "byol": Training(selfsup.BYOL),
    "swav": Training(selfsup.SwAV),
    "dino": Training(selfsup.DINO),
    "dinov2": Training(selfsup.DINO, {"ibot": 1.0, "koleo": 0.1, "registers": 4, "balance": "sinkhorn"}),
    "mae": Training(selfsup.MAE),
    "colourisation": Training(pretext.Colourisation),
    "inpainting": Training(pretext.Inpainting),
    "autoencoder": Training(pretext.Autoencoder),
    "next-frame": Training(pretext.NextFrame, frames=8),
    "rotation": Training(pretext.Rotation),
    "jigsaw": Training(pretext.Jigsaw),
    "relative-position": Training(pretext.RelativePosition),
    "deepcluster": Training(pretext.DeepCluster),
    "frame-order": Training(pretext.FrameOrder, frames=8),
    "free-labels": Training(pretext.FreeLabels),
    "sight-and-sound": Training(pretext.SightAndSound, frames=8),
    "rgb-and-flow": Training(pretext.RGBAndFlow, frames=8),
    "vit": Training(Supervised, {"architecture": "vit"}),
    "convnext": Training(Supervised, {"architecture": "convnext"}),
    "swin": Training(Supervised, {"architecture": "swin"}),
}


def build(name: str, **options: Any) -> Method:
    """A method before training; `options` overrule its row's.  Raises ValueError for an unknown name."""
    training = training_of(name)
    return training.build(**{**training.options, **options})


def training_of(name: str) -> Training:
    """The row of a method.  Raises ValueError for an unknown name."""
    return TRAININGS[one_of("method", name, TRAININGS)]


def plan_of(name: str, method: Method, photographs: int = PHOTOGRAPHS) -> Plan:
    """The plan that shows a method so many photographs, by the recipe of its class."""
    samples = photographs // training_of(name).frames
    return Plan.of(method, max(1, samples // method.recipe.batch))


def train(name: str, out: Path, photographs: int = PHOTOGRAPHS, seed: int = 0, data: Path | None = None) -> Path:
    """Train a method as its row says, or go on training, and write `out/NAME.safetensors`; return its path.

    Trainings that are given the same folder `data` render its photographs once, and find them there.
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
    seconds = learn(method, training_data(method.needs, seed, data), plan, Path(out), seed, name)
    path = Path(out) / f"{name}.safetensors"
    if distributed.rank() == 0:
        facts = {"photographs": photographs, "steps": plan.steps, "seed": seed, "seconds": round(seconds, 1)}
        save(method, name, path, facts | files.provenance(where))
    return path


def training_data(needs: Sequence[str], seed: int = 0, folder: Path | None = None) -> Mapping[str, Tensor]:
    """The training data of a method, by the columns in its `needs`; kept in `folder`, if one is given.

    A folder may serve several trainings at once: the first one renders, and the others wait.
    """
    render, columns = _source(needs)
    if folder is None:
        return render(seed)
    from filelock import FileLock
    from safetensors.torch import load_file

    what = json.dumps([*columns, seed, __version__])
    path = files.writable(Path(folder), "data") / f"{'-'.join(columns)}-{seed}.safetensors"
    with FileLock(path.with_suffix(".lock")):
        if not path.exists() or weights.header(path).get("what") != what:
            weights.write(render(seed), path, {"what": what})
    return load_file(path)


def _source(needs: Sequence[str]) -> tuple[Callable[[int], Mapping[str, Tensor]], tuple[str, ...]]:
    """The function of a seed that renders what is needed, and the columns that it gives."""
    asked = {*needs}
    if asked and asked <= {"images", "labels"}:
        return _photographs, ("images", "labels")
    if asked == {"images", "height", "materials"}:
        from gadkit.factory import geometry

        return lambda seed: geometry.unlabelled(seed=seed).columns(), ("images", "height", "materials")
    if asked in ({"frames"}, {"frames", "flow"}):
        from gadkit.factory.films import motion

        return lambda seed: motion.clips(CLIPS, seed).columns(), ("frames", "flow")
    if asked == {"frames", "sound"}:
        return _films_with_sound, ("frames", "sound")
    raise ValueError(
        "needs: expected images, with or without labels, images with height and materials, or frames, alone or with "
        f"flow or sound, got {', '.join(needs) or 'nothing'}"
    )


def _photographs(seed: int) -> dict[str, Tensor]:
    from gadkit.factory.pool import unlabelled

    pool = unlabelled(seed=seed)
    return {"images": pool.images, "labels": pool.labels}


def _films_with_sound(seed: int) -> dict[str, Tensor]:
    from gadkit.factory.films import mechanics, motion, sound

    clips = motion.clips(CLIPS, seed, actions=mechanics.AUDIBLE)  # the others make no sound
    return {"frames": clips.frames, "sound": sound.spectrograms(clips)}


def save(method: Method, name: str, path: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Write a method's weights in half precision, whole or not at all, without what it only needs while it learns."""
    kept = {k: v for k, v in method.state_dict().items() if not k.startswith(tuple(method.transient))}
    options = json.dumps(dict(training_of(name).options))
    weights.write(kept, Path(path), {"method": name, "options": options, "facts": json.dumps(dict(facts or {}))})


def load(name: str, path: Path | None = None) -> Method:
    """A trained method with its heads, in evaluation mode: the shipped one, or the one in `path`.

    `gadkit.zoo.load(name, gives="method")` is the door to it.  Raises FileNotFoundError where there is no checkpoint,
    ValueError where it is damaged or belongs to another method.
    """
    training_of(name)
    path = weights.ASSETS / f"{name}.safetensors" if path is None else Path(path)
    state = weights.read_method(path, name)
    method = build(name)
    weights.fill(method, state, name, tuple(method.transient))
    return method.eval()
