"""Photographs with the geometry behind them: height, and from it normals and edges, and what each pixel is made of.

A renderer knows all of it before there is light, so these labels cost nobody anything.  The camera looks straight
down: depth is the camera's height less the surface's, and whoever learns the one has learnt the other.

Book: pretext/semantic
"""

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer, UInt8
from torch import Tensor

from gadkit.data import factory
from gadkit.data.factory.scene import slopes

MATERIALS = ("table", "matt", "satin", "glossy")
_GLOSS = (0.3, 0.6)  # matt below, glossy from the second on
_STEEP = 0.8  # a rise of so much over a run of 1 is an edge: more than the bevels of most parts
_CHUNK = 16  # photographs of one category and defect, rendered together


@dataclass(frozen=True)
class Geometry:
    """`images`; `height` above the table in half image sides, in half precision; `materials`, indices of MATERIALS."""

    images: UInt8[Tensor, "n 3 s s"]
    height: Float[Tensor, "n s s"]
    materials: UInt8[Tensor, "n s s"]

    def columns(self) -> dict[str, Tensor]:
        """The three by name, as `gadkit.train.learn` takes them."""
        return {"images": self.images, "height": self.height, "materials": self.materials}


def measure(surfaces: factory.Surfaces) -> Geometry:
    """The geometry of photographs that the factory surveyed."""
    bounds = torch.tensor(_GLOSS, device=surfaces.gloss.device)
    finish = 1 + torch.bucketize(surfaces.gloss, bounds, right=True)
    materials = torch.where(surfaces.cover > 0.5, finish, 0).to(torch.uint8)
    return Geometry(surfaces.images, surfaces.height.half(), materials)


def normals(height: Float[Tensor, "b s s"]) -> Float[Tensor, "b 3 s s"]:
    """Unit vectors out of the surface, those by which the factory's lamp shades: x right, y down, z to the camera."""
    dx, dy = slopes(height.float())
    return F.normalize(torch.stack([-dx, -dy, torch.ones_like(dx)], 1), dim=1)


def edges(height: Float[Tensor, "b s s"], materials: Integer[Tensor, "b s s"]) -> Bool[Tensor, "b s s"]:
    """Where the surface is steep or another material begins (the pixel above or on the left)."""
    dx, dy = slopes(height.float())
    steep = dx * dx + dy * dy > _STEEP**2
    m = F.pad(materials[:, None].float(), (1, 0, 1, 0), mode="replicate")[:, 0]
    return steep | (m[:, 1:, 1:] != m[:, 1:, :-1]) | (m[:, 1:, 1:] != m[:, :-1, 1:])
