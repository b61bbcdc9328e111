"""Patterns made of cells: a random tone for each cell of a grid, irregular cells, and the cell that a fault strikes.

Book: intro/factory
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit.factory.scene import Scene
from gadkit.factory.shapes import Plane, Scalar

_N = 32  # tones repeat after so many cells, far more than an image holds


def tone(s: Scene, name: str, i: Plane, j: Plane) -> Plane:
    """A number on [-1, 1) for the cell with whole-number indices i, j, of the piece in the photograph."""
    at = (torch.remainder(j, _N) * _N + torch.remainder(i, _N)).long()
    return s.photo.lattice(name, _N, _N).flatten(1).gather(1, at.flatten(1)).view(at.shape)


def voronoi(s: Scene, name: str, x: Plane, y: Plane, period: Scalar) -> tuple[Plane, Plane, Plane]:
    """Irregular cells (Worley 1996): distances to the nearest and next nearest centre in periods, and a tone a cell.

    The next nearest less the nearest is 0 on the border between two cells.
    """
    x, y = x / period, y / period
    i, j = x.floor(), y.floor()
    first, second, own = torch.full_like(x, 9.0), torch.full_like(x, 9.0), torch.zeros_like(x)
    for di in (-1, 0, 1):
        for dj in (-1, 0, 1):
            jitter = tone(s, f"{name} x", i + di, j + dj)
            dx, dy = i + di + 0.5 + 0.4 * jitter - x, j + dj + 0.5 + 0.4 * tone(s, f"{name} y", i + di, j + dj) - y
            d = dx * dx + dy * dy
            own = torch.where(d < first, jitter, own)
            second = torch.minimum(second, torch.maximum(first, d))
            first = torch.minimum(first, d)
    return first.sqrt(), second.sqrt(), own


def struck(
    s: Scene, width: Scalar, height: Scalar
) -> tuple[Float[Tensor, "b 1 1"], Float[Tensor, "b 1 1"], Float[Tensor, "b 1 1"]]:
    """Indices of a cell in view, of the given width and height, and 1 if a fault takes its piece away, else 0."""
    keep = s.removable(s.X, s.Y)[2]
    return (
        (s.shot("struck x", -0.25, 0.25) / width).round(),
        (s.shot("struck y", -0.25, 0.25) / height).round(),
        1 - keep,
    )
