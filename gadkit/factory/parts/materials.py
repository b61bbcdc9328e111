"""Sheets, slabs and hides: tile, brushed metal, marble, mosaic, foam, cardboard, wood, leather.

Book: intro/factory
"""

import torch

from gadkit.factory.catalogue import category
from gadkit.factory.parts.cells import struck, tone, voronoi
from gadkit.factory.scene import Scene
from gadkit.factory.shapes import Plane, bevel, box, radius, repeat


def _all(plane: Plane) -> Plane:
    return torch.ones_like(plane)


@category("texture", "seen", "tile, ceramic tile", also="misprint")
def tile(s: Scene) -> None:
    """Speckled glazed tiles between joints, each printed with the same ornament."""
    x, y = s.surface()
    p = s.part("side", 0.6, 1.0)
    j = (y / p).round()
    x = x + torch.remainder(j, 2) * p / 2 * s.option("brick", 0.35)
    i, u, v = (x / p).round(), repeat(x, p), repeat(y, p)
    s.material(s.colour("joint", (0.05, 0.15), (0, 0.2), (0.25, 0.6)), 0.02)
    d = box(u, v, p / 2 - s.part("joint", 0.022, 0.04), p / 2 - 0.03, 0.03)
    m = s.solid(d, s.colour("glaze", (0, 1), (0.02, 0.35), (0.6, 0.95)), 0.8, bevel(d, 0.06) * 0.08)
    s.tint(m, 1 + 0.07 * tone(s, "firing", i, j))
    dark = (s.grain("speckle", x, y, 40, 1) - s.part("speckle", 0.45, 0.6)).clamp(min=0) * 3
    s.tint(m * dark.clamp(0, 1), 0.55)
    r, diamond = radius(u, v), u.abs() + v.abs()
    corner = radius(u.abs() - p / 2, v.abs() - p / 2)
    shape = torch.where(s.option("round") > 0, r, diamond) - p * s.part("motif", 0.16, 0.3)
    line = shape.abs() - s.part("line", 0.02, 0.04)
    print_ = torch.where(s.option("outline") > 0, line, shape)
    quarter = (corner - p * s.part("quarter", 0.2, 0.32)).abs() - 0.022
    print_ = torch.where(s.option("corners") > 0, torch.minimum(print_, quarter), print_)
    s.ink(s.fill(print_) * m, s.colour("print", (0, 1), (0.4, 0.9), (0.2, 0.55)))


@category("texture", "seen", "brushed metal, metal sheet", pliable=False)
def brushed_metal(s: Scene) -> None:
    """Sheet metal drawn over a belt: long fine streaks, and a sheen across them."""
    x, y = s.surface()
    s.material(s.colour("metal", (0.03, 0.62), (0.02, 0.24), (0.5, 0.85)), 0.7)
    streaks = s.grain("streaks", x * s.part("stroke", 0.04, 0.2), y, 44, 1)
    broad = s.grain("bands", x * 0.05, y, 9, 2)
    cross = s.grain("cross", x, y * 0.06, 44, 1) * s.option("crossed", 0.25)
    brush = streaks + 0.5 * broad + 0.7 * cross
    sheen = (s.part("bands", 1.0, 2.2) * y + s.shot("sheen", 0, 6)).sin()
    s.tint(_all(x), 1 + s.part("contrast", 0.07, 0.15) * brush + 0.1 * sheen)
    s.emboss(brush, 0.006)


@category("texture", "seen", "marble, marble slab", pliable=False)
def marble(s: Scene) -> None:
    """Polished stone with clouds and branching veins."""
    x, y = s.surface()
    wx, wy = s.grain("warp x", x, y, 3, 3), s.grain("warp y", x, y, 3, 3)
    k = s.part("warp", 0.25, 0.5)
    u, v = x + k * wx, y + k * wy
    dark = s.option("dark", 0.35)[:, None]
    pale = s.colour("stone", (0.03, 0.2), (0.02, 0.2), (0.75, 0.95))
    s.material(torch.where(dark > 0, s.colour("dark stone", (0, 1), (0.1, 0.6), (0.12, 0.35)), pale), 0.9)
    cloud = s.grain("cloud", u, v, 3, 3)
    s.tint(_all(x), 1 + 0.16 * cloud)
    vein = torch.where(
        dark > 0,
        s.colour("pale vein", (0, 1), (0, 0.3), (0.75, 0.95)),
        s.colour("vein", (0, 1), (0.1, 0.5), (0.25, 0.5)),
    )
    width = s.part("vein", 0.05, 0.11)
    ridge = (1 - s.grain("vein", u, v * 1.4, 4, 3).abs() / (width * (1.4 + cloud))).clamp(0, 1)
    thread = (1 - s.grain("thread", v, u, 7, 2).abs() / (0.5 * width)).clamp(0, 1)
    s.paint(torch.maximum(0.85 * ridge, 0.4 * thread), vein)


@category("texture", "seen", "mosaic, mosaic tiles", also="missing misplaced")
def mosaic(s: Scene) -> None:
    """Small tesserae in grout, each of its own tone; one can have come off or slipped."""
    x, y = s.surface(shift=0.3)
    p = s.part("pitch", 0.24, 0.36)
    i, j = (x / p).round(), (y / p).round()
    i0, j0, _ = struck(s, p, p)
    px, py, keep = s.removable(x, y, i0 * p, j0 * p)
    here = ((i == i0) & (j == j0)).float()
    colours = [s.colour(f"glass {k}", (0, 1), (0.2, 0.75), (0.4, 0.9)) for k in range(3)]
    s.material(s.colour("grout", (0.05, 0.15), (0, 0.2), (0.2, 0.85)), 0.02)
    s.tint(_all(x), 1 + 0.08 * s.grain("sand", x, y, 40, 1))
    a, rounding = p * s.part("side", 0.38, 0.43), p * s.part("rounding", 0.04, 0.16)
    skew_x, skew_y = 0.03 * p * tone(s, "skew x", i, j), 0.03 * p * tone(s, "skew y", i, j)
    d = box(repeat(x, p) - skew_x, repeat(y, p) - skew_y, a, a, rounding) + here  # the struck one follows by itself
    loose = box(px, py, a, a, rounding)
    checks = s.option("checked", 0.4)
    for body, ii, jj, share in ((d, i, j, 1.0), (loose, i0 + 0 * x, j0 + 0 * y, keep)):
        m = s.fill(body) * share
        s.paint(m, colours[0], 0.75)
        kind = torch.where(checks > 0, 2 * torch.remainder(ii + jj, 2) - 1, tone(s, "glass", ii, jj))
        s.paint(m * (kind > 0), colours[1])
        s.paint(m * (kind > 0.6) * (1 - checks), colours[2])
        s.tint(m, 1 + 0.13 * tone(s, "tone", ii, jj))
        s.height = torch.lerp(s.height, 0.1 * bevel(body, 0.05), m)


@category("texture", "seen", "foam, foam sheet", pliable=False)
def foam(s: Scene) -> None:
    """Open pores of many sizes in a soft block."""
    x, y = s.surface()
    s.material(s.colour("foam", (0, 1), (0.05, 0.65), (0.4, 0.95)), 0.03)
    f1, f2, own = voronoi(s, "pore", x, y, s.part("pore", 0.16, 0.34))
    pore = ((f2 - f1) * 1.6 - s.part("wall", 0.1, 0.3)).clamp(0, 1) * (0.75 + 0.25 * own)
    s.tint(_all(x), 1 - s.part("depth", 0.45, 0.75) * pore + 0.05 * s.grain("skin", x, y, 40, 1))
    s.emboss(pore, -0.09)


@category("texture", "development", "cardboard, corrugated cardboard", also="misprint")
def cardboard(s: Scene) -> None:
    """Brown corrugated board, fibres and flutes showing, with a printed mark."""
    x, y = s.surface(shift=0.3)
    s.material(s.colour("board", (0.07, 0.11), (0.25, 0.5), (0.55, 0.85)), 0.03)
    flute = (y * (6.2832 / s.part("flute", 0.17, 0.32))).cos()
    strong = s.part("relief", 0.6, 1.0)
    s.emboss(flute * strong, 0.03)
    fibre = s.grain("fibre", x * 0.35, y, 44, 1) + s.grain("fibre across", x, y * 0.4, 40, 1)
    s.tint(_all(x), 1 + 0.2 * strong * flute + 0.06 * fibre + 0.05 * s.grain("cloud", x, y, 4, 2))
    a, b = s.part("mark a", 0.3, 0.5), s.part("mark b", 0.25, 0.45)
    frame = box(x, y, a, b, 0.03).abs() - 0.03
    arrow = torch.maximum(x.abs() + (y + 0.15) - 0.22, -(y + 0.2))
    arrow = torch.where(s.option("arrow") > 0, arrow, radius(x, y) - 0.15)
    lines = torch.maximum(
        repeat(y - b * 1.6, 0.2).abs() - 0.035, torch.maximum((y - b - 0.4).abs() - 0.28, x.abs() - a)
    )
    bands = repeat(x, s.part("bands", 0.7, 1.1)).abs() - s.part("band", 0.05, 0.12)
    mark = torch.minimum(torch.minimum(frame, arrow), lines)
    s.ink(
        s.fill(torch.where(s.option("banded", 0.35) > 0, bands, mark)), s.colour("ink", (0, 1), (0.3, 0.95), (0.1, 0.4))
    )


@category("texture", "held-out", "wood, wooden board", pliable=False)
def wood(s: Scene) -> None:
    """Sawn wood: year rings cut lengthwise, short pores, and boards of different tone."""
    x, y = s.surface(turn=0.15)
    s.material(s.colour("wood", (0.045, 0.085), (0.3, 0.65), (0.45, 0.85)), 0.25)
    width = s.part("board", 0.7, 1.4)
    i = (x / width).floor()
    own, planked = tone(s, "board", i, 0 * i), s.option("planked", 0.5)
    u, v = x + planked * 3 * own, y + planked * own
    rings = u + s.part("waver", 0.1, 0.35) * s.grain("waver", u * 0.8, v * 0.25, 3, 2)
    phase = rings / s.part("ring", 0.2, 0.38)
    t = phase - phase.floor()
    late = t**3 * ((1 - t) * 6).clamp(0, 1)  # dark summer wood builds up slowly and stops at once
    lines = s.grain("lines", u, v * 0.06, 44, 1)
    pores = (s.grain("pores", u, v * 0.2, 48, 1) - 0.55).clamp(min=0) * 3
    shade = 1 - s.part("contrast", 0.3, 0.7) * late + 0.08 * lines - s.part("pores", 0.1, 0.45) * pores
    s.tint(_all(x), shade + planked * 0.16 * own)
    s.emboss(pores, -0.02)
    joint = s.fill(repeat(x, width).abs() - 0.014)
    s.tint(joint * planked, 0.35)
    s.emboss(joint * planked, -0.06)


@category("texture", "held-out", "leather, leather hide", pliable=False)
def leather(s: Scene) -> None:
    """Tanned hide: cushions of skin between creases, of two sizes."""
    x, y = s.surface()
    dyed = s.option("dyed", 0.3)[:, None]
    hide = s.colour("hide", (0.0, 0.12), (0.25, 0.75), (0.3, 0.75))
    s.material(torch.where(dyed > 0, s.colour("dye", (0, 1), (0.1, 0.6), (0.25, 0.7)), hide), 0.4)
    u, v = (
        x + 0.06 * s.grain("pull x", x, y, 6, 2),
        y * s.part("stretch", 0.7, 1.0) + 0.06 * s.grain("pull y", x, y, 6, 2),
    )
    f1, f2, own = voronoi(s, "skin", u, v, s.part("skin", 0.16, 0.32))
    cushion = bevel(-(f2 - f1), s.part("crease", 0.25, 0.5))
    s.emboss(cushion, 0.07)
    s.tint(
        _all(x),
        0.55 + 0.47 * cushion + 0.05 * own + 0.1 * s.grain("tan", x, y, 4, 3) + 0.04 * s.grain("pore", x, y, 44, 1),
    )
