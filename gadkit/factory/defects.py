"""Damage: each kind paints on a finished canvas at a place on the part, or changes how the part is made.

Sizes are in image units (the image is 2 wide), so a defect keeps its size when the part turns.  `severity` runs from 0
(an inspector looks twice) to 1 (impossible to miss) and acts on size and contrast.

Book: intro/factory
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gadkit.factory.scene import Canvas, Fault, Scene, hsv
from gadkit.factory.shapes import TAU, Number, Plane, disc, radius, repeat, rotate

PAINTED: dict[str, Callable[["Site"], None]] = {}
STRUCTURAL = ("bent", "missing", "misplaced", "misprint")


@dataclass
class Site:
    """Where a defect goes: the canvas to change, coordinates centred on the spot, its own random numbers."""

    scene: Scene
    canvas: Canvas
    x: Plane
    y: Plane
    severity: Float[Tensor, "b 1 1"]

    @property
    def part(self) -> Plane:
        """Where there is something to damage: coverage of the sound part."""
        return self.canvas.cover

    def draw(self, name: str, low: Number = 0.0, high: Number = 1.0) -> Float[Tensor, "b 1 1"]:
        """A number of this defect."""
        return self.scene.photo.uniform(f"defect {name}", low, high)

    def size(self, name: str, low: Number, high: Number) -> Float[Tensor, "b 1 1"]:
        """A length that grows with severity, from 0.7 to 1.3 times a uniform number."""
        return self.draw(name, low, high) * (0.7 + 0.6 * self.severity)

    def strength(self, low: Number, high: Number) -> Float[Tensor, "b 1 1"]:
        """A contrast, from low at severity 0 to high at severity 1."""
        return low + (high - low) * self.severity

    def fill(self, d: Plane, soft: Number | None = None) -> Plane:
        """Coverage of a distance, on the part only; `soft` is the width of its edge, a pixel if None."""
        soft = 1.3 * self.scene.pixel if soft is None else soft
        return (0.5 - d / soft).clamp(0, 1) * self.part

    def blob(self, name: str, x: Plane, y: Plane, r: Float[Tensor, "b 1 1"], rough: float = 0.35) -> Plane:
        """Distance to an irregular round patch of radius about r."""
        x, y = rotate(x, y, self.draw(f"{name} turn", 0, math.pi))
        d = radius(x, y / self.draw(f"{name} aspect", 0.55, 1.0))
        return d - r * (1 + rough * self.scene.noise(f"defect {name} outline", 7, 3))

    def luminance(self) -> Float[Tensor, "b 1 h w"]:
        """Mean of the three channels."""
        return self.canvas.albedo.mean(1, keepdim=True)


def _painted(function: Callable[[Site], None]) -> Callable[[Site], None]:
    PAINTED[function.__name__] = function
    return function


@_painted
def scratch(s: Site) -> None:
    """One or two thin strokes, lighter than dark material and darker than light, cut into the surface."""
    length, width, bow = s.size("length", 0.25, 0.6), s.size("width", 0.018, 0.034), s.draw("bow", -0.8, 0.8)
    second = (s.draw("second") > 0.5).float()
    taper = width * (1 - (s.x / length) ** 2).clamp(min=0.05)
    one = s.fill(torch.maximum((s.y - bow * s.x * s.x).abs() - taper, s.x.abs() - length))
    apart = s.draw("apart", 0.06, 0.12)
    two = s.fill(torch.maximum((s.y - bow * s.x * s.x - apart).abs() - taper, s.x.abs() - 0.6 * length)) * second
    m, lum = torch.maximum(one, two), s.luminance()
    tone = torch.where(lum > 0.5, lum * 0.35, lum * 0.4 + 0.5)
    s.canvas.albedo = torch.lerp(s.canvas.albedo, tone, (m * s.strength(0.7, 1.0))[:, None])
    s.canvas.height = s.canvas.height - 0.06 * m


@_painted
def crack(s: Site) -> None:
    """A jagged dark line with a branch, deeper than a scratch."""
    length, width, jag = s.size("length", 0.35, 0.75), s.size("width", 0.018, 0.03), torch.zeros_like(s.x)
    for i, f in enumerate((3, 7, 15)):
        zigzag = repeat(s.x + s.draw(f"phase {i}"), 1 / f).abs() * f - 0.25
        jag = jag + zigzag * (0.3 / (i + 1)) * s.draw(f"slope {i}", -1, 1)
    y = s.y - jag
    trunk = torch.maximum(y.abs() - width * (1 - s.x.abs() / length).clamp(min=0.15), s.x.abs() - length)
    lean = s.draw("lean", -1.2, 1.2)
    branch = (y - (s.x - 0.05) * lean).abs() - 0.7 * width
    branch = torch.maximum(branch, torch.maximum(0.05 - s.x, s.x - 0.6 * length))
    m = s.fill(torch.minimum(trunk, branch))
    s.canvas.albedo = s.canvas.albedo * (1 - s.strength(0.75, 0.95) * m)[:, None]
    s.canvas.height = s.canvas.height - 0.15 * m


@_painted
def hole(s: Site) -> None:
    """A punched hole with a raised rim: dark, dull, deep."""
    d = s.blob("hole", s.x, s.y, s.size("radius", 0.08, 0.17), 0.2)
    m, rim = s.fill(d), s.fill(d.abs() - 0.03)
    light = s.luminance().mean((2, 3), keepdim=True)[:, 0] < 0.3  # in dark material a hole shows bright, lit from below
    tone = torch.where(light, s.draw("depth", 0.5, 0.7), s.draw("depth", 0.02, 0.12))
    s.canvas.height = s.canvas.height + 0.05 * rim - 0.3 * m
    s.canvas.paint(m, s.scene.grey(tone), 0.0)


@_painted
def stain(s: Site) -> None:
    """A soaked patch with a soft edge: it darkens what is below, and may leave it wet."""
    d = s.blob("stain", s.x, s.y, s.size("radius", 0.16, 0.36))
    m = s.fill(d, 0.09) * s.strength(0.6, 0.9)
    oily = (s.draw("oily") > 0.5).float()
    colour = hsv(s.draw("hue") * (s.draw("dyed") > 0.5) + 0.08, s.draw("sat", 0.1, 0.9), s.draw("val", 0.08, 0.45))
    lift = (0.35 - s.luminance()).clamp(min=0) * 0.8  # on dark material the stain dries pale, else it would not show
    s.canvas.albedo = torch.lerp(s.canvas.albedo, s.canvas.albedo * colour * 1.2 + lift, m[:, None])
    s.canvas.gloss = s.canvas.gloss + 0.4 * m * oily


@_painted
def contamination(s: Site) -> None:
    """Foreign matter lying on top: crumbs, beads and sometimes a fibre, of a colour unlike the part's."""
    m = s.fill(s.blob("crumb", s.x, s.y, s.size("crumb", 0.06, 0.12)))
    for i in range(3):
        x, y = s.x - s.draw(f"x {i}", -0.22, 0.22), s.y - s.draw(f"y {i}", -0.22, 0.22)
        m = torch.maximum(m, s.fill(disc(x, y, s.size(f"bead {i}", 0.03, 0.06))) * (s.draw(f"there {i}") > 0.45))
    x, y = rotate(s.x, s.y, s.draw("fibre turn", 0, TAU))
    fibre = torch.maximum((y - 0.09 * (6 * x).sin()).abs() - 0.02, x.abs() - s.size("fibre", 0.2, 0.35))
    m = torch.maximum(m, s.fill(fibre) * (s.draw("fibrous") > 0.5))
    below = (s.canvas.albedo * m[:, None]).sum((2, 3)) / (m.sum((1, 2))[:, None] + 1e-3)
    colour = hsv(s.draw("hue"), s.draw("sat", 0, 0.9), s.draw("val", 0.05, 1))
    alike = (colour[..., 0, 0] - below).abs().amax(1)[:, None, None, None] < 0.3
    s.canvas.paint(m, torch.where(alike, (colour + 0.5) % 1.0, colour), 0.3)
    s.canvas.height = s.canvas.height + 0.14 * m


@_painted
def discolouration(s: Site) -> None:
    """A wide patch of another hue at the same brightness: heat, bleach or a wrong dye."""
    m = s.fill(s.blob("patch", s.x, s.y, s.size("radius", 0.26, 0.5), 0.2), 0.16) * s.strength(0.7, 1.0)
    here = (s.canvas.albedo * m[:, None]).sum((2, 3)) / (m.sum((1, 2))[:, None] + 1e-3)
    dye = hsv(s.draw("hue"), s.draw("sat", 0.45, 0.95), s.draw("val", 0.75, 1.1))
    chroma, own = dye[..., 0, 0] - dye.mean((1, 2, 3))[:, None], here - here.mean(1, keepdim=True)
    alike = (F.cosine_similarity(chroma, own) > 0.6)[:, None, None, None] & (own.abs().amax(1) > 0.08)[
        :, None, None, None
    ]
    dye = torch.where(alike, dye.roll(1, 1), dye)
    s.canvas.albedo = torch.lerp(s.canvas.albedo, dye * (0.8 * s.luminance() + 0.18), m[:, None])


@_painted
def broken(s: Site) -> None:
    """A bite out of the rim: the table shows, with a raw edge."""
    d = s.blob("bite", s.x, s.y, s.size("radius", 0.2, 0.34), 0.3)
    m, edge = s.fill(d), s.fill(d.abs() - 0.02)
    c = s.canvas
    c.albedo = c.albedo * (1 - 0.35 * edge)[:, None]
    c.albedo = torch.lerp(c.albedo, s.scene.bg, m[:, None])
    c.cover, c.height = c.cover * (1 - m), c.height * (1 - m)


def place(scene: Scene, cover: Plane, rim: bool) -> tuple[Float[Tensor, "b 1 1"], Float[Tensor, "b 1 1"]]:
    """A random spot well inside the part, or on its rim: x, y in image units.

    Drawn on a 24 x 24 grid of cells, so that one pixel's rounding cannot move a defect from device to device.
    """
    n = 24
    share = F.adaptive_avg_pool2d(cover[:, None], n)[:, 0]
    fit = ((share > 0.2) & (share < 0.8)) if rim else (-F.max_pool2d(-share[:, None], 3, 1, 1)[:, 0] > 0.9)
    t = (torch.arange(n, device=cover.device) + 0.5) / n * 2 - 1
    central = (t[:, None] ** 2 + t[None] ** 2) < 0.85**2
    chance = (scene.photo.lattice("defect place", n, n) + 1.1) * (fit * central + 1e-3 * share)
    at = chance.flatten(1).argmax(1)
    jitter = scene.photo.uniform("defect place x", -1 / n, 1 / n), scene.photo.uniform("defect place y", -1 / n, 1 / n)
    return t[at % n][:, None, None] + jitter[0], t[at // n][:, None, None] + jitter[1]


def structural_fault(scene: Scene, kind: str, severity: Float[Tensor, "b 1 1"], texture: bool) -> Fault:
    """The fault with which a part is drawn again, from the canvas of the sound one."""
    fault = Fault(kind, severity)
    if kind != "bent":
        return fault
    x, y = place(scene, scene.cover, rim=not texture)
    angle, far = scene.photo.uniform("bent angle", 0, TAU), scene.photo.uniform("bent far", 0.15, 0.26)
    far, reach = far * (0.75 + 0.5 * severity), scene.photo.uniform("bent reach", 0.25, 0.4)
    return replace(fault, push=(x, y, angle.cos() * far, angle.sin() * far, reach))


def damage(scene: Scene, kind: str, severity: Float[Tensor, "b 1 1"]) -> Canvas:
    """The scene's canvas with one painted defect; the scene's own stays sound."""
    x, y = place(scene, scene.cover, rim=kind == "broken")
    dx, dy = rotate(scene.X - x, scene.Y - y, scene.photo.uniform("defect turn", 0, TAU))
    site = Site(scene, Canvas.clone(scene), dx, dy, severity)
    PAINTED[kind](site)
    return site.canvas
