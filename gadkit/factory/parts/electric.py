"""Electric parts: chip, battery, resistor, connector, fuse, cable, transistor.

Book: intro/factory
"""

import torch

from gadkit.factory.catalogue import category
from gadkit.factory.parts.metal import metal
from gadkit.factory.parts.randomised import lettering, pick
from gadkit.factory.scene import Colour, Scene
from gadkit.factory.shapes import Plane, Scalar, bevel, box, disc, dome, radius, repeat


def _row(t: Plane, count: Scalar, pitch: Scalar) -> tuple[Plane, Plane]:
    """The number, 0 to count - 1, of the nearest of `count` pieces centred on 0, and the coordinate relative to it."""
    i = torch.minimum((t / pitch + count / 2).floor().clamp(min=0), count - 1)
    return i, t - (i - count / 2 + 0.5) * pitch


def _tin(s: Scene) -> Colour:
    """Tinned wire."""
    return s.colour("tin", (0.5, 0.65), (0, 0.08), (0.72, 0.88))


def _struck(s: Scene, name: str, count: Scalar) -> Scalar:
    """Number, 0 to count - 1, of the piece that a fault reaches."""
    return (s.shot(name, 0, 0.999) * count).floor()


@category("object", "seen", "chip, integrated circuit", also="missing misprint")
def chip(s: Scene) -> None:
    """A moulded package with pins on two or four sides, a dot at pin 1 and two lines of print; a pin can be missing."""
    x, y = s.pose()
    s.background()
    four, n = s.option("four sides", 0.45), s.count("pins", 3, 7)
    a = 0.72
    b = pick(four, s.part("width", 0.36, 0.56), torch.full_like(four, a))
    pitch = 1.36 / (n + 0.4)
    _, _, keep = s.removable(x, y)
    lost = _struck(s, "lost pin", n)
    for t, out, edge, side in ((x, y, b, 1 + 0 * four), (y, x, a + 0 * b, four)):
        i, u = _row(t, n, pitch)
        gone = (i == lost) * (out > 0) * (1 - keep) * (side if out is y else 0)
        pin = torch.maximum(u.abs() - 0.3 * pitch, out.abs() - edge - 0.2) + 9 * (1 - side) + 9 * gone
        s.solid(pin, _tin(s), 0.9, 0.16 - 0.6 * (out.abs() - edge - 0.06).clamp(0, 0.2))
    body = box(x, y, a, b, 0.05)
    dark = s.colour("resin", (0, 1), (0, 0.25), (0.1, 0.24))
    ceramic = s.colour("ceramic", (0.02, 0.15), (0.1, 0.5), (0.45, 0.75))
    s.solid(body, torch.where(s.option("ceramic", 0.2)[:, None] > 0, ceramic, dark), 0.3, bevel(body, 0.09) * 0.34)
    s.tint(s.fill(body), 1 + 0.15 * s.grain("resin", x, y, 24, 2))
    dot = s.fill(disc(x + a - 0.16, y - b + 0.15, 0.07))
    s.emboss(dot, -0.08)
    s.tint(dot, 0.55)
    s.cover = torch.maximum(s.cover, dot)
    white = s.colour("print", (0, 1), (0, 0.3), (0.85, 1.0))
    s.ink(lettering(s, "type", x, y + 0.1, 0.52, 0.13), white)
    s.ink(lettering(s, "date", x + 0.05, y - 0.17, 0.38, 0.075) * s.option("date", 0.8), white)


@category("object", "seen", "battery, battery cell", also="missing misprint")
def battery(s: Scene) -> None:
    """A round cell from the side: a sleeve in two colours, a printed name, a plus; the terminal can be missing."""
    x, y = s.pose()
    s.background()
    w, end = s.part("width", 0.26, 0.46), 0.86
    _, _, keep = s.removable(x, y)
    tin = _tin(s)
    nub = box(x - 0.9, y, 0.09, s.part("nub", 0.3, 0.42) * w, 0.03) + 9 * (1 - keep)
    s.solid(nub, tin, 0.9, 0.35 * dome(y, 0.6 * w))
    can = box(x, y, end, w, 0.06)
    round_ = dome(y, 1.02 * w)
    m = s.solid(can, tin, 0.9, 0.12 + 0.42 * round_)
    sleeve = s.fill(box(x, y, end - 0.05, w + 0.1)) * m
    s.paint(sleeve, s.colour("sleeve", (0, 1), (0.3, 0.95), (0.15, 0.75)), 0.6)
    split = s.part("split", 0.2, 0.5)
    second = s.colour("second", (0.05, 0.7), (0.1, 0.8), (0.3, 0.9))
    s.paint(sleeve * s.fill(split - x), second)
    s.paint(sleeve * s.fill((x - split + 0.06).abs() - 0.02) * s.option("line"), s.grey(0.9))
    s.emboss(m * s.fill((x.abs() - end + 0.09).abs() - 0.02), -0.04)
    s.tint(m, 0.55 + 0.5 * round_)
    pale = s.colour("print", (0, 1), (0, 0.35), (0.88, 1.0))
    s.ink(lettering(s, "brand", x + 0.28, y, 0.44, 0.5 * w) * sleeve, pale)
    px = (x - 0.5 * (split + end) + 0.02).abs()
    plus = torch.minimum(torch.maximum(px - 0.11, y.abs() - 0.035), torch.maximum(px - 0.035, y.abs() - 0.11))
    s.ink(s.fill(plus) * sleeve, pale)


@category("object", "seen", "resistor", also="missing misprint")
def resistor(s: Scene) -> None:
    """A body like a dog bone between two leads, with four or five colour bands; one lead can be missing."""
    x, y = s.pose()
    s.background()
    _, _, keep = s.removable(x, y)
    lead = torch.maximum(y.abs() - s.part("lead", 0.045, 0.07), x.abs() - 1.0) + 9 * (1 - keep) * (x > 0)
    s.solid(lead, _tin(s), 0.9, 0.12 * dome(y, 0.08) + 0.1)
    w, half, swell = s.part("width", 0.2, 0.3), s.part("length", 0.48, 0.62), s.part("swell", 0.0, 0.08)
    h = w + swell * ((x.abs() - half + 0.26) * 18).sigmoid()
    body = torch.maximum(box(x, y, half, w + 0.1, 0.14), y.abs() - h)
    m = s.solid(body, s.colour("body", (0.02, 0.62), (0.15, 0.5), (0.55, 0.88)), 0.6, 0.1 + 0.4 * dome(y, 1.02 * h))
    n, pitch = s.count("bands", 4, 5), 1.5 * half / 5
    for k in range(5):
        at = (k - n / 2 + 0.5) * pitch + 0.06 * (k == n - 1)
        band = s.fill((x - at).abs() - 0.3 * pitch) * m * (k < n)
        ring = torch.where(
            s.option(f"band {k} grey", 0.3)[:, None] > 0,
            s.grey(s.option(f"band {k} white", 0.3) * 0.8 + 0.08),
            s.colour(f"band {k}", (0, 1), (0.7, 1), (0.3, 0.9)),
        )
        s.ink(band, ring)
    s.tint(m, 0.6 + 0.45 * dome(y, 1.02 * h))


@category("object", "development", "connector, plug connector", also="missing misplaced")
def connector(s: Scene) -> None:
    """One to three rows of contacts in a keyed housing; one contact can be missing or bent aside."""
    x, y = s.pose()
    s.background()
    n, rows = s.count("contacts", 3, 6), s.count("rows", 1, 3)
    pitch = (1.8 / (n + 0.5)).clamp(max=0.42)
    a, b = n * pitch / 2 + 0.1, rows * pitch / 2 + 0.1
    plastic = s.colour("housing", (0, 1), (0, 0.85), (0.16, 0.85))
    tab = box(x, y + b + 0.02, s.part("tab", 0.12, 0.3), 0.12, 0.03)
    s.solid(tab, plastic, 0.3, bevel(tab, 0.04) * 0.16)
    body = box(x, y, a, b, s.part("corner", 0.03, 0.1))
    m = s.solid(body, plastic, 0.4, bevel(body, 0.06) * 0.3)
    (i, u), (j, v) = _row(x, n, pitch), _row(y, rows, pitch)
    round_, size = s.option("round", 0.4), 0.38 * pitch
    well = torch.where(round_ > 0, disc(u, v, size), box(u, v, size, size, 0.02))
    s.emboss(s.fill(well) * m, -0.18)
    s.tint(s.fill(well), 0.3)
    i0, j0 = _struck(s, "column", n), _struck(s, "row", rows)
    px, py, keep = s.removable(x, y, (i0 - n / 2 + 0.5) * pitch, (j0 - rows / 2 + 0.5) * pitch)
    gold, r = s.colour("contact", (0.09, 0.14), (0.05, 0.6), (0.75, 0.95)), s.part("pin", 0.19, 0.25) * pitch

    def pin(u: Plane, v: Plane) -> Plane:
        return torch.where(round_ > 0, disc(u, v, r), box(u, v, r, r, 0.01))

    rest = pin(u, v) + 9 * ((i == i0) * (j == j0))
    for d in (rest, pin(px, py) + 9 * (1 - keep)):
        s.solid(d, gold, 0.9, 0.2 + 0.14 * bevel(d, 0.06))


@category("object", "development", "fuse, glass fuse", also="missing")
def fuse(s: Scene) -> None:
    """A glass tube between two metal caps, with a straight or coiled wire that can be missing."""
    x, y = s.pose()
    s.background()
    w, cap = s.part("width", 0.22, 0.34), s.part("cap", 0.22, 0.34)
    tube = box(x, y, 0.9, 0.92 * w, 0.03)
    glass = 0.72 * s.bg + 0.2 * s.colour("glass", (0.3, 0.6), (0.05, 0.3), (0.9, 1.0))
    m = s.solid(tube, glass, 1.0, 0.3 * dome(y, w))
    s.tint(m, 0.7 + 0.35 * dome(y, w))
    _, _, keep = s.removable(x, y)
    coil = s.option("coiled", 0.4) * (x * s.part("turns", 24, 34)).sin() * 0.1
    wire = (y - coil - s.part("sag", 0, 0.06) * (1 - (x / 0.7) ** 2)).abs() - s.part("wire", 0.035, 0.05)
    bead = disc(x, y, 0.1) + 9 * (1 - s.option("bead", 0.3))
    filament = s.fill(torch.maximum(torch.minimum(wire, bead), x.abs() - 0.9)) * keep * m
    dark = (s.bg.mean(1) > 0.45).float()
    bright = s.colour("wire", (0.05, 0.13), (0.1, 0.6), (0.8, 0.95))
    s.paint(filament, torch.where(dark[:, None] > 0, 0.22 * bright, bright), 0.6)
    shine = s.fill((y + 0.5 * w).abs() - 0.09 * w) * m * s.fill(x.abs() - 0.9 + cap)
    s.paint(0.55 * shine, s.grey(1.0))
    ends = box(x.abs() - 0.97 + cap / 2, y, cap / 2, w, 0.03)
    m = s.solid(ends, metal(s), 0.9, 0.06 + 0.34 * dome(y, 1.02 * w))
    s.tint(m, 0.6 + 0.45 * dome(y, 1.02 * w))
    s.tint(m * s.fill((x.abs() - 1.03 + cap).abs() - 0.015), 0.6)


@category("object", "held-out", "cable, cable section", also="missing misplaced")
def cable(s: Scene) -> None:
    """A cut through a sheath with three insulated cores of copper strands; a core can be missing or out of place."""
    x, y = s.pose()
    s.background()
    r = radius(x, y)
    s.solid(r - 1.0, s.colour("sheath", (0, 1), (0, 0.7), (0.15, 0.85)), 0.3, bevel(r - 1.0, 0.08) * 0.25)
    s.tint(s.cover, 1 + 0.08 * s.grain("cut", x * 0.3, y, 24, 2))
    bed = r - s.part("bore", 0.84, 0.88)
    s.solid(bed, s.colour("filler", (0.02, 0.15), (0, 0.3), (0.1, 0.75)), 0.1, 0.14)
    s.tint(s.fill(bed), 0.85 + 0.2 * s.grain("filler", x, y, 16, 2))
    size, core, pitch = s.part("core", 0.33, 0.37), s.part("copper", 0.17, 0.23), s.part("strand", 0.095, 0.14)
    seats = ((0.381, 0.22), (-0.381, 0.22), (0.0, -0.44))
    for cx, cy in seats:
        s.tint(s.fill(disc(x - cx, y - cy, size)), 0.45)
        s.emboss(s.fill(disc(x - cx, y - cy, size)), -0.08)
    for k, (cx, cy) in enumerate(seats):
        u, v, keep = s.removable(x, y, cx, cy) if k == 2 else (x - cx, y - cy, torch.ones_like(size))
        q = radius(u, v)
        hue = (0.28 * k, 0.28 * k + 0.2)  # apart, so that the cores differ
        coat = s.colour(f"core {k}", hue, (0.2, 0.95), (0.3, 0.85))
        s.solid(q - size + 9 * (1 - keep), coat, 0.4, 0.18 + 0.12 * bevel(q - size, 0.1))
        j = (v / (0.866 * pitch)).round()
        du, dv = repeat(u + 0.5 * pitch * torch.remainder(j, 2), pitch), v - 0.866 * pitch * j
        strand = (1 - 3.2 * (du * du + dv * dv) / pitch**2).clamp(0, 1)
        m = s.solid(q - core + 9 * (1 - keep), s.colour("copper", (0.04, 0.09), (0.5, 0.7), (0.75, 0.95)), 0.9, 0.22)
        s.emboss(m * strand, 0.08)
        s.tint(m, 0.35 + 0.75 * strand)


@category("object", "held-out", "transistor", also="missing misplaced")
def transistor(s: Scene) -> None:
    """A tabbed package with three legs on a perforated board; a leg can be missing, or the whole sit askew."""
    x, y = s.pose()
    s.background()
    board = box(x, y, 0.82, 0.88, 0.06)
    laminate = torch.where(
        s.option("green", 0.6)[:, None] > 0,
        s.colour("green", (0.3, 0.62), (0.4, 0.8), (0.2, 0.5)),
        s.colour("brown", (0.06, 0.12), (0.35, 0.65), (0.45, 0.75)),
    )
    m = s.solid(board, laminate, 0.3, bevel(board, 0.05) * 0.06)
    pitch = s.part("grid", 0.22, 0.26)
    spot = radius(repeat(x, pitch), repeat(y - 0.66, pitch))
    pads = m * s.fill(board + 0.06)
    s.paint(
        pads * s.fill(spot - 0.075) * s.option("padded", 0.7), s.colour("pad", (0.07, 0.12), (0.3, 0.6), (0.7, 0.85))
    )
    s.tint(pads * s.fill(spot - 0.04), 0.2)
    px, py, keep = s.removable(x, y, 0.0, -0.1)
    i, u = _row(px, torch.full_like(keep, 3.0), pitch)
    gone = (i == _struck(s, "lost leg", torch.full_like(keep, 3.0))) * (1 - keep)
    thin = 0.055 + 0.03 * s.fill(py - s.part("shoulder", 0.4, 0.5))
    leg = torch.maximum(u.abs() - thin, torch.maximum(py - 0.79, 0.1 - py)) + 9 * gone
    s.solid(leg, _tin(s), 0.9, 0.14 + 0.06 * dome(u, 0.09))
    a, top = s.part("width", 0.4, 0.52), s.part("top", -0.56, -0.46)
    tab = box(px, py + 0.3, a, 0.34, 0.06)
    t = s.solid(tab, metal(s), 0.8, 0.16 + 0.06 * bevel(tab, 0.05))
    eye = s.fill(disc(px, py + 0.42, s.part("eye", 0.1, 0.13)))
    s.paint(eye * t, laminate * 0.35)
    s.emboss(eye * t, -0.15)
    body = box(px, py - 0.02 - 0.3 * (0.46 + top), a, 0.3, 0.03)
    m = s.solid(body, s.colour("resin", (0, 1), (0, 0.3), (0.1, 0.24)), 0.3, 0.14 + 0.22 * bevel(body, 0.08))
    s.ink(lettering(s, "type", px, py, 0.7 * a, 0.1) * m, s.grey(0.85))
