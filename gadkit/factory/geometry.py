"""Photographs with the geometry behind them: height, and from it normals and edges, and what each pixel is made of.

A renderer knows all of it before there is light, so these labels are free.  The camera looks straight
down: depth is the camera's height less the surface's, so that learning one is learning both.

Book: pretext/semantic
"""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer, UInt8
from torch import Tensor

from gadkit import factory
from gadkit.checks import checked, share, whole
from gadkit.factory.pool import MADE_UP, RANDOMISED
from gadkit.factory.scene import slopes
from gadkit.factory.seeds import FIRST_POOL, POOL_SIZE, POOLS

MATERIALS = ("table", "matt", "satin", "glossy")
_GLOSS = (0.3, 0.6)  # matt below, glossy from the second on
_STEEP = 0.8  # a rise of so much over a run of 1 is an edge: more than the bevels of most parts
_GROUP = 16  # photographs of one category and defect, surveyed together


@dataclass(frozen=True)
class Geometry:
    """`images`; `height` above the table in half image sides, in half precision; `materials`, indices of MATERIALS."""

    images: UInt8[Tensor, "n 3 s s"]
    height: Float[Tensor, "n s s"]
    materials: UInt8[Tensor, "n s s"]

    def columns(self) -> dict[str, Tensor]:
        """The three by name, as `gadkit.train.learn` takes them."""
        return {"images": self.images, "height": self.height, "materials": self.materials}


@checked
def geometry_of(surfaces: factory.Surfaces) -> Geometry:
    """The geometry of photographs that the factory surveyed."""
    bounds = torch.tensor(_GLOSS, device=surfaces.gloss.device)
    finish = 1 + torch.bucketize(surfaces.gloss, bounds, right=True)
    materials = torch.where(surfaces.cover > 0.5, finish, 0).to(torch.uint8)
    return Geometry(surfaces.images, surfaces.height.half(), materials)


@checked
def normals(height: Float[Tensor, "b s s"]) -> Float[Tensor, "b 3 s s"]:
    """Unit vectors out of the surface, those by which the factory's lamp shades: x right, y down, z to the camera."""
    dx, dy = slopes(height.float())
    length = (dx * dx + dy * dy + 1).sqrt()  # at least 1; F.normalize over three planes is ten times as slow
    return torch.stack([-dx, -dy, torch.ones_like(dx)], 1) / length[:, None]


@checked
def edges(height: Float[Tensor, "b s s"], materials: Integer[Tensor, "b s s"]) -> Bool[Tensor, "b s s"]:
    """Where the surface is steep or another material begins (the pixel above or on the left)."""
    dx, dy = slopes(height.float())
    steep = dx * dx + dy * dy > _STEEP**2
    m = F.pad(materials[:, None].float(), (1, 0, 1, 0), mode="replicate")[:, 0]
    return steep | (m[:, 1:, 1:] != m[:, 1:, :-1]) | (m[:, 1:, 1:] != m[:, :-1, 1:])


@checked
def unlabelled(count: int = 12288, seed: int = 0, size: int = 96, defective: float = 0.25) -> Geometry:
    """Photographs mixed as the standard pool is, all of different products, with their geometry.

    The same seed gives the same.  Raises ValueError for a count below 1 or above a pool's size, another seed than 0 to
    4095, or a share outside [0, 1].
    """
    whole("count", count, 1, POOL_SIZE), whole("seed", seed, 0, POOLS - 1)
    share("defective", defective, zero=True)
    generator = torch.Generator().manual_seed(seed)
    seen = factory.split("seen")
    shares = torch.tensor([(1 - MADE_UP) / len(seen)] * len(seen) + [MADE_UP / len(RANDOMISED)] * len(RANDOMISED))
    groups = (FIRST_POOL + seed * POOL_SIZE + torch.arange(count)).split(_GROUP)
    found = []
    for seeds in groups:
        category = (*seen, *RANDOMISED)[int(torch.multinomial(shares, 1, generator=generator))]
        kinds, (dice, kind) = factory.CATEGORIES[category].defects, torch.rand(2, generator=generator).tolist()
        defect = kinds[int(kind * len(kinds))] if dice < defective else None
        severity = 0.3 + 0.7 * torch.rand(len(seeds), generator=generator)
        found.append(geometry_of(factory.survey(category, seeds, seeds, defect, severity, size)))
    order = torch.randperm(count, generator=generator)
    return Geometry(*(torch.cat([getattr(g, f.name) for g in found])[order] for f in fields(Geometry)))
