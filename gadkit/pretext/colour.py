"""Colour as people see it: CIE Lab, and the palette of colours that colourisation chooses from.

L is lightness; a runs from green to magenta and b from blue to yellow, in units of about a just visible difference.

Book: pretext/generation
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.checks import checked

_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))  # from sRGB
_WHITE = (0.95047, 1.0, 1.08883)  # D65
_KNEE = 6 / 29  # below its cube, Lab's cube root gives way to a straight line


def _mix(matrix: Tensor, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    return torch.einsum("ij,bjhw->bihw", matrix.to(images), images)


@checked
def rgb_to_lab(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """SRGB in [0, 1] to L in [0, 100] and a, b in about [-110, 110] (CIE 1976, white D65)."""
    linear = torch.where(images > 0.04045, ((images.clamp(min=0.04) + 0.055) / 1.055) ** 2.4, images / 12.92)
    matrix = torch.tensor(_XYZ) / torch.tensor(_WHITE)[:, None]
    t = _mix(matrix, linear)
    f = torch.where(t > _KNEE**3, t.clamp(min=1e-4) ** (1 / 3), t / (3 * _KNEE**2) + 4 / 29)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


@checked
def lab_to_rgb(lab: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Lab to sRGB; colours that no screen can show are clipped to [0, 1]."""
    y = (lab[:, 0] + 16) / 116
    f = torch.stack([y + lab[:, 1] / 500, y, y - lab[:, 2] / 200], 1)
    t = torch.where(f > _KNEE, f**3, 3 * _KNEE**2 * (f - 4 / 29))
    linear = _mix(torch.linalg.inv(torch.tensor(_XYZ)) @ torch.diag(torch.tensor(_WHITE)), t).clamp(min=0)
    return torch.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear).clamp(0, 1)


@checked
def palette(step: float) -> Float[Tensor, "q 2"]:
    """The points of a grid in (a, b), `step` apart, that are the nearest to some colour of sRGB.

    Zhang et al. 2016, section 2.1, take a step of 10; 20 leaves fewer than a hundred colours.
    """
    if step <= 0:
        raise ValueError(f"step: expected a positive distance in Lab, got {step}")
    t = torch.linspace(0, 1, 33)
    cube = torch.stack(torch.meshgrid(t, t, t, indexing="ij")).flatten(1)  # (3, 33^3)
    ab = rgb_to_lab(cube[None, :, :, None])[0, 1:, :, 0].T  # (33^3, 2)
    return (ab / step).round().unique(dim=0) * step


@checked
def nearest_colour(ab: Float[Tensor, "n 2"], colours: Float[Tensor, "q 2"]) -> Int[Tensor, "n"]:
    """The index of the closest colour of a palette.  Raises ValueError for a palette without colours."""
    if not len(colours):
        raise ValueError(f"colours: expected at least one, got shape {tuple(colours.shape)}")
    return torch.cdist(ab.float(), colours.float()).argmin(1)
