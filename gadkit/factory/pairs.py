"""An endless stream of training pairs: a part with a defect beside its sound twin.

Pairs are rendered a chunk at a time into a pool that forgets its oldest chunk, and a batch is drawn from the pool.
What the pool holds at a step follows from the step's number, so a resumed run sees what it would have seen.

Book: anomaly/winclip
"""

import random
from collections import OrderedDict
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from gadkit import factory
from gadkit.factory.sets import LEAST_PIXELS

# shares of the chunks; the seen categories have the rest.  With a fifth instead of over a half, the seen categories
# were learnt
# better and the development split worse: made-up parts are what keeps legitimate prints from looking like flaws
MADE_UP_SHARES = {"random_part": 0.28, "random_bar": 0.12, "random_texture": 0.16}


@dataclass(frozen=True)
class Pairs:
    """`sound` and `defective` photographs of the same parts, with masks, and what each pair shows."""

    sound: UInt8[Tensor, "n 3 s s"]
    defective: UInt8[Tensor, "n 3 s s"]
    masks: Bool[Tensor, "n s s"]
    categories: tuple[str, ...]
    defects: tuple[str, ...]


class PairPool:
    """The last `chunks` renderings of `size` pairs each; a new one every `every` steps."""

    def __init__(self, seed: int = 0, chunks: int = 320, size: int = 24, every: int = 4, image_size: int = 96) -> None:
        self.seed, self.chunks, self.size, self.every, self.image_size = seed, chunks, size, every, image_size
        self._held: OrderedDict[int, Pairs] = OrderedDict()

    def draw(self, step: int, count: int) -> Pairs:
        """`count` pairs for a step of training, from all over the pool."""
        newest = self.chunks + step // self.every
        for number in range(newest - self.chunks, newest):
            if number not in self._held:
                self._held[number] = self.render(number)
        for number in [n for n in self._held if n < newest - self.chunks]:
            del self._held[number]
        rng = random.Random(f"{self.seed}/{step}")
        held = [c for c in self._held.values() if len(c.categories)]
        picks = [(c, rng.randrange(len(c.categories))) for c in rng.choices(held, k=count)]
        images = [torch.stack([getattr(c, f)[i] for c, i in picks]) for f in ("sound", "defective", "masks")]
        return Pairs(*images, tuple(c.categories[i] for c, i in picks), tuple(c.defects[i] for c, i in picks))

    def render(self, number: int) -> Pairs:
        """One chunk by its number: a category and a defect, `size` products of it, each photographed once."""
        rng = random.Random(f"{self.seed}/chunk/{number}")
        category = _category(rng)
        defect = rng.choice(factory.CATEGORIES[category].defects)
        seeds = _numbers(self.seed, number, self.size)
        severity = torch.rand(self.size, generator=torch.Generator().manual_seed(number))
        nuisance = rng.choice((1.0, 1.0, 1.0, 0.15))
        shots = factory.render(
            category, seeds, seeds, defect, severity, self.image_size, nuisance, noise=rng.uniform(0.01, 0.03)
        )
        good = (shots.masks.flatten(1).float().mean(1) >= LEAST_PIXELS).nonzero()[:, 0]
        names = (category,) * len(good), (defect,) * len(good)
        return Pairs(shots.twins[good], shots.images[good], shots.masks[good], *names)


def _category(rng: random.Random) -> str:
    dice = rng.random()
    for name, share in MADE_UP_SHARES.items():
        if (dice := dice - share) < 0:
            return name
    return rng.choice(factory.split("seen"))


def _numbers(seed: int, chunk: int, size: int) -> Int[Tensor, "n"]:
    """Seeds of a chunk, below those of the films (2 ** 38), the pools and the test sets."""
    return ((seed % 64) << 32) + chunk * size + torch.arange(size)
