"""Things grown, baked and pressed: pill, leaf, bean, cracker, cookie, capsule, hazelnut.

Book: intro/factory
"""

import torch

from gadkit.factory.catalogue import category
from gadkit.factory.parts.cells import tone
from gadkit.factory.parts.randomised import lettering
from gadkit.factory.scene import Colour, Scene
from gadkit.factory.shapes import TAU, Plane, Scalar, bevel, box, disc, dome, radius, repeat, rotate


def _ellipse(x: Plane, y: Plane, a: Scalar | Plane, b: Scalar | Plane) -> tuple[Plane, Plane]:
    """Distance to an ellipse, right near its rim, and the radius in which the rim is 1."""
    q = radius(x / a, y / b)
    slope = radius(x / a**2, y / b**2) / q
    return (q - 1) / slope, q


def _either(s: Scene, name: str, p: float, yes: Colour, no: Colour) -> Colour:
    """One of two colours, the first for a share p of the products."""
    return torch.where(s.option(name, p)[:, None] > 0, yes, no)


def _specks(s: Scene, name: str, x: Plane, y: Plane, period: float, share: Scalar) -> Plane:
    """Coverage of small round grains strewn over the piece: one for a share of the cells of a lattice."""
    i, j = (x / period).floor(), (y / period).floor()
    place, size = tone(s, f"{name} place", i, j), tone(s, f"{name} size", i, j)
    there = (tone(s, f"{name} there", i, j) < 2 * share - 1).float()
    u, v = x / period - i - 0.5 + 0.2 * place, y / period - j - 0.5 + 0.2 * (5 * place).sin()
    return s.fill(disc(u, v, 0.2 + 0.08 * size) * period) * there


def _coating(s: Scene, name: str) -> Colour:
    """Chalk white and pastel, or a vivid film coat."""
    chalk = s.colour(f"{name} chalk", (0, 1), (0.02, 0.22), (0.8, 0.97))
    return _either(s, f"{name} vivid", 0.5, s.colour(name, (0, 1), (0.45, 0.9), (0.5, 0.95)), chalk)


@category("object", "seen", "pill, tablet", also="missing misprint")
def pill(s: Scene) -> None:
    """A round or oval tablet with a code on it, and a score line that can be missing."""
    x, y = s.pose()
    s.background((0.08, 0.75))
    round_one = s.option("round", 0.45)
    b = torch.where(round_one > 0, 0.93, s.part("breadth", 0.48, 0.66))
    d = box(x, y, 0.93, b, b * torch.where(round_one > 0, 1.0, s.part("corner", 0.6, 1.0)))
    m = s.solid(d, _coating(s, "coat"), s.part("gloss", 0.1, 0.7), bevel(d, s.part("edge", 0.12, 0.55)) * 0.24)
    rim = s.fill((d + 0.13).abs() - 0.025) * m * s.option("rimmed", 0.4)
    s.emboss(rim, -0.05)
    s.tint(rim, 0.85)
    s.tint(_specks(s, "speckle", x, y, 0.11, s.part("speckled", -0.1, 0.35)) * m, s.part("speckle tone", 0.6, 0.8))
    s.tint(m, 1 + 0.02 * s.grain("powder", x, y, 30, 1))
    px, py, keep = s.removable(x, y)
    score = s.fill(box(px, py, 0.045, b - 0.06)) * m * keep
    s.emboss(score, -0.12)
    s.tint(score, 0.62)
    side = 0.46 * torch.where(s.option("both sides") > 0, torch.where(x > 0, 1.0, -1.0), -1.0)
    code = lettering(s, "code", x - side, y, 0.3, 0.16) * m
    s.emboss(code, -0.03)
    s.ink(code, _either(s, "dark ink", 0.7, s.colour("ink", (0, 1), (0.2, 0.9), (0.1, 0.35)), s.grey(0.95)))


@category("object", "seen", "leaf, plant leaf")
def leaf(s: Scene) -> None:
    """A blade, smooth, toothed or lobed, with a midrib and side veins."""
    x, y = s.pose(scale=(0.78, 0.9))
    s.background()
    y = y + s.part("bow", 0, 0.12) * (x * x - 0.3) + s.shot("lean", -0.1, 0.1) * x * x
    t, p, q = ((x + 0.75) / 1.7).clamp(1e-3, 1 - 1e-3), s.part("base", 0.35, 0.8), s.part("tip", 0.5, 1.1)
    peak = (p / (p + q)) ** p * (q / (p + q)) ** q
    along = x - s.part("sweep", 0.3, 0.9) * y.abs()
    pitch = s.part("pitch", 0.19, 0.3)
    teeth = 0.05 * s.option("toothed") * (repeat(along, pitch / 2) / pitch * 2)
    lobes = 0.06 * s.option("lobed", 0.3) * (TAU * along / 0.34).cos()
    half = s.part("breadth", 0.42, 0.76) * t**p * (1 - t) ** q / peak * (1 + lobes * 2.2) - teeth
    blade = torch.maximum((y.abs() - half) * 0.75, (x - 0.1).abs() - 0.86)
    stalk = torch.maximum(y.abs() - 0.035, (x + 0.75).abs() - 0.24)
    d = torch.minimum(blade, stalk)
    green = s.colour("green", (0.2, 0.38), (0.45, 0.85), (0.3, 0.7))
    autumn = s.colour("autumn", (-0.02, 0.14), (0.6, 0.9), (0.5, 0.85))
    m = s.solid(d, _either(s, "autumnal", 0.35, autumn, green), s.part("gloss", 0.2, 0.7), bevel(d, 0.1) * 0.08)
    s.tint(m, 1 + 0.1 * s.grain("mottle", x, y, 7, 3))
    flank = repeat(along, pitch)
    s.emboss(m, 0.016 * (TAU * flank / pitch).cos())
    s.tint(m, 1 + 0.07 * (TAU * flank / pitch).cos())
    rib = y.abs() - 0.04 * (1.15 - t)
    vein = torch.maximum(s.fill(rib), 0.6 * s.fill(flank.abs() - 0.014) * s.fill(blade + 0.05)) * m
    s.emboss(vein, 0.015)
    s.tint(vein, torch.where(s.option("pale veins", 0.7) > 0, s.part("vein light", 1.3, 1.6), 0.65))
    margin = s.fill(blade.abs() - 0.04) * m * s.option("edged", 0.3)
    s.tint(margin, s.part("edge tone", 0.6, 1.5))


@category("object", "seen", "bean, kidney bean")
def bean(s: Scene) -> None:
    """A kidney with a pale scar on its hollow side, plain or mottled."""
    x, y = s.pose(scale=(0.7, 0.86))
    s.background()
    w, bend = s.part("breadth", 0.44, 0.54), s.part("bend", 0.62, 1.1) * s.shot("bend", 0.9, 1.1)
    w = w * (1 + 0.16 * s.part("taper", -1, 1) * x)
    half, y = 0.93 - 0.49, y + 0.08
    rho, end = radius(x, y - bend), (bend**2 - half**2).sqrt()  # the bean's axis is an arc that opens towards +y
    off = torch.where(x.abs() * end < half * (bend - y), (rho - bend).abs(), radius(x.abs() - half, y - bend + end))
    d, q, v = off - w, (off / w).clamp(max=1), bend - rho
    dark = s.colour("dark", (-0.06, 0.1), (0.4, 0.8), (0.36, 0.58))
    colour = _either(s, "pale", 0.45, s.colour("pale", (0.07, 0.2), (0.12, 0.45), (0.65, 0.92)), dark)
    m = s.solid(d, colour, s.part("gloss", 0.4, 1.0), dome(q, 1.0) * 0.4)
    spots = ((s.grain("mottle", x, y, 9, 2) - s.part("mottle", 0.15, 0.45)) * 4).clamp(0, 1) * s.option("mottled", 0.5)
    s.paint(spots * m, s.colour("spots", (-0.05, 0.08), (0.4, 0.8), (0.15, 0.4)))
    s.tint(m, (1 - 0.25 * q**4) * (1 + 0.05 * s.grain("skin", x, y, 12, 2)))
    s.tint(s.fill((v - 0.6 * w).abs() - 0.012) * m, 0.85)
    scar = _ellipse(x - 0.04, v - 0.68 * w, s.part("scar", 0.12, 0.18), 0.065)[0]
    s.tint(s.fill(scar - 0.04) * m, 0.45)
    s.paint(s.fill(scar) * m, s.colour("scar", (0.08, 0.14), (0.1, 0.35), (0.75, 0.95)))
    s.emboss(s.fill(scar) * m, -0.04)


@category("object", "seen", "cracker, biscuit", also="missing")
def cracker(s: Scene) -> None:
    """A square biscuit with a scalloped edge, toasted at its rim, and docking holes of which one can be missing."""
    x, y = s.pose(scale=(0.66, 0.76))
    s.background()
    b, n = torch.where(s.option("oblong", 0.35) > 0, 0.68, 0.94), s.count("holes", 2, 4)
    tangent = torch.where(x.abs() > y.abs() + 0.94 - b, y, x)
    d = box(x, y, 0.94, b, s.part("corner", 0.06, 0.3))
    d = d - s.part("scallop", 0.02, 0.045) * (TAU * tangent / s.part("period", 0.14, 0.24)).cos()
    dough = s.colour("dough", (0.075, 0.12), (0.35, 0.6), (0.7, 0.92))
    m = s.solid(d, _either(s, "dark", 0.2, s.colour("rye", (0.04, 0.09), (0.5, 0.7), (0.3, 0.5)), dough), 0.15)
    s.height = s.height + (bevel(d, 0.14) * 0.14 + 0.03 * s.grain("bubbles", x, y, 5, 2)) * m
    toast = ((s.part("toasted", 0.14, 0.26) + d) * 5 + 0.5 * s.grain("toast", x, y, 5, 3)).clamp(0, 1)
    s.tint(toast * m, 0.72)
    s.tint(m, 1 + 0.07 * s.grain("crumb", x, y, 14, 3))
    px, py = 1.5 / n, 2 * (b - 0.2) / n
    u, v = x / px + n / 2, y / py + n / 2
    i, j = u.floor(), v.floor()
    struck = (i == (s.shot("struck i", 0, 1) * n).floor()) * (j == (s.shot("struck j", 0, 1) * n).floor())
    keep = 1 - struck * (1 - s.removable(x, y)[2])
    inside = (i >= 0) * (i < n) * (j >= 0) * (j < n) * keep
    hole = disc((u - i - 0.5) * px, (v - j - 0.5) * py, s.part("hole", 0.07, 0.1))
    s.emboss(-(0.5 - hole / 0.16).clamp(0, 1) * inside * m, 0.1)
    s.tint(s.fill(hole - 0.05) * inside * m, 0.8)
    s.tint(s.fill(hole) * inside * m, 0.35)
    salt = _specks(s, "salt", x, y, 0.16, s.part("salt", 0.05, 0.25)) * m * (1 - s.fill(hole) * inside)
    s.paint(salt * s.option("salted", 0.6), s.grey(0.96))


@category("object", "development", "cookie, chocolate chip cookie", also="missing")
def cookie(s: Scene) -> None:
    """An uneven round of cracked dough with chocolate chips, the largest of which can be missing."""
    x, y = s.pose(scale=(0.7, 0.86))
    s.background()
    r = radius(x, y)
    d = r - 0.9 - s.part("uneven", 0.04, 0.08) * s.grain("outline", x, y, 3, 2)
    dough = s.colour("dough", (0.07, 0.11), (0.4, 0.65), (0.62, 0.88))
    dark = s.colour("cocoa", (0.03, 0.07), (0.5, 0.7), (0.28, 0.4))
    cocoa = s.option("cocoa", 0.25)
    m = s.solid(d, torch.where(cocoa[:, None] > 0, dark, dough), 0.15, bevel(d, 0.4) * 0.24)
    s.emboss(m, 0.05 * s.grain("lumps", x, y, 6, 3))
    s.tint(m, 1 + 0.1 * s.grain("crumb", x, y, 16, 2) - 0.22 * ((d + 0.25) * 4).clamp(0, 1))
    crack = s.fill(s.grain("cracks", x, y, 4, 2).abs() * 0.3 - s.part("cracks", 0.008, 0.016)) * m * s.fill(d + 0.1)
    s.tint(crack, 0.68)
    s.emboss(crack, -0.05)
    keep, n, size = s.removable(x, y)[2], s.count("chips", 7, 11), s.part("chip", 0.12, 0.16)
    wobble, chips = 0.07 * s.grain("wobble", x, y, 9, 1), torch.full_like(x, 9.0)
    start = s.shot("chips turn", 0, TAU)
    for k in range(11):
        a, rho = start + 2.4 * k + s.shot(f"angle {k}", -0.3, 0.3), 0.74 * ((k + 0.7) / n) ** 0.5
        shown = (k < n) * (keep if k == 3 else 1)
        size_k = size * (1.25 if k == 3 else s.shot(f"size {k}", 0.65, 1.1))
        chips = torch.minimum(
            chips, disc(x - rho * a.cos(), y - rho * a.sin(), size_k) + wobble + 9 * (1 - 1.0 * shown)
        )
    chocolate = s.colour("chocolate", (0.02, 0.07), (0.45, 0.7), (0.16, 0.3))
    white = s.colour("white chocolate", (0.1, 0.13), (0.1, 0.25), (0.88, 0.96))
    s.tint(s.fill(chips - 0.04) * m, 0.75)
    s.paint(s.fill(chips) * m, torch.where(cocoa[:, None] > 0, white, chocolate), 0.8)
    s.emboss(bevel(chips, 0.08) * s.fill(chips) * m, 0.07)


@category("object", "held-out", "capsule, medical capsule", also="misprint")
def capsule(s: Scene) -> None:
    """Two halves of gelatine, the cap over the body, each with a code."""
    x, y = s.pose(scale=(0.76, 0.88))
    s.background()
    b, joint = s.part("breadth", 0.33, 0.42), s.part("joint", -0.12, 0.2)
    cap = (x > joint).float()
    d = box(x, y, 0.97, b, b)
    inner = box(x, y, 0.97, b - 0.025, b - 0.025)
    d = torch.where(cap > 0, d, inner)
    m = s.solid(d, _coating(s, "body"), 0.9, bevel(d, b) * 0.34)
    overlap = s.fill(joint - x) * m
    s.paint(overlap, _coating(s, "cap"))
    s.emboss(overlap, 0.03)
    s.tint(s.fill((x - joint + 0.02).abs() - 0.02) * m, 0.7)
    groove = s.fill((x - joint - s.part("lock", 0.1, 0.2)).abs() - 0.02) * m
    s.emboss(groove, -0.03)
    s.tint(groove, 0.85)
    s.tint(m, 1 - 0.28 * (y / b).clamp(-1, 1) ** 4)
    s.tint(s.fill((y + 0.45 * b).abs() - 0.035) * s.fill(x.abs() - 0.62) * m, 1.18)  # the lamp's long reflection
    s.emboss(m, 0.01 * s.grain("gelatine", x, y, 6, 2))
    middle = torch.where(cap > 0, (joint + 0.2 + 0.82) / 2, (joint - 0.82) / 2)
    code = lettering(s, "code", x - middle, y, 0.29, 0.16) * torch.maximum(cap, s.option("both halves", 0.75)) * m
    tone = torch.where(s.albedo.mean(1) > 0.45, 0.08, 0.95)  # ink that can be read on either half
    s.ink(code, tone[:, None].expand(-1, 3, -1, -1))


@category("object", "held-out", "hazelnut, nut in its shell")
def hazelnut(s: Scene) -> None:
    """A shell with meridian streaks, a pointed tip and the pale scar of its base."""
    x, y = s.pose(scale=(0.74, 0.88))
    s.background()
    wide, tip = s.part("wide", 0.82, 0.95) * s.shot("wide", 0.96, 1.04), s.part("tip", 0.05, 0.14)
    point = tip * torch.exp(-((x / 0.22) ** 2)) * (-y).clamp(min=0)
    d, q = _ellipse(x, y - 0.03, wide * (1 + 0.08 * y), 0.9 + point)
    shell = s.colour("shell", (0.045, 0.085), (0.55, 0.8), (0.45, 0.72))
    m = s.solid(d, shell, s.part("gloss", 0.3, 0.8), dome(q.clamp(max=1), 1.0) * 0.5)
    meridian = x / (1.02 - y * y).clamp(min=0.08).sqrt()
    streak = s.grain("streak", meridian * 1.1, y * 0.09, 22, 2)
    s.tint(m, (1 + 0.16 * streak + 0.06 * s.grain("mottle", x, y, 4, 3)) * (1 - 0.25 * q.clamp(max=1) ** 5))
    s.emboss(m, 0.012 * streak)
    u, v = rotate(x, y, s.shot("roll", -0.12, 0.12))
    base = disc(u * s.part("flat", 0.75, 1.0), v - 1.05, s.part("base", 0.5, 0.68)) + 0.025 * s.grain(
        "frayed", x, y, 10, 2
    )
    s.tint(s.fill(base - 0.035) * m, 0.75)
    s.paint(s.fill(base) * m, s.colour("base", (0.08, 0.12), (0.25, 0.4), (0.68, 0.85)), 0.05)
    s.tint(s.fill(base) * m, 1 + 0.14 * s.grain("pores", x, y, 20, 1))
    down = torch.exp(-((x / 0.3) ** 2 + ((y + 0.95) / 0.28) ** 2)) * (0.7 + 0.4 * streak)
    s.paint((down * m).clamp(0, 0.8), s.colour("down", (0.09, 0.12), (0.15, 0.3), (0.75, 0.9)), 0.05)
