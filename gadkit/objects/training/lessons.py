"""Scenes to learn from, encoded once by the frozen eyes.

Book: objects/universal
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit import runtime
from gadkit.checks import whole
from gadkit.factory.scenes.words import Thing
from gadkit.objects import eyes
from gadkit.objects.training import shared
from gadkit.objects.training.shared import SPLITS

SIZE = 192  # side of the square that the eyes see
CHUNK = 64  # scenes encoded at once


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


def lessons(
    count: int,
    seed: int = 0,
    split: Sequence[str] = SPLITS,
    folder: Path | None = None,
    sight: str = eyes.NAMES[0],
) -> Lessons:
    """About `count` scenes, in equal shares from the splits, encoded where models run; see `shared.rendered`.

    `sight` names the eyes.  Raises ValueError for fewer than one scene, and for other eyes than `eyes.NAMES`.
    """
    whole("count", count)
    where = runtime.device()
    network, made = eyes.build(sight).to(where), []
    some = shared.joined([shared.rendered(-(-count // len(split)), seed, folder, name) for name in split])
    for images in runtime.progress(some.images.split(CHUNK), "encoding"):
        made.append([level.half().contiguous() for level in network(eyes.prepare(images.to(where), SIZE))])
    maps = tuple(torch.cat(levels) for levels in zip(*made, strict=True))
    return Lessons(maps, some.instances, some.things)
