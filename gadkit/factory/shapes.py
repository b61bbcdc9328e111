"""Signed distances and small geometry, on whole batches: negative inside, positive outside.

Coordinates x, y and results are (b, h, w); parameters are floats or (b, 1, 1).  Most distances are exact or a lower
bound near the edge, which is all that anti-aliasing and bevels need.

Book: intro/factory
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit.factory.draw import Number

Plane = Float[Tensor, "b h w"]
Scalar = Number | Float[Tensor, "b 1 1"]
TAU = 2 * math.pi


def radius(x: Plane, y: Plane) -> Plane:
    """Distance from the origin."""
    return (x * x + y * y + 1e-9).sqrt()  # never 0, so that ratios stay finite


def disc(x: Plane, y: Plane, r: Scalar | Plane) -> Plane:
    """A disc of radius r."""
    return radius(x, y) - r


def ring(x: Plane, y: Plane, inner: Scalar, outer: Scalar) -> Plane:
    """The ring between two circles."""
    r = radius(x, y)
    return torch.maximum(r - outer, inner - r)


def box(x: Plane, y: Plane, a: Scalar, b: Scalar, rounding: Scalar = 0.0) -> Plane:
    """A box of half-widths a and b with rounded corners."""
    qx, qy = x.abs() - a + rounding, y.abs() - b + rounding
    outside = (qx.clamp(min=0) ** 2 + qy.clamp(min=0) ** 2 + 1e-9).sqrt()
    return outside + torch.maximum(qx, qy).clamp(max=0) - rounding


def polygon(x: Plane, y: Plane, sides: Scalar, apothem: Scalar) -> Plane:
    """A regular polygon: the largest of the distances to its sides, seen in the sector of the nearest one."""
    angle, r = torch.atan2(y, x), radius(x, y)
    step = TAU / sides
    folded = torch.remainder(angle + step / 2, step) - step / 2
    return r * folded.cos() - apothem


def wedge(angle: Plane, centre: Scalar, half: Scalar) -> Plane:
    """How far an angle lies outside the sector centre +- half, in radians."""
    return (torch.remainder(angle - centre + math.pi, TAU) - math.pi).abs() - half


def repeat(t: Plane, period: Scalar) -> Plane:
    """Fold a coordinate into cells of the given period, centred on 0."""
    return torch.remainder(t + period / 2, period) - period / 2


def polar(x: Plane, y: Plane, count: Scalar, phase: Scalar = 0.0) -> tuple[Plane, Plane]:
    """Fold the plane into `count` equal sectors: coordinates in which the sector's axis is +x."""
    r, step = radius(x, y), TAU / count
    angle = torch.remainder(torch.atan2(y, x) - phase + step / 2, step) - step / 2
    return r * angle.cos(), r * angle.sin()


def sector(x: Plane, y: Plane, count: Scalar, phase: Scalar = 0.0) -> Plane:
    """The number, 0 to count - 1, of the sector that `polar` folded a pixel from."""
    step = TAU / count
    return torch.remainder(torch.floor((torch.atan2(y, x) - phase + step / 2) / step), count)


def rotate(x: Plane, y: Plane, angle: Scalar) -> tuple[Plane, Plane]:
    """Coordinates in a frame turned by `angle` radians."""
    angle = torch.as_tensor(angle, dtype=x.dtype, device=x.device)
    c, s = angle.cos(), angle.sin()
    return x * c + y * s, y * c - x * s


def bevel(d: Plane, width: Scalar) -> Plane:
    """Height of a rounded edge: 0 at the rim, 1 from `width` inwards, a quarter circle between."""
    t = (-d / width).clamp(0, 1)
    return (t * (2 - t) + 1e-6).sqrt()


def dome(d: Plane, half: Scalar | Plane) -> Plane:
    """Height of a cylinder or dome, from the distance to its axis over its half-width."""
    return (1 - (d / half) ** 2).clamp(min=0).sqrt()
