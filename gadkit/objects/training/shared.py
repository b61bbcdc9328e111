"""Scenes that several trainings share: rendered in pieces, each of which is a file beside the runs' folders.

Runs that begin side by side each begin with another piece and take from the others what is there already, so that
together they render every piece about once.  Two that make the same piece make the same file.

Book: objects/universal
"""

import json
import zlib
from dataclasses import asdict
from pathlib import Path

import torch

from gadkit import runtime, weights
from gadkit.checks import whole
from gadkit.factory import scenes
from gadkit.factory.scenes.words import Thing

SPLITS = ("seen", "randomised")  # in equal shares
SIZE = 128  # side of a scene in pixels
PIECE = 256  # scenes a file
PARTS = (2, 7)  # of a scene, at least and at most


def rendered(
    count: int, seed: int = 0, out: Path | None = None, split: str = "seen", size: int = SIZE
) -> scenes.Scenes:
    """`count` scenes of a split to learn from; those in `scenes` beside the folder `out` are not made again.

    Without `out` nothing is kept.  Raises ValueError for fewer than one scene.
    """
    numbers = range(-(-whole("count", count) // PIECE))
    begin = zlib.crc32(str(out).encode()) % len(numbers)
    made = {}
    for number in runtime.progress([*numbers[begin:], *numbers[:begin]], f"scenes, {split}"):
        some = min(PIECE, count - number * PIECE)
        name = f"{split}-{size}-{seed}-{number}-{some}.safetensors"
        path = None if out is None else Path(out).parent / "scenes" / name
        if path is not None and path.exists():
            made[number] = _read(path, split)
            continue
        made[number] = scenes.render(some, 64 * seed + number, size, split, PARTS)
        if path is not None:
            _write(made[number], path)
    return joined([made[number] for number in numbers])


def joined(some: list[scenes.Scenes]) -> scenes.Scenes:
    """Batches of scenes as one, whose classes are those of all."""
    classes = tuple(dict.fromkeys(name for one in some for name in one.classes))
    things = sum((one.things for one in some), ())
    return scenes.Scenes(
        torch.cat([one.images for one in some]), torch.cat([one.instances for one in some]), things, classes
    )


def both(count: int, seed: int = 0, out: Path | None = None) -> scenes.Scenes:
    """About `count` scenes, half of the seen categories and half of parts that do not exist."""
    return joined([rendered(-(-count // len(SPLITS)), seed, out, split) for split in SPLITS])


def _write(some: scenes.Scenes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    things = json.dumps([[asdict(thing) for thing in scene] for scene in some.things])
    weights.write({"images": some.images, "instances": some.instances}, path, {"things": things})


def _read(path: Path, split: str) -> scenes.Scenes:
    from safetensors.torch import load_file

    held = load_file(path)
    things = tuple(
        tuple(Thing(**{k: tuple(v) if isinstance(v, list) else v for k, v in thing.items()}) for thing in scene)
        for scene in json.loads(weights.header(path)["things"])
    )
    return scenes.Scenes(held["images"], held["instances"], things, scenes.object_categories(split))
