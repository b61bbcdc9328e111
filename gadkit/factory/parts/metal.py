"""Turned, cast and stamped parts: washer, gear, nut, screw, wheel, gasket, bracket, key, coin.

Book: intro/factory
"""

import torch

from gadkit.factory.catalogue import category
from gadkit.factory.parts.randomised import lettering, pick
from gadkit.factory.scene import Colour, Scene
from gadkit.factory.shapes import (
    TAU,
    bevel,
    box,
    disc,
    dome,
    polar,
    polygon,
    radius,
    repeat,
    ring,
    rotate,
    sector,
)


def metal(s: Scene, name: str = "metal") -> Colour:
    """Brass, bronze and copper, or steel and zinc."""
    warm = s.colour(f"{name} warm", (0.05, 0.13), (0.25, 0.55), (0.6, 0.85))
    cold = s.colour(f"{name} cold", (0.5, 0.65), (0.02, 0.16), (0.45, 0.8))
    return torch.where(s.option(f"{name} is warm", 0.4)[:, None] > 0, warm, cold)


@category("object", "seen", "washer, lock washer", also="missing misplaced")
def washer(s: Scene) -> None:
    """A flat ring with a stamped notch mark that can be missing."""
    x, y = s.pose()
    s.background()
    inner = s.part("inner", 0.35, 0.6)
    d = ring(x, y, inner, 1.0)
    s.solid(d, s.colour("metal", (0.05, 0.62), (0.02, 0.35), (0.55, 0.8)), 0.8, bevel(d, 0.18) * 0.25)
    px, py, keep = s.removable(x, y, (1 + inner) / 2, 0.0)
    dot = s.fill(disc(px, py, 0.13)) * keep
    s.emboss(dot * s.cover, -0.12)
    s.tint(dot * s.cover, 0.6)


@category("object", "seen", "gear, cog wheel", also="missing")
def gear(s: Scene) -> None:
    """A toothed wheel with holes in its web; one tooth can be missing."""
    x, y = s.pose()
    s.background()
    n, r = s.count("teeth", 8, 14), radius(x, y)
    u, v = polar(x, y, n)
    width = torch.pi / n * 0.5
    tooth = ((width * 1.15 - v.abs() / u.clamp(min=0.2)) * 30).sigmoid()
    _, _, keep = s.removable(x, y)
    first = (sector(x, y, n) < 0.5).float()
    tooth = tooth * (1 - first * (1 - keep))
    d = torch.maximum(r - 0.78 - 0.2 * tooth, s.part("bore", 0.18, 0.34) - r)
    s.solid(d, s.colour("metal", (0.04, 0.65), (0.02, 0.45), (0.45, 0.8)), 0.7, bevel(d, 0.14) * 0.22)
    groove = s.fill((r - 0.66).abs() - 0.03)
    s.emboss(groove * s.cover, -0.05)
    s.tint(groove * s.cover, 0.75)
    holes = s.count("holes", 0, 5)
    hx, hy = polar(x, y, holes.clamp(min=1))
    s.cutout(s.fill(disc(hx - 0.5, hy, 0.09)) * (holes > 1).float())


@category("object", "held-out", "hex nut, nut")
def nut(s: Scene) -> None:
    """A hexagon with rounded corners, sometimes on a flange, round a threaded bore."""
    x, y = s.pose()
    s.background()
    r, colour = radius(x, y), metal(s)
    flange, size = s.option("flanged", 0.35), s.part("size", 0.76, 0.84)
    apothem = torch.where(flange > 0, size * 0.84, size)
    s.solid(r - 0.98 + 2 * (1 - flange), colour, 0.7, bevel(r - 0.98, 0.35) * 0.14)
    hexagon = torch.maximum(polygon(x, y, 6, apothem), r - 1.11 * apothem)
    body = s.solid(hexagon, colour, 0.8, 0.1 + 0.22 * bevel(hexagon, 0.1))
    chamfer = (r - 0.98 * apothem).clamp(min=0)
    s.emboss(chamfer * body, -1.2)
    bore = s.part("bore", 0.4, 0.54) * apothem / 0.8
    s.emboss(s.fill(r - bore - 0.09), -0.06)
    s.tint(s.fill(r - bore - 0.09), 0.85)
    thread = repeat(r + sector(x, y, 24) / 24 * 0.07, 0.07).abs() / 0.035
    s.tint(s.fill(r - bore), 0.3 + 0.5 * thread)
    s.emboss(s.fill(r - bore), -0.12)
    s.cutout(s.fill(r - bore + s.part("thread", 0.1, 0.15)))


@category("object", "seen", "screw, bolt", also="missing")
def screw(s: Scene) -> None:
    """From the side: a countersunk, pan or hexagon head, a plain neck, a threaded shaft; the tip can be missing."""
    x, y = s.pose()
    s.background()
    colour = metal(s)
    w, h, end = s.part("shaft", 0.15, 0.23), s.part("head", 0.36, 0.48), s.part("head length", 0.24, 0.36) - 0.97
    _, _, keep = s.removable(x, y)
    taper = torch.where(s.option("pointed") > 0, 0.42 + 0 * w, 0.06 + 0 * w)
    pitch, turns = s.part("pitch", 0.1, 0.15), x - 0.35 * y * s.part("lead", 0.4, 1.0)
    ridge = 1 - 2 * repeat(turns, pitch).abs() / pitch  # 1 on the crest, 0 in the root
    threaded = (x > s.part("neck", -0.6, -0.1)).float()
    width = w * (0.25 + 0.75 * ((0.97 - x) / taper).clamp(0, 1)) + (0.05 * ridge - 0.02) * threaded
    tip = 0.97 - 0.42 * (1 - keep)
    shaft = torch.maximum(y.abs() - width, torch.maximum(x - tip, end - x))
    m = s.solid(shaft, colour, 0.7, 0.3 * dome(y, w + 0.03) + 0.05 * ridge * threaded)
    s.tint(m * threaded, 0.6 + 0.45 * ridge)
    along = ((x + 0.97) / (end + 0.97)).clamp(0, 1)  # 0 at the top of the head, 1 where the shaft begins
    pan, sunk = h * (1 - 0.55 * (1 - along) ** 3), h + (w - h) * along.clamp(min=0.15)
    kind = s.count("head kind", 0, 2)
    head = torch.maximum(y.abs() - pick(kind, pan, sunk, h + 0 * x), torch.maximum(x - end, -0.97 - x))
    facets = 0.3 + 0.1 * (y.abs() < 0.5 * h)
    m = s.solid(head, colour, 0.8, pick(kind, 0.42 * dome(y, h), 0.42 * dome(y, h), facets))
    s.tint(m * (kind == 2), 0.72 + 0.3 * (y.abs() < 0.5 * h))
    slot = box(x + 0.97, y, 0.11, 0.07) + 2 * (kind == 2)
    s.cutout(s.fill(slot))


@category("object", "seen", "wheel, spoked wheel", also="missing")
def wheel(s: Scene) -> None:
    """A tyre or a bare rim, spokes and a hub with a bore; one spoke can be missing."""
    x, y = s.pose()
    s.background()
    r, n, colour, tyred = radius(x, y), s.count("spokes", 4, 9), metal(s), s.option("tyre", 0.65)
    tyre = ring(x, y, 0.8, 1.0)
    m = s.solid(tyre, s.colour("rubber", (0, 1), (0, 0.4), (0.1, 0.32)), 0.2, bevel(tyre, 0.1) * 0.24)
    u, v = polar(x, y, s.count("tread", 24, 36))
    s.tint(m * tyred * s.fill(torch.maximum(v.abs() - 0.025, 0.91 - u)), 0.45)
    outer = 0.82 + 0.18 * (1 - tyred)
    rim = torch.maximum(r - outer, outer - s.part("rim", 0.12, 0.2) - r)
    s.solid(rim, colour, 0.8, bevel(rim, 0.08) * 0.24)
    u, v = polar(x, y, n)
    _, _, keep = s.removable(x, y)
    gone = (sector(x, y, n) < 0.5) * (1 - keep)
    half = s.part("spoke", 0.06, 0.11) + s.part("flare", -0.02, 0.05) * (0.8 - u) - 9 * gone
    spoke = torch.maximum(v.abs() - half, torch.maximum(r - outer + 0.08, 0.1 - u))
    s.solid(spoke, colour, 0.8, 0.16 * dome(v, half.abs().clamp(min=0.02)) + 0.04)
    hub = r - s.part("hub", 0.2, 0.3)
    s.solid(hub, torch.where(s.option("cap")[:, None] > 0, metal(s, "cap"), colour), 0.8, bevel(hub, 0.1) * 0.3)
    bx, by = polar(x, y, s.count("bolts", 3, 6))
    s.tint(s.fill(disc(bx - 0.16, by, 0.025)), 0.4)
    s.cutout(s.fill(r - s.part("bore", 0.06, 0.1)))


@category("object", "seen", "gasket, seal")
def gasket(s: Scene) -> None:
    """A flat seal of rubber, paper or copper: lobes with bolt holes round one opening, with or without a bead."""
    x, y = s.pose()
    s.background()
    n, v = s.count("bolts", 2, 6), y / s.part("aspect", 0.72, 1.0)
    opening, land = s.part("opening", 0.4, 0.56), s.part("land", 0.16, 0.24)
    u, w = polar(x, v, n)
    lobe = disc(u - 0.8, w, 0.2)
    neck = torch.maximum(w.abs() - 0.3 + 0.3 * (u - 0.4), u - 0.8)
    square = box(x, v, 0.82, 0.82, 0.25)
    boxed = s.option("boxed", 0.35)
    round_body = torch.minimum(torch.minimum(radius(x, v) - opening - land, lobe), neck)
    inner = pick(boxed, radius(x, v) - opening, box(x, v, opening + 0.05, opening + 0.05, 0.18))
    u, w = torch.where(boxed > 0, x.abs() - 0.64, u - 0.8), torch.where(boxed > 0, v.abs() - 0.64, w)
    d = torch.maximum(pick(boxed, round_body, square), -inner)
    rubber = s.colour("rubber", (0, 1), (0.1, 0.75), (0.12, 0.55))
    dull = torch.where(s.option("copper", 0.35)[:, None] > 0, metal(s), rubber)
    s.solid(d, dull, 0.2, bevel(d, 0.05) * 0.12)
    s.tint(s.cover, 1 + 0.12 * s.grain("fibre", x, y, 14, 2))
    bead = s.fill((inner - 0.075).abs() - 0.035) * s.option("bead", 0.7) * s.cover
    s.emboss(bead, 0.08)
    s.paint(bead * s.option("printed bead"), s.colour("bead", (0, 1), (0.3, 0.9), (0.4, 0.85)))
    bolt = s.part("bolt", 0.075, 0.11)
    s.tint(s.fill(disc(u, w, bolt + 0.05)) * s.cover, 0.75)
    s.cutout(s.fill(disc(u, w, bolt)))


@category("object", "seen", "bracket, angle bracket", also="missing")
def bracket(s: Scene) -> None:
    """An L or U of sheet metal with countersunk holes and a bend across an arm; one hole can be missing."""
    x, y = s.pose()
    s.background()
    a = s.part("arm", 0.22, 0.28)
    left, foot = box(x + 0.72 - a, y, a, 0.74, 0.1), box(x, y - 0.74 + a, 0.72, a, 0.1)
    right = box(x - 0.72 + a, y - 0.1, a, 0.64, 0.1) + 9 * (1 - s.option("U", 0.4))
    inside = torch.maximum(x + 0.72 - 2 * a - 0.16, 0.74 - 2 * a - 0.16 - y)  # a web that stiffens the corner
    web = torch.maximum(torch.maximum(inside, -0.72 - x), y - 0.74)
    web = torch.maximum(web, (x - y) * 0.7071 + 1.03 - 2 * 1.4142 * a - s.part("web", 0.05, 0.16)) + 0 * y
    d = torch.minimum(torch.minimum(left, foot), torch.minimum(right, web))
    enamel = s.colour("enamel", (0, 1), (0.4, 0.9), (0.35, 0.85))
    colour = torch.where(s.option("painted", 0.3)[:, None] > 0, enamel, metal(s))
    m = s.solid(d, colour, 0.6, bevel(d, 0.06) * 0.16)
    s.tint(m, 1 + 0.06 * s.grain("rolled", x * 0.15, y, 40, 1))
    bend = y + s.part("bend", 0.05, 0.25)
    s.tint(m * s.fill(bend), 0.82)
    s.tint(m * s.fill(bend.abs() - 0.03), 0.55)
    s.emboss(m * s.fill(bend), -0.5 * bend.abs().clamp(max=0.12))
    hole = s.part("hole", 0.09, 0.13)
    px, py, keep = s.removable(x, y, -0.72 + a, -0.5)
    others = torch.minimum(disc(x + 0.72 - a, y - 0.74 + a, hole), disc(x - 0.72 + a, y - 0.74 + a, hole))
    others = torch.minimum(others, disc(x - 0.72 + a, y + 0.26, hole) + 9 * (1 - s.option("U", 0.4)))
    slot = box(x, y - 0.74 + a, s.part("slot", 0.08, 0.16), 0.06, 0.06) + 9 * (1 - s.option("slotted", 0.6))
    holes = torch.minimum(torch.minimum(others, slot), disc(px, py, hole) + 9 * (1 - keep))
    s.tint(s.fill(holes - 0.05) * m, 0.7)
    s.emboss(s.fill(holes - 0.05) * m, -0.05)
    s.cutout(s.fill(holes))


@category("object", "seen", "key, door key", also="missing")
def key(s: Scene) -> None:
    """A bow with a hole, a grooved or round shank, and bits of which one can be missing."""
    x, y = s.pose()
    s.background()
    colour, w = metal(s), s.part("shank", 0.09, 0.15)
    centre, size = -0.6, s.part("bow", 0.32, 0.38)
    u, v = polar(x - centre, y, 3, TAU / 2)
    clover = disc(u - 0.6 * size, v, 0.52 * size)
    bow = pick(
        s.count("bow kind", 0, 3),
        disc(x - centre, y, size),
        box(x - centre, y, 0.85 * size, size, 0.12),
        clover,
        polygon(x - centre, y, 6, 0.92 * size),
    )
    blade = torch.maximum(box(x - 0.3, y, 0.66, w, 0.05), (x + y.abs() - 0.98) * 0.7)
    _, _, keep = s.removable(x, y)
    bits, n = torch.full_like(x, 9.0), s.count("bits", 3, 4)
    for k in range(4):
        at, deep = 0.82 - 0.19 * k, w + s.part(f"bit {k}", 0.13, 0.3)
        here = (k < n) * (1 - (1 - keep) * (k == s.count("weak bit", 0, 2)))
        bit = torch.maximum((x - at).abs() - 0.07 + 0.1 * (y - w).clamp(min=0), torch.maximum(-y, y - deep))
        bits = torch.minimum(bits, bit + 9 * (1 - here))
    d = torch.minimum(torch.minimum(bow, blade), bits)
    m = s.solid(d, colour, 0.8, bevel(d, 0.07) * 0.2)
    plastic = s.colour("grip", (0, 1), (0.2, 0.9), (0.12, 0.6))
    s.solid(bow + 9 * (1 - s.option("grip", 0.35)), plastic, 0.3, bevel(bow, 0.1) * 0.26)
    s.tint(m * s.fill(box(x - 0.3, y + 0.2 * w, 0.6, 0.035, 0.03)), 0.55)
    s.emboss(m * s.fill(box(x - 0.3, y + 0.2 * w, 0.6, 0.035, 0.03)), -0.06)
    s.emboss(s.fill((bow + 0.09).abs() - 0.02), -0.05)
    s.cutout(s.fill(disc(x - centre + 0.3 * size, y, s.part("eye", 0.07, 0.13))))


@category("object", "seen", "coin, medal")
def coin(s: Scene) -> None:
    """A raised rim, beads, a legend round the edge and an emblem, all struck in relief; some are of two metals."""
    x, y = s.pose()
    s.background()
    r, a, colour = radius(x, y), torch.atan2(y, x), metal(s)
    m = s.solid(r - 1.0, colour, 0.7, bevel(r - 1.0, 0.06) * 0.1)
    ringed = s.option("two metals", 0.4) * s.fill(r - 0.6)
    s.paint(ringed, metal(s, "core"))
    columns = s.count("letters", 10, 18) * 3
    column = ((a / TAU + 0.5) * columns).floor()
    row = ((r - 0.64) / 0.055).floor()
    glyphs = s.product.lattice("legend", 3, 64).flatten(1)
    at = (row.clamp(0, 2) * 64 + column.clamp(0, 63)).long()
    on = glyphs.gather(1, at.flatten(1)).view(x.shape) > -0.25
    legend = on * (torch.remainder(column, 3) < 2) * (row >= 0) * (row < 3) * (a.abs() > s.part("gap", 0.2, 1.0))
    u, v = polar(x, y, s.count("beads", 28, 44))
    beads = s.fill(disc(u - 0.865, v, 0.028)) * s.option("beaded", 0.6)
    n = s.count("points", 3, 8)
    tx, ty = rotate(x, y, 0.7)
    emblem = pick(
        s.count("emblem", 0, 4),
        r - 0.36 - 0.12 * (n * a).cos(),
        polygon(x, y, n, 0.38) + 0.22 * (0.5 - 0.5 * (n * a).cos()),
        torch.maximum(disc(x, y, 0.46), 0.36 - radius(x - 0.18, y)),
        torch.minimum(box(x, y, 0.46, 0.11), box(x, y, 0.11, 0.46)),
        torch.minimum(disc(tx, ty, 0.2), torch.maximum((r - 0.46).abs() - 0.05, -9 * torch.ones_like(x))),
    )
    value = lettering(s, "value", x, y, 0.44, 0.24) * s.option("value", 0.25)
    relief = torch.maximum(s.fill(emblem) * (1 - s.option("value", 0.25)), value)
    inner = s.fill(emblem + 0.1) * (1 - s.option("value", 0.25)) * s.option("inset")
    relief = relief - 0.6 * inner
    struck = torch.maximum(torch.maximum(relief, 0.8 * legend), torch.maximum(beads, s.fill(0.93 - r)))
    s.emboss(struck * m, 0.09)
    s.tint(m, 0.78 + 0.3 * struck + 0.05 * s.grain("patina", x, y, 6, 3))
