"""Laying rendered parts on a table: background, clutter, then part by part with its cover as alpha and a soft shadow.

Book: intro/factory
"""

from collections import defaultdict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from gadkit.factory.catalogue import CATEGORIES
from gadkit.factory.draw import Draw
from gadkit.factory.render import render, survey
from gadkit.factory.scene import hsv
from gadkit.factory.scenes.orders import LARGEST, Orders

LEAST_SHARE, LEAST_AREA = 0.25, 0.004  # of a part's own area, and of the scene's, that has to be visible
BACKGROUND = 15  # the number of a scene's sixteen that its background is drawn from
_CHUNK = 1 << 20  # pixels of scenes composed at once


@dataclass(frozen=True)
class Composed:
    """Scenes and what became of the parts that were ordered.

    `kept` is False for a part that was not wanted or would hardly be visible; `instances` number the kept ones from 1,
    bottom to top.  `over[i, j, k]`: part j lies on part k.  `areas`: pixels of the whole part inside the frame.
    """

    images: UInt8[Tensor, "b 3 s s"]
    instances: UInt8[Tensor, "b s s"]
    kept: Bool[Tensor, "b k"]
    over: Bool[Tensor, "b k k"]
    areas: Int[Tensor, "b k"]


def compose(order: Orders, size: int) -> Composed:
    """Draw the scenes of an order, `size` pixels a side."""
    tiles = _tiles(order, round(LARGEST * size))
    ground = _ground(order, size)
    rows = torch.arange(len(order.keys)).split(max(1, _CHUNK // size**2))
    done = [_lay(order, some, tiles[some], ground[some], size) for some in rows]
    return Composed(*(torch.cat(some) for some in zip(*done, strict=True)))


def _tiles(order: Orders, side: int) -> UInt8[Tensor, "b k 4 t t"]:
    """Every part's photograph with its cover as fourth channel, rendered category by category."""
    tiles = torch.zeros(*order.seeds.shape, 4, side, side, dtype=torch.uint8)
    groups = defaultdict(list)
    for i, k in order.wanted.nonzero().tolist():
        groups[order.kinds[i][k], order.defects[i][k]].append((i, k))
    for (kind, defect), places in groups.items():
        i, k = torch.tensor(places).T
        seeds = order.seeds[i, k]
        severity = order.severities[i, k]
        shown = survey(kind, seeds, seeds, defect or None, severity, side)
        cover = (2 * shown.cover - 1).clamp(0, 1)  # an edge pixel shows some of its own table, which stays behind
        tiles[i, k] = torch.cat([shown.images, (255 * cover[:, None]).round().to(torch.uint8)], 1)
    return tiles


def _ground(order: Orders, size: int) -> UInt8[Tensor, "b 3 s s"]:
    """Tables: half of them a material of the split, half a plain colour with blotches."""
    draw, seeds = Draw(order.keys), order.keys + BACKGROUND
    names = [c.name for c in CATEGORIES.values() if c.split == order.split and c.kind == "texture"]
    kind = (draw.uniform("ground kind").flatten() * 2 * len(names)).long()
    colour = hsv(draw.uniform("hue"), draw.uniform("saturation", 0, 0.5), draw.uniform("value", 0.15, 0.95))
    blotches = sum(
        F.interpolate(draw.lattice(f"blotch {n}", n, n)[:, None], (size, size), mode="bicubic") * weight
        for n, weight in ((4, 0.6), (16, 0.4))
    )
    plain = colour * (1 + blotches * draw.uniform("blotched", 0, 0.3)[:, None])
    ground = (255 * plain.clamp(0, 1)).round().to(torch.uint8)
    for number, name in enumerate(names):
        mine = (kind == number).nonzero()[:, 0]
        if len(mine):
            ground[mine] = render(name, seeds[mine], seeds[mine], size=size).images
    return ground


def _lay(order: Orders, some: Tensor, tiles: Tensor, ground: Tensor, size: int) -> tuple[Tensor, ...]:
    """Compose one chunk of scenes."""
    draw, k = Draw(order.keys[some]), tiles.shape[1]
    parts = [_placed(tiles[:, j].float() / 255, order, some, j, size) for j in range(k)]
    masks = torch.stack([part[:, 3] > 0.5 for part in parts], 1)  # (b, k, s, s)
    areas = masks.flatten(2).sum(2)
    kept, taken = torch.zeros_like(areas, dtype=torch.bool), torch.zeros_like(masks[:, 0])
    for j in reversed(range(k)):  # from the top down: what lies above a part decides how much of it is left
        left = (masks[:, j] & ~taken).flatten(1).sum(1)
        kept[:, j] = order.wanted[some, j] & (left >= LEAST_SHARE * areas[:, j]) & (left >= LEAST_AREA * size**2)
        taken |= masks[:, j] & kept[:, j, None, None]
    image = _clutter(ground.float() / 255, draw, size)
    instances, numbers = torch.zeros_like(taken, dtype=torch.uint8), kept.cumsum(1).to(torch.uint8)
    angle = draw.uniform("lamp", 0, 6.2832).flatten()
    for j, part in enumerate(parts):
        alpha = part[:, 3:] * kept[:, j, None, None, None]
        image = image * (1 - 0.45 * _shadow(alpha, angle, size))
        image = torch.lerp(image, part[:, :3], alpha)
        instances = torch.where(masks[:, j] & kept[:, j, None, None], numbers[:, j, None, None], instances)
    t = (torch.arange(size) + 0.5) / size * 2 - 1
    tilt = draw.uniform("tilt x", -0.12, 0.12) * t + draw.uniform("tilt y", -0.12, 0.12) * t[:, None]
    image = image * (1 + tilt[:, None]) + 0.01 * draw.gaussian("sensor", 3, size, size)
    flat = (masks & kept[..., None, None]).flatten(2).float()
    shared = flat @ flat.mT
    over = (
        (shared > 0.02 * torch.minimum(areas[:, :, None], areas[:, None])).tril(-1) & kept[:, :, None] & kept[:, None]
    )
    return (255 * image.clamp(0, 1)).round().to(torch.uint8), instances, kept, over, areas


def _placed(tile: Float[Tensor, "b 4 t t"], order: Orders, some: Tensor, j: int, size: int) -> Float[Tensor, "b 4 s s"]:
    """A part's photograph at its place in the scene, turned and scaled, transparent outside."""
    centre, scale, angle = order.centres[some, j], order.sizes[some, j], order.angles[some, j]
    coarse = F.interpolate(F.avg_pool2d(tile, 2), tile.shape[2:], mode="bilinear")
    tile = torch.where((scale < 0.6 * LARGEST)[:, None, None, None], coarse, tile)  # a small part without jagged lines
    cos, sin = angle.cos() / scale, angle.sin() / scale
    turn = torch.stack([torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)], 1)  # (b, 2, 2)
    where = torch.cat([turn, -(turn @ centre[:, :, None])], 2)
    grid = F.affine_grid(where, (len(tile), 4, size, size), align_corners=False)
    return F.grid_sample(tile, grid, align_corners=False)


def _shadow(alpha: Float[Tensor, "b 1 s s"], angle: Float[Tensor, "b"], size: int) -> Float[Tensor, "b 1 s s"]:
    """The cover, blurred and pushed away from the lamp by a fiftieth of the side."""
    upright = torch.eye(2).expand(len(angle), 2, 2)
    shift = 0.04 * torch.stack([angle.cos(), angle.sin()], 1)[:, :, None]
    grid = F.affine_grid(torch.cat([upright, shift], 2), list(alpha.shape), align_corners=False)
    width = 2 * (size // 40) + 1
    return F.avg_pool2d(F.grid_sample(alpha, grid, align_corners=False), width, 1, width // 2)


def _clutter(image: Float[Tensor, "b 3 s s"], draw: Draw, size: int, most: int = 8) -> Float[Tensor, "b 3 s s"]:
    """Crumbs and shavings on the table, which are no parts."""
    t = (torch.arange(size) + 0.5) / size * 2 - 1
    count = draw.integer("crumbs", 0, most)
    for j in range(most):
        angle, radius = draw.uniform(f"crumb angle {j}", 0, 3.1416), draw.uniform(f"crumb radius {j}", 0.01, 0.04)
        x, y = t - draw.uniform(f"crumb x {j}", -1, 1), t[:, None] - draw.uniform(f"crumb y {j}", -1, 1)
        u, v = x * angle.cos() + y * angle.sin(), (y * angle.cos() - x * angle.sin()) * draw.uniform(f"thin {j}", 1, 4)
        alpha = (0.5 + (radius - torch.hypot(u, v)) * size / 2).clamp(0, 1) * (j < count)
        hue, sat, val = (draw.uniform(f"crumb {what} {j}") for what in ("hue", "saturation", "value"))
        image = torch.lerp(image, hsv(hue, 0.6 * sat, val), alpha[:, None])
    return image
