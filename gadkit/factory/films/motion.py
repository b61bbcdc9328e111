"""Videos of the factory's parts: falling, rolling, swinging, with their exact optical flow and the moments of impact.

A part is photographed once, cut out, and laid over a wall and a table at every pose that mechanics gives it.  Since the
pose is known, so is where every one of its pixels goes next.  (Its highlights turn with it, as if the lamp did.)

Book: pretext/context, pretext/crossmodal, pretext/generation
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from gadkit import factory
from gadkit.checks import check_finite, checked, one_of, positive, whole
from gadkit.factory.catalogue import lookup
from gadkit.factory.draw import Draw
from gadkit.factory.films.mechanics import ACTIONS, FIELD, FINE, IMPACTS, RATE, TABLE, Body
from gadkit.factory.scene import hsv
from gadkit.factory.seeds import FIRST_FILM, FIRST_TEST

PARTS = ("washer", "gear", "wheel", "coin", "cap", "bottle", "plate", "button", "chip", "gasket")  # none is long
WALLS = ("tile", "brushed_metal", "marble", "mosaic", "foam", "carpet", "knit", "felt")
SPLITS = ("train", "test")
FIRST = {"train": FIRST_FILM, "test": FIRST_TEST}  # no clip shows a part of the image pools, nor of the other split
_RADII = (0.15, 0.24)  # of the circle round a part, in image sides
_EDGE = 0.82  # the far edge of the table, in image sides from above
_CHUNK, _FEW = 128, 8  # clips whose parts are rendered at once, and whose frames are: these stay in the cache


@dataclass(frozen=True)
class Clips:
    """Videos, and everything about them.

    `actions` and `parts` number ACTIONS and the categories of `names`; `cover` is True on the part; `places` its
    centre (x, y) and `radii` the circle round it in pixels, `angles` clockwise, in radians.  `hits` are the moments of
    impact in frames (infinity for none), `speeds` those of the impacts in metres a second.  `seeds` distinguish one
    clip from all others.
    """

    frames: UInt8[Tensor, "n t 3 s s"]
    cover: Bool[Tensor, "n t s s"]
    actions: Int[Tensor, "n"]
    parts: Int[Tensor, "n"]
    places: Float[Tensor, "n t 2"]
    angles: Float[Tensor, "n t"]
    radii: Float[Tensor, "n"]
    hits: Float[Tensor, "n k"]
    speeds: Float[Tensor, "n k"]
    seeds: Int[Tensor, "n"]
    names: tuple[str, ...]

    def flow(self) -> Float[Tensor, "n u 2 s s"]:
        """Where each pixel goes, (x, y) in pixels a frame, in each of the u = t - 1 frames that have a next one.

        Exact for a body that moves and turns; 0 where there is none.  Light and the shadow on the table don't count.
        """
        side = torch.arange(self.frames.shape[-1], device=self.places.device) + 0.5
        here = torch.stack([side.expand(len(side), -1), side[:, None].expand(-1, len(side))])  # (2, s, s): x, y
        arm = here - self.places[:, :-1, :, None, None]  # (n, u, 2, s, s)
        turn = self.angles.diff(dim=1)[..., None, None]
        moved = torch.stack(_turned(arm[:, :, 0], arm[:, :, 1], turn), 2) + self.places[:, 1:, :, None, None]
        return (moved - here) * self.cover[:, :-1, None]

    def columns(self) -> dict[str, Tensor]:
        """Frames, and flow in half precision, by name, as `gadkit.train.learn` takes them."""
        return {"frames": self.frames, "flow": self.flow().half()}


def _turned(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Points turned clockwise about the origin."""
    cos, sin = angle.cos(), angle.sin()
    return x * cos - y * sin, x * sin + y * cos


@checked
@torch.inference_mode()
def clips(
    count: int,
    seed: int = 0,
    split: str = "train",
    actions: tuple[str, ...] = tuple(ACTIONS),
    parts: tuple[str, ...] = PARTS,
    frames: int = 8,
    size: int = 64,
    drift: float = 0.0,
    noise: float = 0.015,
) -> Clips:
    """`count` videos of `frames` frames of `size` pixels, `actions` in turn, `parts` and walls at random.

    No product is in two clips, and the "test" split has seeds of its own.  `drift` opens a shortcut: the lamp warms up,
    and every clip brightens by this share from its first frame to its last; `noise` is the sensor's deviation.  Clip i
    is the same whatever `count`.  Raises ValueError for an unknown split or action, and numbers out of range.
    """
    one_of("split", split, SPLITS)
    if not actions or any(name not in ACTIONS for name in actions) or not parts:
        raise ValueError(f"clips: expected actions among {', '.join(ACTIONS)} and some parts, got {actions}, {parts}")
    if not 0 < count <= 1 << 20 or not 0 <= seed < 1 << 16 or frames < 2 or size < 16 or size % 2:
        raise ValueError(
            f"clips: expected count from 1 to 2^20, seed from 0 to 2^16 - 1, frames >= 2 and an even size >= 16, "
            f"got {count}, {seed}, {frames}, {size}"
        )
    for part in parts:
        lookup(part)
    if not -2 <= drift <= 2 or not 0 <= noise < math.inf:
        raise ValueError(f"clips: expected a drift from -2 to 2 and noise from 0, got {drift} and {noise}")
    whole("size", size, 16, 1364)  # a part is drawn half as large again, and no larger than 2048
    seeds = FIRST[split] + (seed << 20) + torch.arange(count)
    numbers = torch.tensor([list(ACTIONS).index(name) for name in actions])[torch.arange(count) % len(actions)]
    done = [
        _film(some, which, parts, frames, size, drift, noise)
        for some, which in zip(seeds.split(_CHUNK), numbers.split(_CHUNK), strict=True)
    ]
    return Clips(*(torch.cat([getattr(d, name) for d in done]) for name in list(vars(done[0]))[:-1]), names=parts)


def _film(seeds: Tensor, actions: Tensor, names: tuple[str, ...], t: int, size: int, drift: float, noise: float):
    """One chunk of clips: everything that is drawn once a clip, then the frames, a few clips at a time."""
    draw = Draw(seeds)
    parts = draw.integer("part", 0, len(names) - 1).long().flatten()
    sprites, reach = _cut_out(names, parts, seeds, 3 * size // 2)
    radii = draw.uniform("radius", *_RADII).flatten()
    x, y, angle, hits, speeds = _moves(seeds, actions, reach * radii[:, None], t)
    room, start = _room(draw, seeds, size), draw.integer("sensor", 0, (1 << 20) - 1).flatten().int().tolist()
    grain, lamp = noise * _grain(t * 3 * size**2), torch.linspace(1 - drift / 2, 1 + drift / 2, t)[:, None, None, None]
    frames, cover = torch.empty(len(seeds), t, 3, size, size, dtype=torch.uint8), []
    for few in torch.arange(len(seeds)).split(_FEW):
        layer = _lay(sprites[few], x[few], y[few], angle[few], radii[few], size)  # (n, t, 4, s, s)
        film = room[few, None] * _shade(x[few], y[few], radii[few], size)
        film.mul_(1 - layer[:, :, 3:]).add_(layer[:, :, :3]).mul_(lamp)
        for clip, i in zip(film, few.tolist(), strict=True):
            clip.add_(grain[start[i] :][: clip.numel()].view_as(clip))
        frames[few] = film.clamp_(0, 1).mul_(255).round_().to(torch.uint8)
        cover.append(layer[:, :, 3] > 0.5)
    places = torch.stack([x, y], 2) * size
    facts = actions, parts, places, angle, radii * size, hits, speeds * FIELD * RATE, seeds
    return Clips(frames, torch.cat(cover), *facts, names)


@lru_cache(maxsize=1)
def _grain(length: int) -> Tensor:
    """A reel of Gaussian numbers from which every clip cuts a piece of this length, wherever it likes."""
    return torch.randn((1 << 20) + length, generator=torch.Generator().manual_seed(1))


def _cut_out(names: tuple[str, ...], parts: Tensor, seeds: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Parts on nothing, (n, 4, s, s) premultiplied and turning about their centre of mass, and their reach (n, a).

    A sprite's sides touch the circle round the part; `reach` is how far down the outline goes when the part is turned
    by each of a angles, as a share of the circle's radius.
    """
    side = (torch.arange(size) + 0.5) / size * 2 - 1
    rgba = torch.empty(len(seeds), 4, size // 2, size // 2)
    for number in parts.unique().tolist():
        rows = (parts == number).nonzero()[:, 0]
        shots = factory.render(names[number], seeds[rows], seeds[rows], size=size, nuisance=0.0, noise=0.0)
        alpha = shots.cover.float()
        mass = alpha.sum((1, 2))[:, None]
        cx, cy = ((alpha.sum(axis) * side).sum(1, keepdim=True) / mass for axis in (1, 2))  # (m, 1)
        far = (side - cx)[:, None] ** 2 + (side - cy)[:, :, None] ** 2
        radius = (far * alpha).flatten(1).amax(1).sqrt() + 1 / size
        image = torch.cat([shots.images.float() / 255, torch.ones_like(alpha)[:, None]], 1) * alpha[:, None]
        rgba[rows] = F.avg_pool2d(_sample(image, radius, torch.zeros_like(radius), torch.cat([cx, cy], 1), size), 2)
    side = F.avg_pool1d(side[None], 2)[0]  # (s)
    angles = torch.arange(64) * (math.tau / 64)
    inside = rgba[:, 3] > 0.5
    lowest, highest = (torch.where(inside, way * side[:, None], -9.0).amax(1)[..., None] for way in (1, -1))
    edge = torch.maximum(lowest * angles.cos(), -highest * angles.cos())  # (n, s, a): of the pixels in one column
    edge = torch.where(inside.any(1)[..., None], edge + side[:, None] * angles.sin(), -9.0)
    return rgba, edge.amax(1)


def _sample(image: Tensor, scale: Tensor, angle: Tensor, centre: Tensor, size: int) -> Tensor:
    """Images (m, c, h, w) seen from elsewhere: each output pixel u shows the input at scale * R(angle) u + centre."""
    cos, sin = scale * angle.cos(), scale * angle.sin()
    theta = torch.stack([cos, -sin, centre[:, 0], sin, cos, centre[:, 1]], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, [len(image), 1, size, size], align_corners=False)
    return F.grid_sample(image, grid, align_corners=False)


def _moves(seeds: Tensor, actions: Tensor, reach: Tensor, t: int) -> tuple[Tensor, ...]:
    """Centres x and y (n, t) in image sides, angles (n, t), and impacts: when, and how fast (n, k)."""
    x, y, angle = (torch.empty(len(seeds), t) for _ in range(3))
    hits, speeds = torch.full((len(seeds), IMPACTS), math.inf), torch.zeros(len(seeds), IMPACTS)
    for number in actions.unique().tolist():
        rows = (actions == number).nonzero()[:, 0]
        path = list(ACTIONS.values())[number](Body(Draw(seeds[rows]), reach[rows], t))
        x[rows], y[rows], angle[rows] = (fine[:, ::FINE] for fine in (path.x, path.y, path.angle))
        if path.hits is not None:
            hits[rows], speeds[rows] = path.hits, path.speeds
    return x, y, angle, hits, speeds


def _lay(sprites: Tensor, x: Tensor, y: Tensor, angle: Tensor, radii: Tensor, size: int) -> Tensor:
    """The part at each of its poses on an empty picture: (n, t, 4, s, s)."""
    n, t = x.shape
    radius = radii[:, None].expand(n, t).flatten()
    away = torch.stack(_turned(0.5 - x.flatten(), 0.5 - y.flatten(), -angle.flatten()), 1) / radius[:, None]
    repeated = sprites[:, None].expand(-1, t, -1, -1, -1).flatten(0, 1)  # (n * t, 4, s, s)
    return _sample(repeated, 0.5 / radius, -angle.flatten(), away, size).unflatten(0, (n, t))


def _room(draw: Draw, seeds: Tensor, size: int) -> Tensor:
    """A wall, out of focus, behind the edge of a table: (n, 3, s, s)."""
    walls = draw.integer("wall", 0, len(WALLS) - 1).long().flatten()
    room = torch.empty(len(seeds), 3, size, size)
    for number in walls.unique().tolist():
        rows = (walls == number).nonzero()[:, 0]
        shots = factory.render(WALLS[number], seeds[rows], seeds[rows], size=size, noise=0.0).images.float() / 255
        room[rows] = F.avg_pool2d(F.pad(shots, (1, 1, 1, 1), mode="replicate"), 3, 1)
    mean = room.mean((2, 3), keepdim=True)
    room = mean + 0.5 * (room - mean)
    top = hsv(draw.uniform("hue"), draw.uniform("saturation", 0.05, 0.45), draw.uniform("value", 0.25, 0.85))
    y = ((torch.arange(size) + 0.5) / size - _EDGE)[:, None]  # below the table's far edge, in sides
    table = top * (0.85 + 1.2 * y.clamp(0, 0.15)) * (1 + 0.25 * (y < 1.2 / size))
    return torch.where(y > 0, table, room)


def _shade(x: Tensor, y: Tensor, radii: Tensor, size: int) -> Tensor:
    """The part's soft shadow on the table, darker the nearer it is: a factor (n, t, 1, s, s)."""
    side = (torch.arange(size) + 0.5) / size
    above = (TABLE - radii[:, None] - y).clamp(min=0)[..., None, None]
    across = (side - x[..., None, None]) / (radii[:, None, None, None] * (1 + above))
    along = ((side - TABLE) / 0.04)[:, None]
    dark = 0.55 * torch.exp(-(across**2) * 2 - along**2 - 5 * above)
    return (1 - dark * (side > _EDGE)[:, None])[:, :, None]


@checked
def flow_colours(flow: Float[Tensor, "*b 2 s s"], fastest: float) -> UInt8[Tensor, "*b 3 s s"]:
    """Optical flow as colours: the hue is the direction (red: to the right), white stands still.

    Colours are full at `fastest` pixels a frame.  Raises ValueError for NaN, or for `fastest` not above 0.
    """
    check_finite(flow, "flow")
    positive("fastest", fastest)
    x, y = flow.float().movedim(-3, 0).flatten(1)[..., None, None]  # (2, pixels, 1, 1)
    strong = ((x * x + y * y).sqrt() / fastest).clamp(0, 1)
    colours = hsv(torch.atan2(y, x) / math.tau, strong, torch.ones_like(strong))[..., 0, 0]  # (pixels, 3)
    colours = colours.unflatten(0, (*flow.shape[:-3], *flow.shape[-2:])).movedim(-1, -3)
    return (colours * 255).round().to(torch.uint8)
