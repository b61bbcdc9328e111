"""The stage on which a part is drawn: albedo, height, coverage and gloss as whole-batch planes, then light.

A category is a function that paints on a `Scene`.  It draws its numbers from three sources: `part` (what the product
is: equal for all photographs of one product), `shot` (what differs from piece to piece by nature) and `vary` (nuisance:
pose, light and colour drift, which a fixture would reduce).

Book: intro/factory
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.checks import checked, whole
from gadkit.factory.draw import Draw
from gadkit.factory.shapes import Number, Plane, Scalar, rotate

Colour = Float[Tensor, "b 3 _ _"]  # one colour an image (1 x 1) or one a pixel
Range = tuple[Number, Number]


def hsv(h: Float[Tensor, "b 1 1"], s: Float[Tensor, "b 1 1"], v: Float[Tensor, "b 1 1"]) -> Colour:
    """Hue, saturation, value (each 0 to 1; hue wraps round) to RGB."""
    k = torch.stack([(torch.remainder(h, 1.0) * 6 + o) % 6 for o in (5, 3, 1)], 1)
    return v[:, None] * (1 - s[:, None] * torch.minimum(k, 4 - k).clamp(0, 1))


@dataclass
class Canvas:
    """The scene before the camera, without light: the planes that defects change."""

    albedo: Float[Tensor, "b 3 h w"]
    height: Plane
    cover: Plane  # 1 on the part, 0 on the background
    gloss: Plane

    def clone(self) -> "Canvas":
        """An independent copy."""
        return Canvas(*(plane.clone() for plane in (self.albedo, self.height, self.cover, self.gloss)))

    def paint(self, m: Plane, colour: Colour | None = None, gloss: Scalar | None = None) -> None:
        """Lay a colour over coverage m (0 to 1), and a gloss if one is given."""
        if colour is not None:
            self.albedo = torch.lerp(self.albedo, colour, m[:, None])
        if gloss is not None:
            self.gloss = self.gloss + (gloss - self.gloss) * m


@dataclass(frozen=True)
class Fault:
    """A change to how the part itself is made, for the defects that no paint can imitate; None leaves it sound."""

    kind: str | None = None  # "missing", "misplaced", "misprint" or "bent"; or one of `everywhere.GLOBAL`
    severity: Float[Tensor, "b 1 1"] | Number = 0.5
    push: tuple[Scalar, Scalar, Scalar, Scalar, Scalar] | None = None  # bent: centre x, y, displacement x, y, reach


class Scene(Canvas):
    """A canvas with a camera and named numbers.  Image coordinates run from -1 to 1, y downwards."""

    @checked
    def __init__(
        self,
        seeds: Int[Tensor, "b"],
        variants: Int[Tensor, "b"],
        size: int,
        nuisance: Number = 1.0,
        fault: Fault = Fault(),
    ) -> None:
        whole("size", size, 16, 2048)
        self.b, self.size, self.nuisance, self.fault = len(seeds), size, nuisance, fault
        self.product, self.photo = Draw(variants), Draw(seeds)
        t = (torch.arange(size, device=seeds.device) + 0.5) / size * 2 - 1
        self.Y, self.X = (g.expand(self.b, -1, -1) for g in torch.meshgrid(t, t, indexing="ij"))
        self.pixel = 2.0 / size
        self.softness: Scalar = self.pixel  # width of an anti-aliased edge, in the current coordinates
        zeros = torch.zeros(self.b, size, size, device=seeds.device)
        super().__init__(zeros[:, None].expand(-1, 3, -1, -1), zeros, zeros.clone(), zeros + 0.1)
        self.bg: Colour = zeros[:, None, :1, :1].expand(-1, 3, -1, -1)

    # ---------------------------------------------------------------- numbers

    def part(self, name: str, low: Number, high: Number) -> Float[Tensor, "b 1 1"]:
        """A measure of the product: one value a variant."""
        return self.product.uniform(name, low, high)

    def count(self, name: str, low: int, high: int) -> Float[Tensor, "b 1 1"]:
        """A whole number of the product, low to high included."""
        return self.product.integer(name, low, high)

    def option(self, name: str, p: Number = 0.5) -> Float[Tensor, "b 1 1"]:
        """1 for a share p of the products, else 0."""
        return self.product.chance(name, p)

    def shot(self, name: str, low: Number, high: Number) -> Float[Tensor, "b 1 1"]:
        """A measure that differs from piece to piece, in a fixture too."""
        return self.photo.uniform(name, low, high)

    def vary(self, name: str, low: Number, high: Number) -> Float[Tensor, "b 1 1"]:
        """A nuisance: uniform on [low, high] at nuisance 1, shrinking to the middle as nuisance goes to 0."""
        middle, half = (low + high) / 2, (high - low) / 2 * self.nuisance
        return self.photo.uniform(name, middle - half, middle + half)

    def colour(self, name: str, hue: Range = (0, 1), sat: Range = (0, 1), val: Range = (0, 1)) -> Colour:
        """A colour of the product, drifting a little from photograph to photograph."""
        h = self.part(f"{name} hue", *hue) + self.vary(f"{name} hue drift", -0.02, 0.02)
        s = self.part(f"{name} sat", *sat) + self.vary(f"{name} sat drift", -0.05, 0.05)
        v = self.part(f"{name} val", *val) + self.vary(f"{name} val drift", -0.05, 0.05)
        return hsv(h, s.clamp(0, 1), v.clamp(0, 1))

    def grey(self, value: Number | Float[Tensor, "b 1 1"]) -> Colour:
        """A neutral colour."""
        return torch.as_tensor(value, device=self.X.device).expand(self.b, 1, 1)[:, None].expand(-1, 3, -1, -1)

    # ---------------------------------------------------------------- noise

    def noise(self, name: str, base: int = 4, octaves: int = 4, decay: Number = 0.5, stretch: Range = (1, 1)) -> Plane:
        """Fractal value noise fixed to the image, about [-1, 1]; `base` cells across, times `stretch` in (x, y)."""
        total, weight = torch.zeros_like(self.height), 1.0
        for octave in range(octaves):
            columns, rows = (max(2, int(base * s * 2**octave)) for s in stretch)
            if min(columns, rows) > self.size:
                break
            grid = self.photo.lattice(f"{name} {octave}", min(rows, 4 * self.size), min(columns, 4 * self.size))
            wide = F.interpolate(grid[:, None], (self.size, self.size), mode="bicubic", align_corners=False)[:, 0]
            total, weight = total + weight * wide, weight * decay
        return total

    def grain(self, name: str, x: Plane, y: Plane, base: int = 4, octaves: int = 3, decay: Number = 0.5) -> Plane:
        """Fractal value noise that turns with the part: x, y in [-1.5, 1.5] cover the lattice once, then mirror."""
        where, total, weight = torch.stack([x / 1.5, y / 1.5], -1), torch.zeros_like(x), 1.0
        for octave in range(octaves):
            n = base * 2**octave + 1
            grid = self.photo.lattice(f"{name} {octave}", n, n)[:, None]
            layer = F.grid_sample(grid, where, mode="bilinear", padding_mode="reflection", align_corners=True)[:, 0]
            total, weight = total + weight * layer, weight * decay
        return total

    # ---------------------------------------------------------------- pose

    def pose(self, turn: Number = math.pi, scale: Range = (0.72, 0.82), shift: Number = 0.06) -> tuple[Plane, Plane]:
        """Coordinates fixed to the part, which fits the unit disc.  `turn` bounds the rotation, in radians."""
        zoom = self.vary("zoom", *scale)
        if self.fault.kind == "scale":  # beyond the largest or the smallest that a sound piece shows
            by = 1.15 + 0.6 * self.fault.severity
            zoom = torch.where(self.photo.chance("scale up") > 0, scale[1] * by, scale[0] / by)
        X, Y = self.X, self.Y
        if self.fault.push is not None:
            cx, cy, dx, dy, reach = self.fault.push
            w = torch.exp(-((X - cx) ** 2 + (Y - cy) ** 2) / reach**2)
            X, Y = X + dx * w, Y + dy * w
        X, Y = X - self.vary("shift x", -shift, shift), Y - self.vary("shift y", -shift, shift)
        x, y = rotate(X, Y, self.vary("turn", -turn, turn))
        self.softness = self.pixel / zoom
        return x / zoom, y / zoom

    def surface(self, turn: Number = math.pi, zoom: Range = (0.85, 1.15), shift: Number = 0.5) -> tuple[Plane, Plane]:
        """Coordinates fixed to a texture that fills the image."""
        return self.pose(turn, zoom, shift)

    # ---------------------------------------------------------------- painting

    def background(self, val: Range = (0.1, 0.9), hue: Range = (0, 1), sat: Range = (0, 0.25)) -> None:
        """Start an object: an even table of one colour."""
        self.bg = self.colour("background", hue, sat, val)
        self.albedo = self.bg.expand(-1, -1, self.size, self.size)

    def material(self, colour: Colour, gloss: Scalar = 0.1) -> None:
        """Start a texture: the material fills the image."""
        self.albedo = self.bg = colour
        self.albedo = colour.expand(-1, -1, self.size, self.size)
        self.cover = torch.ones_like(self.cover)
        self.gloss = torch.full_like(self.gloss, gloss)

    def fill(self, d: Plane) -> Plane:
        """Coverage of a signed distance: 1 inside, 0 outside, anti-aliased over about a pixel."""
        return (0.5 - d / (1.3 * self.softness)).clamp(0, 1)

    def solid(self, d: Plane, colour: Colour, gloss: Scalar = 0.3, height: Plane | Scalar = 0.0) -> Plane:
        """Add a body of the part inside distance d and return its coverage; `height` counts from the table."""
        m = self.fill(d)
        self.paint(m, colour, gloss)
        self.height = torch.lerp(self.height, torch.as_tensor(height, device=m.device).expand_as(m), m)
        self.cover = torch.maximum(self.cover, m)
        return m

    def tint(self, m: Plane, factor: Scalar | Plane) -> None:
        """Multiply the albedo by `factor` where m is 1."""
        self.albedo = self.albedo * (1 + (factor - 1) * m)[:, None]

    def emboss(self, m: Plane, by: Scalar | Plane) -> None:
        """Raise (or, negative, engrave) the surface where m is 1."""
        self.height = self.height + by * m

    def cutout(self, m: Plane) -> None:
        """Cut a hole through the part: the background shows."""
        self.paint(m, self.bg)
        self.cover, self.height = self.cover * (1 - m), self.height * (1 - m)

    # ---------------------------------------------------------------- pieces and prints that faults reach

    def removable(
        self, x: Plane, y: Plane, cx: Scalar = 0.0, cy: Scalar = 0.0
    ) -> tuple[Plane, Plane, Float[Tensor, "b 1 1"]]:
        """The frame of the piece at (cx, cy) that a fault takes away or displaces.

        Returns its own x, y, and 1 or 0 to multiply its coverage with.  A sound part gets x - cx, y - cy and 1.
        """
        x, y, keep = x - cx, y - cy, torch.ones(self.b, 1, 1, device=x.device)
        if self.fault.kind == "missing":
            keep = keep * 0
        if self.fault.kind == "misplaced":
            angle, far = self.photo.uniform("misplaced at", 0, 2 * math.pi), 0.14 + 0.16 * self.fault.severity
            x, y = rotate(x - far * angle.cos(), y - far * angle.sin(), self.photo.uniform("misplaced turn", -0.6, 0.6))
        return x, y, keep

    def ink(self, m: Plane, colour: Colour) -> None:
        """Print on the surface: colour without height.  A misprint has voids and smears: ink where none belongs."""
        if self.fault.kind == "misprint":
            wear = self.noise("misprint wear", 5, 2) + 0.55 * self.fault.severity
            smear = F.max_pool2d(m[:, None], k := _odd(self.size * 0.05), 1, k // 2)[:, 0] * self.cover
            faded = self.photo.chance("misprint faded")
            m = torch.where(faded > 0, m * (wear < 0.1).float(), torch.lerp(m, smear, (wear > 0.05).float()))
        self.paint(m, colour)


def _odd(width: float) -> int:
    """The nearest odd whole number of pixels, at least 3, for a pooling window that has a centre."""
    return max(3, 2 * round((width - 1) / 2) + 1)


def slopes(height: Plane) -> tuple[Plane, Plane]:
    """How steeply a surface rises along x and y: central differences of its height, softened a little."""
    size = height.shape[-1]
    blur, pixel = _odd(size / 32), 2.0 / size
    h = F.avg_pool2d(F.pad(height[:, None], (blur // 2,) * 4, mode="replicate"), blur, 1)
    h = F.pad(h, (1, 1, 1, 1), mode="replicate")[:, 0]
    return (h[:, 1:-1, 2:] - h[:, 1:-1, :-2]) / (2 * pixel), (h[:, 2:, 1:-1] - h[:, :-2, 1:-1]) / (2 * pixel)


@checked
def light(scene: Scene, canvas: Canvas) -> Float[Tensor, "b 3 h w"]:
    """Photograph a canvas: one soft lamp, a highlight, the part's shadow on the table, uneven exposure.  About [0, 1].

    Normals follow from the slopes; diffuse light is Lambert's, the highlight Blinn's.  Raises ValueError for a canvas
    of another shape than the scene's.
    """
    if canvas.height.shape != scene.X.shape:
        raise ValueError(f"canvas: expected shape {tuple(scene.X.shape)}, got {tuple(canvas.height.shape)}")
    azimuth, elevation = scene.vary("lamp azimuth", -2.6, -1.6), scene.vary("lamp elevation", 0.75, 1.05)
    lx, ly, lz = azimuth.cos() * elevation.cos(), azimuth.sin() * elevation.cos(), elevation.sin()
    dx, dy = slopes(canvas.height)
    norm = (1 + dx * dx + dy * dy).rsqrt()
    diffuse = ((lz - dx * lx - dy * ly) * norm).clamp(0, 1) / lz
    half = (lx * lx + ly * ly + (lz + 1) ** 2).sqrt()  # the camera looks straight down
    shine = ((lz + 1 - dx * lx - dy * ly) * norm / half).clamp(0, 1) ** 24
    shadow = F.avg_pool2d(canvas.cover[:, None], k := _odd(scene.size * 0.1), 1, k // 2)[:, 0]
    offset = max(1, round(scene.size * 0.03))
    shadow = F.pad(shadow, (offset, 0, offset, 0))[:, :-offset, :-offset] * (1 - canvas.cover)
    image = canvas.albedo * ((0.35 + 0.65 * diffuse) * (1 - 0.45 * shadow))[:, None]
    image = image + (0.28 * canvas.gloss * shine * canvas.cover)[:, None]
    falloff = 1 + scene.vary("falloff x", -0.12, 0.12) * scene.X + scene.vary("falloff y", -0.12, 0.12) * scene.Y
    warm, tint = scene.vary("white balance", -0.04, 0.04), scene.vary("tint", -0.01, 0.01)
    white = torch.stack([1 + warm, 1 + tint, 1 - warm], 1)
    return image * (falloff * scene.vary("exposure", 0.9, 1.08))[:, None] * white
