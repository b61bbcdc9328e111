"""Things from a kitchen drawer: bottle, plate, button, crown cap, toothbrush, zipper.

Book: intro/factory
"""

import torch

from gadkit.factory.catalogue import category
from gadkit.factory.parts.randomised import any_colour, lettering, pick
from gadkit.factory.scene import Scene
from gadkit.factory.shapes import TAU, Plane, bevel, box, disc, dome, polar, polygon, radius, repeat, sector


@category("object", "seen", "bottle, bottle top, bottle mouth")
def bottle(s: Scene) -> None:
    """A bottle seen from above: shoulder, threaded neck, lip and dark mouth."""
    x, y = s.pose(scale=(0.74, 0.88))
    s.background((0.4, 0.95))
    r, a = radius(x, y), torch.atan2(y, x)
    mouth, neck = s.part("mouth", 0.3, 0.42), s.part("neck", 0.64, 0.78)
    lip = mouth + s.part("lip", 0.12, 0.17)
    glass = s.colour("glass", (0.02, 0.62), (0.25, 0.85), (0.16, 0.6))
    glass = torch.where(s.option("plastic", 0.35)[:, None] > 0, any_colour(s, "plastic"), glass)
    m = s.solid(r - 0.98, glass, 0.9, bevel(r - 0.98, 0.4) * 0.3)
    facets = s.count("facets", 8, 18) * s.option("faceted", 0.3)
    s.tint(m * s.fill(neck - r), 0.82 + 0.1 * (facets * a).cos())
    s.tint(m * s.fill((r - neck - 0.06).abs() - 0.02), 1.35)  # light caught by the shoulder
    s.tint(m * s.fill((r - neck).abs() - 0.03), 0.5)
    thread = r + s.part("lead", 0.0, 0.06) * a / TAU
    ridge = (TAU * thread / s.part("thread", 0.08, 0.12)).cos() * s.fill(r - neck) * s.fill(lip - r)
    lugs = s.count("lugs", 3, 6)
    started = ((lugs * a).cos() > -0.6).float()  # a thread may be cut into as many lugs
    ridge = ridge * torch.maximum(started, s.option("threaded", 0.5))
    s.emboss(ridge * m, 0.025)
    s.tint(m, 1 + 0.28 * ridge)
    s.solid(r - lip, glass, 1.0, 0.34 + 0.1 * dome(r - (lip + mouth) / 2, (lip - mouth) / 2))
    s.paint(s.fill((r - (lip + mouth) / 2).abs() - 0.26 * (lip - mouth)) * s.part("lip tone", 0.15, 0.5), s.grey(0.95))
    s.tint(s.fill((r - lip).abs() - 0.02) * m, 0.55)
    inside = s.fill(r - mouth)
    s.tint(inside, 0.12 + 0.3 * s.fill(r - 0.65 * mouth) * s.option("filled"))
    s.emboss(inside, -0.25)


@category("object", "seen", "plate, dinner plate", also="missing misprint")
def plate(s: Scene) -> None:
    """Porcelain with lines and a ring of painted ornaments on its rim; one ornament can be missing."""
    x, y = s.pose(scale=(0.78, 0.9))
    s.background()
    r, well = radius(x, y), s.part("well", 0.52, 0.6)
    edge = r - 0.96 - 0.025 * s.option("scalloped", 0.3) * (s.count("scallops", 10, 20) * torch.atan2(y, x)).cos()
    cream = s.colour("porcelain", (0.05, 0.6), (0.0, 0.12), (0.85, 0.97))
    ware = torch.where(
        s.option("stoneware", 0.25)[:, None] > 0, s.colour("glaze", (0, 1), (0.2, 0.6), (0.3, 0.75)), cream
    )
    m = s.solid(edge, ware, 0.8, bevel(edge, 0.07) * 0.1)
    slope = ((r - well) / 0.1).clamp(0, 1)
    s.height = s.height + 0.12 * slope * slope * (3 - 2 * slope) * m
    s.tint(m, 1 - 0.1 * s.fill((r - well - 0.05).abs() - 0.05))
    n, size = s.count("ornaments", 6, 14), s.part("size", 0.09, 0.115)
    u, v = polar(x, y, n)
    keep = 1 - (sector(x, y, n) < 0.5) * (1 - s.removable(x, y)[2])
    u, v = (u - 0.81) / size, v / size
    flower = radius(u, v) - 0.7 - 0.35 * (5 * torch.atan2(v, u)).cos()
    diamond = u.abs() + v.abs() * s.part("lean", 0.7, 1.2) - 1
    drop = torch.maximum(radius(u + 0.2, v) - 0.95, v.abs() - 0.45 * (1.1 - u))
    leaves = torch.minimum(radius(u, v.abs() - 0.55) - 0.55, radius(u - 0.5, v) - 0.3)
    shape = pick(s.count("ornament", 0, 4), flower, diamond, drop, leaves, (radius(u, v) - 0.7).abs() - 0.22)
    ink = s.colour("ink", (0, 1), (0.55, 0.95), (0.2, 0.6))
    rings = torch.minimum((r - 0.92).abs() - 0.018, (r - well - 0.1).abs() - 0.013)
    lines = s.fill(rings) * s.option("lined", 0.75)
    n, core = s.count("petals", 4, 8), s.option("centre", 0.5)
    motif = s.fill(r - 0.2 - 0.1 * (n * torch.atan2(y, x)).cos()) * s.fill(0.09 - r) * core
    s.ink(torch.maximum(torch.maximum(s.fill(shape * size) * keep, lines), motif) * m, ink)
    eye = s.fill((radius(u, v) - 0.25) * size) * keep * s.option("eyed") * m
    s.paint(eye, s.colour("eye", (0, 1), (0.5, 0.95), (0.5, 0.9)))


@category("object", "seen", "button, shirt button", also="missing")
def button(s: Scene) -> None:
    """A rim, a dished middle of another colour and two to four holes, one of which can be missing."""
    x, y = s.pose()
    s.background()
    r, a, n = radius(x, y), torch.atan2(y, x), s.count("holes", 2, 4)
    petals = s.count("petals", 6, 12)
    d = r - 0.94 - s.option("wavy", 0.25) * s.part("wave", 0.02, 0.05) * (petals * a).cos()
    m = s.solid(d, any_colour(s, "rim"), s.part("gloss", 0.3, 1.0), bevel(d, 0.16) * 0.22)
    dish = s.part("dish", 0.55, 0.76)
    s.height = s.height - 0.1 * ((dish - r) / 0.12).clamp(0, 1) * m
    s.paint(s.fill(r - dish) * m * s.option("two-tone", 0.6), any_colour(s, "middle"))
    pearl = s.option("pearl", 0.45) * (6 * s.grain("pearl", x, y, 3, 2)).sin()
    s.tint(m, 1 + 0.1 * pearl)
    s.tint(m * s.fill((r - dish).abs() - 0.025), 0.72)
    notch = s.fill((r - 0.85).abs() - 0.05) * ((s.count("notches", 20, 40) * a).cos() > 0.2) * s.option("milled", 0.3)
    s.tint(notch * m, 0.75)
    s.emboss(notch * m, -0.03)
    u, v = polar(x, y, n)
    keep = 1 - (sector(x, y, n) < 0.5) * (1 - s.removable(x, y)[2])
    hole = disc(u - s.part("apart", 0.22, 0.27), v, s.part("hole", 0.085, 0.115))
    s.tint(s.fill(hole - 0.04) * keep * m, 0.78)
    s.emboss(s.fill(hole - 0.04) * keep * m, -0.05)
    s.cutout(s.fill(hole) * keep)


@category("object", "seen", "bottle cap, crown cap, cap", also="misprint")
def cap(s: Scene) -> None:
    """A crown cap: fluted skirt, flat top, a ring and an emblem or a word printed on it."""
    x, y = s.pose(scale=(0.76, 0.88))
    s.background()
    r, a, n = radius(x, y), torch.atan2(y, x), s.count("flutes", 17, 23)
    flute = (n * a).cos()
    lacquer = any_colour(s, "lacquer")
    d = r - 0.91 - s.part("flare", 0.04, 0.065) * flute
    m = s.solid(d, lacquer, 0.9, bevel(d, 0.3) * 0.26)
    skirt = ((r - 0.68) / 0.14).clamp(0, 1) * m
    s.emboss(skirt * flute, 0.04)
    s.tint(skirt, 0.86 + 0.2 * flute)
    ink = any_colour(s, "ink")
    clash = (ink - lacquer).abs().amax(1, keepdim=True) < 0.35
    ink = torch.where(clash, torch.remainder(lacquer + 0.5, 1.0), ink)
    k = s.count("points", 4, 9)
    star = r - s.part("star", 0.26, 0.34) - s.part("spike", 0.06, 0.14) * (k * a).cos()
    crescent = torch.maximum(disc(x, y, 0.4), 0.32 - radius(x - 0.16, y))
    shield = torch.maximum(polygon(x, y, k.clamp(max=6), 0.36), 0.2 - radius(x, y))
    emblem = pick(
        s.count("emblem", 0, 3), star, crescent, shield, torch.minimum((y + 0.2).abs(), (y - 0.2).abs()) - 0.035
    )
    word = lettering(s, "word", x, y, 0.5, 0.13)
    worded = torch.maximum(s.option("worded", 0.4), (s.count("emblem", 0, 3) == 3).float())
    printed = torch.maximum(s.fill(emblem) * s.fill(r - 0.52) * (1 - s.option("worded", 0.4)), word * worded)
    band = s.fill((r - s.part("band", 0.6, 0.66)).abs() - s.part("band width", 0.02, 0.05)) * s.option("banded", 0.65)
    s.ink(torch.maximum(printed, band) * m, ink)
    s.tint(m, 1 + 0.03 * s.grain("tin", x, y, 12, 2))


@category("object", "development", "toothbrush, brush head", also="missing misplaced")
def toothbrush(s: Scene) -> None:
    """The head and the neck of a brush, tufts in rows; one tuft can be missing or out of its row."""
    x, y = s.pose(scale=(0.78, 0.9))
    s.background()
    b, waist = s.part("breadth", 0.36, 0.44), s.part("neck", 0.11, 0.17)
    head = box(x + 0.22, y, 0.76, b, s.part("corner", 0.2, 0.34))
    flare = waist + 0.12 * (0.75 - x).clamp(min=0) + 0.1 * (x - 0.75).clamp(min=0)
    d = torch.minimum(head, torch.maximum((y.abs() - flare) * 0.95, 0.2 - x))
    m = s.solid(d, any_colour(s, "handle"), 0.7, bevel(d, 0.12) * 0.16)
    grip = box(x - 1.15, y, 0.4, 0.5 * waist, 0.5 * waist)
    s.paint(s.fill(grip) * m * s.option("grip", 0.7), any_colour(s, "grip"))
    rows, columns = s.count("rows", 3, 4), s.count("columns", 6, 8)
    px, py = 1.3 / columns, 1.72 * (b - 0.03) / rows
    u, v = (x + 0.87) / px, y / py + rows / 2
    i, j = u.floor(), v.floor()
    i0 = 1 + (s.shot("struck i", 0, 1) * (columns - 2)).floor()
    j0 = (s.shot("struck j", 0, 1) * rows).floor()
    inside = (i >= 0) * (i < columns) * (j >= 0) * (j < rows)
    corner = ((i == 0) + (i == columns - 1)) * ((j == 0) + (j == rows - 1))  # a rounded head leaves its corners empty
    size = 0.5 * torch.minimum(px, py) * s.part("dense", 0.84, 0.98)
    square = s.option("square tufts", 0.3)

    def tuft(p: Plane, q: Plane) -> Plane:
        return torch.where(square > 0, box(p, q, size, size, 0.02), radius(p, q) - size)

    cx, cy = (i0 + 0.5) * px - 0.87, (j0 + 0.5 - rows / 2) * py
    own = inside * (1 - corner * (1 - square)) * (1 - (i == i0) * (j == j0) * 1.0)
    p, q, keep = s.removable(x, y, cx, cy)
    d = torch.minimum(tuft((u - i - 0.5) * px, (v - j - 0.5) * py) + 9 * (1 - own), tuft(p, q) + 9 * (1 - keep))
    socket = s.fill(tuft(x - cx, y - cy) + 0.03) * m
    s.tint(socket, 0.45)
    outer = torch.remainder(pick(s.count("scheme", 0, 2), i, (j - (rows - 1) / 2).abs().floor(), i * 0 + 1), 2)
    colour = torch.where(
        outer[:, None] > 0, any_colour(s, "bristle"), s.colour("white", (0.4, 0.6), (0, 0.1), (0.85, 0.97))
    )
    s.tint(s.fill(d - 0.04) * m, 0.6)
    s.solid(d, colour, 0.0, 0.2 + 0.05 * bevel(d, 0.1))
    s.tint(s.fill(d), 0.92 + 0.16 * (TAU * x / 0.062).cos() * (TAU * y / 0.062).cos())
    s.tint(s.fill(d.abs() - 0.015), 0.75)


@category("object", "held-out", "zipper, zip fastener", also="missing misplaced")
def zipper(s: Scene) -> None:
    """Two tapes of cloth and two interlocking rows of teeth; one tooth can be missing or out of line."""
    x, y = s.pose(scale=(0.8, 0.95))
    s.background()
    tape = s.colour("tape", (0, 1), (0.05, 0.8), (0.12, 0.75))
    d = y.abs() - s.part("tape", 0.58, 0.75)
    m = s.solid(d, tape, 0.05, bevel(d, 0.05) * 0.06)
    f = s.part("weave", 0.045, 0.06)
    s.tint(
        m,
        1
        + 0.12 * (TAU * (x + y.sign() * y) / f / 2).cos() * (TAU * y / f / 2).cos()
        + 0.06 * s.grain("lint", x, y, 20, 2),
    )
    seam = s.part("seam", 0.36, 0.46)
    stitch = s.fill(box(repeat(x, 0.13), y.abs() - seam, 0.045, 0.018, 0.01)) * m
    s.paint(stitch * s.option("stitched", 0.7), s.colour("thread", (0, 1), (0, 0.6), (0.3, 0.95)))
    s.tint(s.fill((y.abs() - seam + 0.09).abs() - 0.02) * m, 0.8)
    s.tint(s.fill(y.abs() - 0.02) * m, 0.45)
    pitch, reach = s.part("pitch", 0.2, 0.3), s.part("reach", 0.15, 0.2)
    kind, half = s.count("kind", 0, 2), s.part("thick", 0.27, 0.34)

    def tooth(p: Plane, q: Plane) -> Plane:
        flat, bulb = box(p, q, half * pitch, reach, 0.03), radius(p, q + 0.6 * reach) - 0.36 * pitch
        stem = box(p, q - 0.15 * reach, 0.22 * pitch, 0.85 * reach, 0.02)
        return pick(kind, flat, box(p, q, half * pitch, reach, half * pitch), torch.minimum(bulb, stem))

    side = torch.where(s.shot("struck side", -1, 1) > 0, 1.0, -1.0)
    column = s.shot("struck column", -2, 2).round()
    at, rows = 0.55 * reach, torch.full_like(x, 9.0)
    for sign in (-1.0, 1.0):
        u = x / pitch + 0.25 * sign
        first = (u.round() == column) * (side == sign)
        rows = torch.minimum(rows, tooth(repeat(x + 0.25 * sign * pitch, pitch), sign * y - at) + 9.0 * first)
    p, q, keep = s.removable(x, y, column * pitch - 0.25 * side * pitch, side * at)
    d = torch.minimum(rows, tooth(p, side * q) + 9 * (1 - keep))
    metal = s.colour("metal", (0.08, 0.13), (0.05, 0.55), (0.65, 0.9))
    s.tint(s.fill(d - 0.035) * m, 0.55)
    s.solid(
        d,
        torch.where(s.option("plastic", 0.45)[:, None] > 0, any_colour(s, "teeth"), metal),
        0.9,
        0.1 + 0.12 * bevel(d, 0.06),
    )
    s.tint(s.fill(d.abs() - 0.012), 0.7)
