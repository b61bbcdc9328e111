"""Parts and materials that do not exist: every product seed composes a new one.  For training only, in no test split.

A model that has only seen two dozen categories takes a print it does not know for a flaw.  Here prints, two-tone
bodies, rows of holes and stripes come in endless combinations, all of them sound, so that what is left to learn is
what a flaw looks like.

Book: intro/factory
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gadkit.factory.catalogue import category
from gadkit.factory.scene import Colour, Scene
from gadkit.factory.shapes import (
    TAU,
    Plane,
    Scalar,
    bevel,
    box,
    dome,
    polar,
    polygon,
    radius,
    repeat,
    rotate,
    sector,
)

_NOUNS = "part, component, piece, product, item, workpiece"


def pick(index: Float[Tensor, "b 1 1"], *planes: Plane) -> Plane:
    """The plane that each sample's index names."""
    out = planes[0]
    for i, plane in enumerate(planes[1:], 1):
        out = torch.where(index == i, plane, out)
    return out


def lettering(s: Scene, name: str, x: Plane, y: Plane, half_width: Scalar = 0.42, half_height: Scalar = 0.12) -> Plane:
    """Coverage of a word of made-up glyphs, centred on the origin: 5 rows of a lattice, every fourth column blank."""
    glyphs = (s.product.lattice(name, 5, 19) > -0.15).float()
    glyphs[:, :, 3::4] = 0
    length = s.count(f"{name} length", 2, 5) * 4 - 1  # columns in use
    glyphs = glyphs * (torch.arange(19, device=x.device) < length)
    u = (x / half_width + 1) / 2 * length / 19 * 2 - 1
    grid = torch.stack([u, (y / half_height).expand_as(u)], -1)
    return (
        F.grid_sample(glyphs[:, None], grid, padding_mode="zeros", align_corners=False)[:, 0]
        .mul(2.2)
        .sub(0.6)
        .clamp(0, 1)
    )


def any_colour(s: Scene, name: str) -> Colour:
    """Any colour of a product: half of them nearly grey, as most of industry is."""
    vivid = s.colour(name, (0, 1), (0.3, 0.95), (0.25, 0.95))
    return torch.where(
        s.option(f"{name} grey")[:, None] > 0, s.colour(f"{name} dull", (0, 1), (0, 0.2), (0.1, 0.95)), vivid
    )


def _outline(s: Scene, x: Plane, y: Plane) -> Plane:
    """A closed shape: box, polygon, wavy or toothed wheel, ellipse or pill."""
    r, angle, n = radius(x, y), torch.atan2(y, x), s.count("folds", 3, 11)
    aspect = s.part("aspect", 0.32, 1.0)
    wave = s.part("wave", 0.02, 0.12) * (n * angle).cos() + s.part("wave 2", 0, 0.05) * (2 * angle + 1).cos()
    teeth = ((n * angle).cos() * s.part("steep", 3, 12)).sigmoid() * s.part("tooth", 0.08, 0.22)
    oval = (r / (1 / ((x / r) ** 2 + (y / r / aspect) ** 2).sqrt()) - 1) * aspect
    return pick(
        s.count("outline", 0, 5),
        box(x, y, 0.92, 0.92 * aspect, s.part("corner", 0.02, 0.3)),
        polygon(x, y, n.clamp(max=8), 0.8),
        r - 0.86 - wave,
        r - 0.76 - teeth,
        oval,
        box(x, y, 0.95, 0.42, 0.41),
    )


def _array(s: Scene, name: str, x: Plane, y: Plane, removable: bool) -> tuple[Plane, Plane]:
    """Distance to a ring, row or grid of equal elements, and to the one among them that a fault reaches (1e3: none)."""
    n, rho = s.count(f"{name} n", 2, 8), s.part(f"{name} rho", 0.35, 0.66)
    size, square = s.part(f"{name} size", 0.07, 0.16), s.option(f"{name} square")
    linear, pitch = s.option(f"{name} linear"), s.part(f"{name} pitch", 0.3, 0.5)
    rows, phase = s.count(f"{name} rows", 0, 1), s.part(f"{name} phase", 0, TAU)

    def element(u: Plane, v: Plane) -> Plane:
        return torch.where(square > 0, box(u, v, size, size * 0.75, 0.03), radius(u, v) - size)

    px, py = polar(x, y, n, phase)
    gx, gy = repeat(x, pitch), repeat(y - rows * pitch / 2, pitch)
    outside = torch.maximum(x.abs() - pitch * 1.4, (y - rows * pitch / 2).abs() - pitch * (0.5 + rows))
    ring, row = element(px - rho, py), torch.maximum(element(gx, gy), outside)
    first_ring, first_row = (
        sector(x, y, n, phase) < 0.5,
        (x.abs() < pitch / 2) & ((y - rows * pitch / 2).abs() < pitch / 2),
    )
    d, first = torch.where(linear > 0, row, ring), torch.where(linear > 0, first_row, first_ring)
    if not removable:
        return d, torch.full_like(d, 1e3)
    cx, cy = (1 - linear) * rho * phase.cos(), torch.where(linear > 0, rows * pitch / 2, rho * phase.sin())
    u, v, keep = s.removable(x, y, cx, cy)
    u, v = rotate(u, v, phase * (1 - linear))
    return torch.where(first, torch.full_like(d, 1e3), d), torch.where(keep > 0, element(u, v), torch.full_like(d, 1e3))


def _furnish(s: Scene, name: str, x: Plane, y: Plane, removable: bool = False) -> None:
    """Put an array on the part: bosses, painted dots, cored studs or holes through it."""
    rest, piece = _array(s, name, x, y, removable)
    d = torch.minimum(rest, piece)
    m, style = s.fill(d) * s.cover, s.count(f"{name} style", 0, 3)
    through = m * (style == 3)
    painted = m - through
    s.paint(painted, any_colour(s, f"{name} colour"), 0.5)
    s.paint(s.fill(d + 0.05) * painted * (style == 2), any_colour(s, f"{name} core"))
    s.height = s.height + 0.12 * bevel(d, 0.08) * painted * (style != 1)
    s.cutout(through)


def _decorate(s: Scene, x: Plane, y: Plane, d: Plane) -> None:
    """Two-tone halves, bands, rims, grooves and speckle: all of it sound."""
    kind, at, second = s.count("tone kind", 0, 5), s.part("tone at", -0.4, 0.5), any_colour(s, "second")
    f = s.count("bands", 1, 4)
    band = repeat(x - at, 1.6 / f).abs() - s.part("band width", 0.04, 0.2)
    tone = pick(kind, x - at, band, radius(x, y) - 0.5 - at / 2, d.abs() - 0.1, y.abs() - 0.12, torch.full_like(x, 1.0))
    s.paint(s.fill(tone) * s.cover, second)
    groove = s.fill((d + s.part("groove", 0.15, 0.4)).abs() - 0.025) * s.option("grooved", 0.4) * s.cover
    s.emboss(groove, -0.06)
    s.tint(groove, 0.75)
    speckle = (s.grain("speckle", x, y, 18, 1) > 0.6).float() * s.option("speckled", 0.25) * s.cover
    s.tint(speckle, s.part("speckle tone", 0.4, 1.5))
    s.tint(s.grain("mottle", x, y, 5, 3) * s.cover * s.option("mottled", 0.35), 1.15)


@category("object", "randomised", _NOUNS, also="missing misplaced misprint")
def random_part(s: Scene) -> None:
    """A compact part: outline, bevel or dome, decoration, two arrays and a print."""
    x, y = s.pose(scale=(0.72, 0.92))
    s.background()
    d = _outline(s, x, y)
    d = torch.where(s.option("bored", 0.3) > 0, torch.maximum(d, s.part("bore", 0.15, 0.4) - radius(x, y)), d)
    s.solid(d, any_colour(s, "body"), 0.5, bevel(d, s.part("bevel", 0.08, 0.7)) * s.part("tall", 0.12, 0.35))
    s.gloss = s.gloss * s.part("gloss", 0.1, 1.8)
    _decorate(s, x, y, d)
    _furnish(s, "studs", x, y, removable=True)
    if float(s.product.uniform("second array").min()) < 0.5:  # spares the work where no sample of the batch wants it
        keep = s.clone()
        _furnish(s, "dots", x, y)
        _where(s, keep, s.option("second array"))
    word = lettering(s, "word", *rotate(x, y - s.part("word y", -0.35, 0.35), s.part("word turn", -0.4, 0.4)))
    s.ink(word * s.cover, any_colour(s, "ink"))


def _where(s: Scene, before, chosen: Float[Tensor, "b 1 1"]) -> None:
    """Keep what was painted since `before` only where chosen is 1."""
    s.albedo = torch.lerp(before.albedo, s.albedo, chosen[:, None])
    s.height, s.gloss = torch.lerp(before.height, s.height, chosen), torch.lerp(before.gloss, s.gloss, chosen)
    s.cover = torch.lerp(before.cover, s.cover, chosen)


@category("object", "randomised", _NOUNS, also="missing misprint")
def random_bar(s: Scene) -> None:
    """A long part turned on a lathe: a profile in steps of several colours, a thread, a tip that may lack."""
    x, y = s.pose(scale=(0.82, 0.96))
    s.background()
    k = 7
    step = ((x + 1) / 2 * k).clamp(0, k - 1e-3)
    smooth = s.option("tapered", 0.4)
    t = step.floor() + torch.where(smooth > 0, step - step.floor(), ((step - step.floor() - 0.5) * 14).sigmoid())
    widths = s.product.lattice("profile", 1, k + 1)[:, 0] * 0.5 + 0.5  # (b, k + 1)
    index = t.floor().long().clamp(0, k - 1)
    low, high = (torch.gather(widths, 1, (index + o).flatten(1)).view_as(x) for o in (0, 1))
    half = s.part("slim", 0.12, 0.28) + s.part("swell", 0.02, 0.2) * torch.lerp(low, high, t - t.floor())
    thread = s.option("threaded", 0.5) * (
        (x - s.part("thread at", -0.8, 0.6)).abs() < s.part("thread length", 0.1, 0.5)
    )
    pitch = s.part("pitch", 30, 55)
    half = half + 0.025 * (pitch * x + 1.6 * (y > 0)).sin() * thread
    d = torch.maximum(y.abs() - half, x.abs() - 0.96)
    _, _, keep = s.removable(x, y)
    lost = torch.maximum(d, x - s.part("lost from", 0.35, 0.7))
    d = torch.where(keep > 0, d, lost)
    body = s.solid(d, any_colour(s, "body"), 0.7, dome(y, half.clamp(min=0.05)) * 0.4)
    tone = (torch.gather(s.product.lattice("tones", 1, k + 1)[:, 0], 1, index.flatten(1)).view_as(x) > 0.2).float()
    s.paint(body * tone * s.option("two-tone", 0.6), any_colour(s, "second"))
    bands = repeat(x - s.part("band at", -0.3, 0.3), s.part("band gap", 0.16, 0.5)).abs() - 0.04
    s.ink(s.fill(torch.maximum(bands, x.abs() - 0.5)) * body * s.option("banded", 0.4), any_colour(s, "band"))
    s.tint(((pitch * x - 9 * y).sin() * 0.5 + 0.5) * body * thread, 0.6)
    s.ink(
        lettering(s, "word", x - s.part("word x", -0.3, 0.3), y, 0.36, 0.09) * body * s.option("worded"),
        any_colour(s, "ink"),
    )


@category("texture", "randomised", "texture, surface, material, sample", also="missing")
def random_texture(s: Scene) -> None:
    """A material: one of eight patterns for colour, another for relief, over noise."""
    x, y = s.surface()
    first, second = any_colour(s, "first"), any_colour(s, "second")
    s.material(first, 0.3)
    s.gloss = s.gloss * s.part("gloss", 0, 2)
    f, warp = s.part("pitch", 2.5, 7.5), s.part("warp", 0, 0.12) * s.option("warped")
    broad, fine = s.noise("broad", 3, 3), s.noise("fine", 14, 2)
    x, y = x + warp * broad, y + warp * fine * 0.3
    u, v = x * f, y * f * s.part("aspect", 0.5, 1.0)
    shifted = u + 0.5 * s.option("brick") * torch.remainder(v.floor(), 2)
    cu, cv = torch.remainder(shifted, 1) - 0.5, torch.remainder(v, 1) - 0.5
    _, _, keep = s.removable(x, y)
    lost = (shifted.floor() == 0) & (v.floor() == 0) & (keep == 0)
    cu, cv = torch.where(lost, torch.full_like(cu, 9.0), cu), torch.where(lost, torch.full_like(cv, 9.0), cv)
    edge = s.part("edge", 0.03, 0.25)
    dots = (0.5 - (radius(cu, cv) - edge - 0.1) / (f * s.softness)).clamp(0, 1)
    cells = (0.5 + (0.5 - edge / 2 - torch.maximum(cu.abs(), cv.abs())) / (f * s.softness)).clamp(0, 1)
    lines = (0.5 - (torch.minimum(cu.abs(), cv.abs()) - edge / 2) / (f * s.softness)).clamp(0, 1)
    over = (TAU * u / 2).sin() * (TAU * v / 2).sin() > 0
    woven = torch.where(over, (TAU * u).cos().abs(), (TAU * v).cos().abs()) * (~lost)
    stripes = (TAU * u + 2 * broad * s.part("wavy", 0, 2)).sin() * 0.5 + 0.5
    ridges, pores = (1 - fine.abs() * 2).clamp(0, 1), (fine * 0.7 + 0.5).clamp(0, 1)
    patterns = (dots, cells, lines, woven, stripes, ridges, pores, broad.mul(0.5).add(0.5).clamp(0, 1))
    colour, relief = pick(s.count("pattern", 0, 7), *patterns), pick(s.count("relief", 0, 7), *patterns)
    relief = torch.where(s.option("follows", 0.6) > 0, colour, relief)
    s.paint(colour * s.part("contrast", 0.25, 1.0), second)
    s.emboss(relief, 1.0)
    s.height = s.height * s.part("depth", -0.1, 0.1)
    s.tint(s.noise("mottle", 24, 1), s.part("mottled", 1.0, 1.12))
