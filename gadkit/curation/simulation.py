"""Points in the plane on which one can see what levels of k-means do, and how far from uniform anything lies.

Source: Vo et al. 2024, figure 3 and the notebook that draws it.
Book: selfsup/curation
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit.checks import check_finite, checked, describe, positive, whole

SIDE = 3.0  # the plane reaches from -SIDE to SIDE
SHARES = (14, 2, 1, 1)  # of eighteen: three Gaussians, of which the first is crowded, and the uniform ground
MEANS = ((-1.0, -1.0), (1.0, -1.0), (0.0, 1.0))


@checked
def points(count: int = 9000, generator: torch.Generator | None = None) -> Float[Tensor, "_ 2"]:
    """`count` points, rounded down to whole eighteenths: Gaussians of deviation 1/2 on a thin uniform ground.

    Raises ValueError for fewer than 18.
    """
    whole("count", count, 18)
    crowd, second, third, ground = (count // 18 * share for share in SHARES)
    where = torch.tensor(MEANS).repeat_interleave(torch.tensor([crowd, second, third]), 0)
    gaussians = where + torch.randn(len(where), 2, generator=generator) / 2
    return torch.cat([gaussians, (torch.rand(ground, 2, generator=generator) - 0.5) * 2 * SIDE])


@checked
def divergence(x: Float[Tensor, "n 2"], bandwidth: float = 0.5, cells: int = 120) -> float:
    """How far points are from uniform: KL(p || uniform) on the square, p a Gaussian kernel density of the points.

    Zero is uniform; even uniform points give a little more, as a kernel density sinks towards the border.  Raises
    ValueError for anything but points in a plane, of which some lie on the square or near it.
    """
    if x.ndim != 2 or x.shape[1] != 2 or not len(x):
        raise ValueError(f"points: expected shape (n, 2), at least one, got {describe(x)}")
    check_finite(x, "points")
    positive("bandwidth", bandwidth)
    whole("cells", cells, 1, 4096)
    axis = (torch.arange(cells, dtype=torch.float64, device=x.device) + 0.5) / cells * 2 * SIDE - SIDE
    # a Gaussian of two coordinates is the product of two of one
    across, along = (torch.exp(-((axis[:, None] - c) ** 2) / (2 * bandwidth**2)) for c in x.double().T)  # (cells, n)
    density = across @ along.T
    if not density.sum() > 0:
        raise ValueError(f"points: expected some within a few bandwidths of the square of half-width {SIDE}, got none")
    density = density / density.sum()  # of a cell
    return float((density * (density * cells**2).clamp(min=1e-300).log()).sum())
