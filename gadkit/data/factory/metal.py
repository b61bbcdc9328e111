"""Turned, cast and stamped parts: washer, gear, nut, screw, wheel, gasket, bracket, key, coin.

Book: intro/factory
"""

import torch

from gadkit.data.factory.catalogue import category
from gadkit.data.factory.scene import Scene
from gadkit.data.factory.shapes import bevel, disc, polar, radius, ring, sector


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
