"""Several parts on one photograph: overlapping, scaled and turned, with names, colours, boxes, masks and depth order.

    >>> from gadkit.factory import scenes
    >>> some = scenes.render(2, size=64)
    >>> tuple(some.images.shape), len(some.things), some.masks(0).shape[0] == len(some.things[0])
    ((2, 3, 64, 64), 2, True)

Parts of each category are rendered in whole batches and laid on the table with their cover as alpha.  A scene is the
same in any batch: all of its numbers are drawn by name (`factory.draw`).

Book: intro/factory
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from gadkit.checks import checked, one_of, share, whole
from gadkit.factory.scenes.compose import compose
from gadkit.factory.scenes.orders import MOST_PARTS, object_categories, orders
from gadkit.factory.scenes.words import Thing, describe
from gadkit.factory.seeds import FIRST_SCENES, POOLS, SCENES

__all__ = ["Scenes", "Thing", "object_categories", "render"]

PURPOSES = {"seen": "training", "randomised": "training", "development": "development", "held-out": "test"}
_CHUNK = 512  # scenes whose parts are rendered together


@dataclass(frozen=True)
class Scenes:
    """A batch of scenes.

    `instances` are 0 on background and clutter, else 1 + the place in `things[i]`, which run from bottom to top.
    `classes` are the categories that the scenes were drawn from.
    """

    images: UInt8[Tensor, "b 3 s s"]
    instances: UInt8[Tensor, "b s s"]
    things: tuple[tuple[Thing, ...], ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, some: slice) -> "Scenes":
        if not isinstance(some, slice):
            raise ValueError(f"scenes: expected a slice such as scenes[2:5], got {some!r}")
        return Scenes(self.images[some], self.instances[some], self.things[some], self.classes)

    def masks(self, i: int) -> Bool[Tensor, "k s s"]:
        """The visible masks of the things of scene i, bottom to top.  Raises ValueError for a scene there is not."""
        whole("scene", i, 0, len(self) - 1)
        places = torch.arange(1, 1 + len(self.things[i]), dtype=torch.uint8)
        return self.instances[i] == places[:, None, None]


@checked
@torch.inference_mode()
def render(
    count: int,
    seed: int = 0,
    size: int = 128,
    split: str = "seen",
    parts: tuple[int, int] = (2, 6),
    defective: float = 0.25,
    purpose: str | None = None,
) -> Scenes:
    """`count` scenes of parts of the object categories in a split, a share of the parts `defective`.

    A scene has `parts[0]` to `parts[1]` parts; a part that would hardly be visible is left out.  `size` is the side in
    pixels.  `purpose` chooses the range of seeds: "training", "development" or "test", by default what the split is
    for.  The same arguments give the same scenes, and fewer of them give the first ones.

    Raises ValueError for a count outside 1 to 262,144, another seed than 0 to 4095, a side outside 32 to 1024, an
    unknown split or purpose, numbers of parts outside 1 to 12 or upside down, or a share outside [0, 1].
    """
    whole("count", count, 1, SCENES), whole("seed", seed, 0, POOLS - 1), whole("size", size, 32, 1024)
    one_of("split", split, PURPOSES), share("defective", defective, zero=True)
    purpose = PURPOSES[split] if purpose is None else one_of("purpose", purpose, FIRST_SCENES)
    low, high = (whole("parts", number, 1, MOST_PARTS) for number in parts)
    if low > high:
        raise ValueError(f"parts: expected the smaller number first, got {parts}")
    first = FIRST_SCENES[purpose] + seed * SCENES * 16
    images, instances, things = [], [], []
    for start in range(0, count, _CHUNK):
        keys = first + 16 * torch.arange(start, min(count, start + _CHUNK))
        order = orders(keys, split, (low, high), defective)
        done = compose(order, size)
        images.append(done.images), instances.append(done.instances)
        things += describe(order, done)
    return Scenes(torch.cat(images), torch.cat(instances), tuple(things), object_categories(split))
