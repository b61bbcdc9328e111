"""Scenes to learn from, encoded once by the frozen eyes and kept in the run's folder.

Book: objects/universal
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit import runtime, weights
from gadkit.checks import whole
from gadkit.factory import scenes
from gadkit.factory.scenes.words import Thing
from gadkit.objects import eyes

SCENE, SIZE = 128, 192  # side of a scene, and of the square that the eyes see
CHUNK = 64  # scenes rendered and encoded at once
SPLITS = ("seen", "randomised")  # in turns


@dataclass(frozen=True)
class Lessons:
    """b scenes: the eyes' maps in half precision, who is where, and the things of each scene."""

    maps: tuple[Float[Tensor, "b _ _ _"], ...]
    instances: UInt8[Tensor, "b s s"]
    things: tuple[tuple[Thing, ...], ...]

    def __len__(self) -> int:
        return len(self.instances)

    def draw(self, some: Sequence[int]) -> list[Float[Tensor, "n _ _ _"]]:
        """The maps of some scenes in full precision."""
        return [level[some].float() for level in self.maps]


def lessons(count: int, seed: int = 0, split: Sequence[str] = SPLITS, folder: Path | None = None) -> Lessons:
    """About `count` scenes, in turns from the splits; those in `folder`, if it holds the same, are not made again.

    Raises ValueError for fewer than one scene.
    """
    whole("count", count)
    what = json.dumps([count, seed, *split, SCENE, SIZE])
    path = None if folder is None else Path(folder) / "lessons.safetensors"
    if path is not None and path.exists() and weights.header(path).get("what") == what:
        return _read(path)
    sight, made = eyes.build(), []
    per = -(-count // len(split))
    for name in split:
        for start in runtime.progress(range(0, per, CHUNK), f"scenes, {name}"):
            made.append(_encode(sight, scenes.render(min(CHUNK, per - start), 64 * seed + start // CHUNK, SCENE, name)))
    maps = tuple(torch.cat(levels) for levels in zip(*(m.maps for m in made), strict=True))
    held = Lessons(maps, torch.cat([m.instances for m in made]), sum((m.things for m in made), ()))
    if path is not None:
        things = json.dumps([[asdict(thing) for thing in scene] for scene in held.things])
        state = {f"map.{i}": level for i, level in enumerate(maps)} | {"instances": held.instances}
        weights.write(state, path, {"what": what, "things": things})
    return held


def _encode(sight: eyes.Eyes, some: scenes.Scenes) -> Lessons:
    maps = tuple(level.half().contiguous() for level in sight(eyes.prepare(some.images, SIZE)))
    return Lessons(maps, some.instances, some.things)


def _read(path: Path) -> Lessons:
    from safetensors.torch import load_file

    held = load_file(path)
    things = tuple(
        tuple(Thing(**{k: tuple(v) if isinstance(v, list) else v for k, v in thing.items()}) for thing in scene)
        for scene in json.loads(weights.header(path)["things"])
    )
    return Lessons(tuple(held[f"map.{i}"] for i in range(4)), held["instances"], things)
