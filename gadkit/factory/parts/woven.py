"""Threads, fibres and wires: carpet, knit, felt, mesh, grid, weave.

Book: intro/factory
"""

import math

import torch

from gadkit.factory.catalogue import category
from gadkit.factory.parts.cells import struck, tone
from gadkit.factory.scene import Colour, Scene
from gadkit.factory.shapes import Plane, bevel, box, dome, repeat, rotate


def _yarn(s: Scene, name: str) -> Colour:
    """A dyed yarn, never so dark or so pale that its relief is lost."""
    return s.colour(name, (0, 1), (0.05, 0.75), (0.4, 0.9))


def _fibres(s: Scene, name: str, x: Plane, y: Plane, angle: float) -> Plane:
    """Noise drawn out along one direction, about [-1, 1]."""
    u, v = rotate(x, y, angle)
    return s.grain(name, u * 0.22, v, 40, 1)


@category("texture", "seen", "carpet, rug")
def carpet(s: Scene) -> None:
    """Loops of pile in rows, some dyed in stripes, others flecked."""
    x, y = s.surface()
    p, q = s.part("tuft", 0.16, 0.24), s.part("row", 0.15, 0.2)
    j = (y / q).floor()
    shifted = x + torch.remainder(j, 2) * p * 0.5 * s.option("brick", 0.7)
    i = (shifted / p).floor()
    s.material(_yarn(s, "pile"), 0.02)
    fleck = (tone(s, "fleck", i, j) > s.part("fleck", 0.3, 0.9)).float() * s.option("flecked")
    stripe = (torch.remainder(j, s.count("stripe", 4, 8)) < s.count("band", 1, 3)).float() * (1 - s.option("flecked"))
    s.paint((stripe + fleck).clamp(0, 1) * s.option("two-tone", 0.8), _yarn(s, "accent"))
    u, v = torch.remainder(shifted, p) / p - 0.5, torch.remainder(y, q) / q - 0.5
    loop = (1 - 3.2 * (u * u + v * v)).clamp(0, 1)
    s.emboss(loop, 0.07)
    s.tint(torch.ones_like(x), 0.45 + 0.6 * loop + 0.1 * tone(s, "wool", i, j) + 0.1 * s.noise("fluff", 34, 2))


@category("texture", "seen", "knit, knitted fabric", also="missing")
def knit(s: Scene) -> None:
    """Columns of V stitches, plain, striped or patterned; a run of them can be dropped."""
    x, y = s.surface(shift=0.3)
    p, q = s.part("wale", 0.24, 0.36), s.part("course", 0.15, 0.21)
    i, u = (x / p).round(), repeat(x, p)
    v = y + 1.1 * u.abs()
    j = (v / q).floor()
    s.material(_yarn(s, "yarn"), 0.05)
    motif = ((i % s.count("motif", 2, 5)) + (j % s.count("repeat", 3, 6)) < 2).float()
    stripe = (j % s.count("stripe", 4, 9) < 2).float()
    patterned = torch.where(s.option("striped") > 0, stripe, motif) * s.option("two-tone", 0.75)
    s.paint(patterned, _yarn(s, "second yarn"))
    leg = dome(u.abs() - p / 4, p / 4) * dome(repeat(v - q / 2, q), q * 0.56)
    i0, _, gone = struck(s, p, q)
    run = (i == i0) * ((v - s.shot("run at", -0.2, 0.2)).abs() < s.shot("run", 0.25, 0.4)) * gone
    ladder = dome(repeat(v - 1.1 * u.abs(), 1.5 * q), 0.22 * q) * 0.75  # only the bare cross threads are left
    leg = torch.lerp(leg, ladder, run.float())
    s.emboss(leg, 0.08)
    s.tint(torch.ones_like(x), 0.3 + 0.75 * leg + 0.07 * s.noise("fuzz", 34, 2))


@category("texture", "seen", "felt, felt sheet", pliable=False)
def felt(s: Scene) -> None:
    """Matted fibres in every direction, some of a paler wool."""
    x, y = s.surface()
    s.material(s.colour("wool", (0, 1), (0.05, 0.75), (0.25, 0.85)), 0.02)
    layers = [_fibres(s, f"fibre {k}", x, y, k * math.pi / 5 + 0.3) for k in range(5)]
    mat = sum(layers[1:], layers[0]) / 2
    s.tint(torch.ones_like(x), 1 + s.part("contrast", 0.12, 0.24) * mat + 0.08 * s.grain("cloud", x, y, 4, 2))
    stray = (torch.maximum(layers[0], layers[2]) - s.part("stray", 0.74, 0.84)).clamp(min=0) * 2.5
    s.paint(stray.clamp(0, 0.7), s.colour("stray wool", (0, 1), (0, 0.4), (0.7, 0.98)))
    s.emboss(mat, 0.012)


@category("texture", "development", "wire mesh, mesh", also="missing")
def mesh(s: Scene) -> None:
    """Round wires woven over and under each other before a backing; a length of one can be missing."""
    x, y = s.surface(shift=0.3)
    p = s.part("pitch", 0.28, 0.46)
    q, w = p * s.part("aspect", 0.8, 1.25), s.part("wire", 0.05, 0.075)
    s.material(s.colour("backing", (0, 1), (0, 0.35), (0.04, 0.95)), 0.05)
    wire = s.colour("wire", (0.05, 0.62), (0.02, 0.5), (0.5, 0.85))
    i, j, u, v = (x / p).round(), (y / q).round(), repeat(x, p), repeat(y, q)
    side = 1 - 2 * torch.remainder(i + j, 2)
    i0, _, gone = struck(s, p, q)
    lost = (i == i0) * ((y - s.shot("break", -0.2, 0.2)).abs() < s.shot("length", 0.25, 0.45)) * gone
    along = s.fill(u.abs() - w) * (1 - lost)
    across = s.fill(v.abs() - w)
    shadow = torch.maximum(s.fill(u.abs() - 1.6 * w) * (1 - lost), s.fill(v.abs() - 1.6 * w))
    s.tint(shadow, 0.72)
    up, down = dome(u, w), dome(v, w)
    over = torch.maximum(along * (1 - across), along * (side > 0))
    for m, h, raised in ((across, down, -side), (over, up, side)):
        s.paint(m, wire, 0.8)
        s.tint(m, 0.5 + 0.55 * h)
        s.height = torch.lerp(s.height, 0.05 + 0.1 * h + 0.04 * raised, m)


@category("texture", "held-out", "metal grid, grid", also="missing")
def grid(s: Scene) -> None:
    """A stamped metal grid, its holes square to round, in line or staggered; a bar can be missing."""
    x, y = s.surface(shift=0.3)
    p = s.part("pitch", 0.26, 0.42)
    a, stagger = p * s.part("hole", 0.3, 0.38), p / 2 * s.option("staggered")
    j = (y / p).round()
    u, v = repeat(x + stagger * torch.remainder(j, 2), p), repeat(y, p)
    hole = box(u, v, a, a, a * s.part("rounding", 0.1, 1.0))
    i0, j0, gone = struck(s, p, p)
    bar = box(x + stagger * torch.remainder(j0, 2) - (i0 + 0.5) * p, y - j0 * p, p * 0.5 - 0.5 * a, 0.85 * a, 0.02)
    hole = torch.where(gone > 0, torch.minimum(hole, bar), hole)
    s.material(s.colour("metal", (0.05, 0.62), (0.02, 0.2), (0.5, 0.85)), 0.6)
    s.tint(torch.ones_like(x), 1 + 0.05 * s.grain("wear", x, y, 12, 3))
    m = s.fill(hole)
    s.emboss(bevel(-hole, p / 2 - a * 0.8), 0.1)
    s.paint(m, s.colour("behind", (0, 1), (0, 0.3), (0.03, 0.22)), 0.0)
    s.height = s.height * (1 - m)


@category("texture", "held-out", "woven fabric, weave, basket weave", also="missing")
def weave(s: Scene) -> None:
    """Bands of thread over and under each other, plain or twill, often in two tones; a length can be pulled out."""
    x, y = s.surface(shift=0.3)
    p = s.part("band", 0.2, 0.36)
    i, j, u, v = (x / p).round(), (y / p).round(), repeat(x, p), repeat(y, p)
    twill = s.option("twill", 0.35)
    warp = torch.where(twill > 0, (torch.remainder(i + j, 4) < 2).float(), torch.remainder(i + j, 2))
    s.material(_yarn(s, "weft"), 0.08)
    dyed = s.option("two-tone", 0.6)[:, None]
    s.paint(warp, torch.where(dyed > 0, _yarn(s, "warp"), s.bg))
    across, along = torch.where(warp > 0, u, v), torch.where(warp > 0, v, u)
    body = dome(across, p * 0.5) * (1 - 0.45 * (1 - twill) * (2 * along / p) ** 2)
    split = s.fill(across.abs() - 0.012) * s.option("double", 0.5)
    i0, _, gone = struck(s, p, p)
    pulled = (i == i0) * ((y - s.shot("pull", -0.2, 0.2)).abs() < s.shot("length", 0.36, 0.55)) * gone * warp
    body = body * (1 - pulled)
    s.emboss(body, 0.09)
    s.tint(torch.ones_like(x), (0.25 + 0.8 * body) * (1 - 0.3 * split * (1 - pulled)) + 0.05 * s.noise("lint", 34, 2))
