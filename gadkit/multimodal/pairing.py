"""What the tiny CLIPs learn from: batches of twins, captions that are true of them, and windows cut out of them.

Book: anomaly/winclip
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gadkit import factory
from gadkit.backbones.tiny import TinyConfig
from gadkit.factory.captions import BY_DEFECT, caption
from gadkit.factory.pairs import Pairs

DEFECTS = tuple(BY_DEFECT)
NORMAL, ANOMALOUS = -1, -2  # states beside the numbers of the defects; ANOMALOUS is any of them, in a caption
UNNAMED, UNTRAINED = -3, -9  # categories beside the numbers of those trained on: of a caption, of an image


@dataclass(frozen=True)
class Batch:
    """Images with what they show: numbers of their category, or UNTRAINED, and of their defect, or NORMAL."""

    images: Float[Tensor, "b 3 s s"]
    cells: Int[Tensor, "b n"]  # defect pixels in each patch
    category: Int[Tensor, "b"]
    state: Int[Tensor, "b"]


@dataclass(frozen=True)
class Captions:
    """Token ids of captions and what they claim: a category or UNNAMED; a defect, NORMAL or ANOMALOUS."""

    tokens: Int[Tensor, "t context"]
    category: Int[Tensor, "t"]
    state: Int[Tensor, "t"]

    def true_of(self, category: Int[Tensor, "n"], state: Int[Tensor, "n"]) -> Bool[Tensor, "n t"]:
        """Which captions are true of which pictures."""
        named = (self.category == UNNAMED) | (self.category == category[:, None])
        return named & torch.where(self.state == ANOMALOUS, state[:, None] >= 0, self.state == state[:, None])


def make_batch(pairs: Pairs, config: TinyConfig, rng: random.Random, generator: torch.Generator) -> Batch:
    """Pairs as one batch, sound twins first, both turned, mirrored and recoloured alike."""
    seen = factory.split("seen")
    images, masks = torch.cat([pairs.sound, pairs.defective]).float() / 255, pairs.masks.float()[:, None]
    pixels, size = masks[0].numel(), (config.image_size,) * 2
    if images.shape[2:] != size:  # the eyes are larger than the renderings
        images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
        masks = F.interpolate(masks, size, mode="nearest")
    cells = F.avg_pool2d(masks, config.patch_size)  # the share of each patch
    cells = cells * (pixels / cells[0].numel())
    cells = torch.cat([torch.zeros_like(cells), cells])
    if rng.random() < 0.5:
        images = images[:, torch.randperm(3, generator=generator)]
    elif rng.random() < 0.2:
        images = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)  # grey photographs exist too
    for flip in ((2,), (3,)):
        if rng.random() < 0.5:
            images, cells = images.flip(flip), cells.flip(flip)
    if rng.random() < 0.5:
        images, cells = images.transpose(2, 3), cells.transpose(2, 3)
    gain = 0.8 + 0.4 * torch.rand(len(images), 1, 1, 1, generator=generator)
    category = torch.tensor([seen.index(c) if c in seen else UNTRAINED for c in pairs.categories])
    state = torch.tensor([DEFECTS.index(d) for d in pairs.defects])
    return Batch(
        (images - config.mean) / config.std * gain,
        cells.flatten(1).round().long(),
        category.repeat(2),
        torch.cat([torch.full_like(state, NORMAL), state]),
    )


def make_captions(pairs: Pairs, count: int, rng: random.Random, tokenize: Callable[[list[str]], Tensor]) -> Captions:
    """Captions for a batch, half of them of sound parts."""
    seen, made = factory.split("seen"), []
    for i in range(count):
        j = rng.randrange(len(pairs.categories))
        made.append(caption(pairs.categories[j], pairs.defects[j] if i % 2 else None, rng))
    states = {"normal": NORMAL, "anomalous": ANOMALOUS} | {d: i for i, d in enumerate(DEFECTS)}
    return Captions(
        tokenize([c.text for c in made]),
        torch.tensor([UNNAMED if c.category is None else seen.index(c.category) for c in made]),
        torch.tensor([states[c.state] for c in made]),
    )


def draw_windows(
    cells: Int[Tensor, "b n"], grid: int, scale: int, count: int, generator: torch.Generator
) -> Int[Tensor, "b count k"]:
    """Token numbers of `count` windows an image; half of them over a defect, twins at the same places."""
    half = len(cells) // 2
    weights = cells[half:].float() + 1e-6
    centre = torch.multinomial(weights, count, replacement=True, generator=generator)  # (half, count)
    anywhere = torch.randint(grid * grid, centre.shape, generator=generator)
    centre = torch.where(torch.rand(centre.shape, generator=generator) < 0.6, centre, anywhere)
    offset = torch.randint(scale, (2, *centre.shape), generator=generator)
    row, column = ((c - o).clamp(0, grid - scale) for c, o in zip((centre // grid, centre % grid), offset, strict=True))
    steps = torch.arange(scale)
    inside = (steps[:, None] * grid + steps).flatten()
    return ((row * grid + column)[..., None] + inside).repeat(2, 1, 1)


def window_tokens(start: Float[Tensor, "b t w"], windows: Int[Tensor, "b count k"]) -> Float[Tensor, "bc k+1 w"]:
    """Sequences [class token; the k patches of a window], the windows of one image after another."""
    b, count, k = windows.shape
    index = windows.flatten(1)[..., None].expand(-1, -1, start.shape[-1])
    inner = torch.gather(start[:, 1:], 1, index).reshape(b * count, k, -1)
    return torch.cat([start[:, :1].repeat_interleave(count, 0), inner], 1)
