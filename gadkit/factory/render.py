"""Photographs of parts, sound and defective, with the exact mask of every defect.

A defective photograph and its sound twin share every random number, so the mask is not drawn but found: the pixels at
which the part itself (its colour, relief, outline or gloss) differs between the two, before light and sensor noise.
Faults of the whole part or photograph (`everywhere`) need no such search.

Book: intro/factory
"""

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from gadkit.checks import checked, one_of, share, whole
from gadkit.factory.catalogue import lookup
from gadkit.factory.defects import PAINTED, damage, structural_fault
from gadkit.factory.draw import Number
from gadkit.factory.everywhere import GLOBAL, photographed, reach, remade
from gadkit.factory.scene import Canvas, Fault, Scene, light

NUISANCE = {"loose": 1.0, "fixture": 0.15}
GRADES = {"slight": 0.15, "moderate": 0.5, "severe": 0.85}
_CHUNK = 1 << 18  # pixels drawn at once: planes of one chunk stay in the processor's cache


@dataclass(frozen=True)
class Shots:
    """A batch of photographs.

    `images` are as asked; `twins` the same photographs of the same parts without their defect (equal to `images` where
    none was asked for); `masks` True on defective pixels; `cover` True on the sound part.
    """

    images: UInt8[Tensor, "b 3 s s"]
    twins: UInt8[Tensor, "b 3 s s"]
    masks: Bool[Tensor, "b s s"]
    cover: Bool[Tensor, "b s s"]


@dataclass(frozen=True)
class Surfaces:
    """A batch of photographs and what lay before the camera: planes that follow from the drawing, without labelling.

    `height` counts from the table, in units of half an image side; `cover` is 1 on the part and 0 on the table;
    `gloss` runs from 0, matt, to 1.
    """

    images: UInt8[Tensor, "b 3 s s"]
    height: Float[Tensor, "b s s"]
    cover: Float[Tensor, "b s s"]
    gloss: Float[Tensor, "b s s"]


def _changed(a: Canvas, b: Canvas, pixel: float) -> Bool[Tensor, "b s s"]:
    """Where two canvases differ enough to see; relief counts by its slope, as light does."""
    colour = (a.albedo - b.albedo).abs().amax(1)
    relief = (a.height - b.height).abs() / (16 * pixel)
    seen = torch.maximum(colour, torch.maximum(relief, (a.cover - b.cover).abs()))
    seen = torch.maximum(seen, 0.3 * (a.gloss - b.gloss).abs())
    return seen > 0.08


def _tidy(mask: Bool[Tensor, "b s s"]) -> Bool[Tensor, "b s s"]:
    """Close pinholes one pixel wide, where defect and part happen to look alike."""
    grown = F.max_pool2d(mask[:, None].float(), 3, 1, 1)
    return (-F.max_pool2d(-grown, 3, 1, 1))[:, 0] > 0.5


def _expose(scene: Scene, canvas: Canvas, fault: Fault, noise: float) -> UInt8[Tensor, "b 3 s s"]:
    image = photographed(light(scene, canvas), scene, fault)
    image = image + noise * scene.photo.gaussian("sensor", *image.shape[1:])
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def _draw(
    name: str, defect: str | None, size: int, nuisance: Number, seeds, variants, severity
) -> tuple[Scene, Canvas, Fault]:
    """A sound scene, the canvas that takes its place when there is a defect (else the scene itself), and the fault."""
    category = lookup(name)
    scene = Scene(seeds, variants, size, nuisance)
    category.draw(scene)
    if defect is None or defect in ("cast", "blur"):
        return scene, scene, Fault(defect, severity)
    if defect in PAINTED:
        return scene, damage(scene, defect, severity), Fault(defect, severity)
    if defect == "material":
        return scene, remade(scene, severity), Fault(defect, severity)
    fault = structural_fault(scene, defect, severity, category.kind == "texture")
    canvas = Scene(seeds, variants, size, nuisance, fault)
    category.draw(canvas)
    return scene, canvas, fault


def _shoot(scene: Scene, canvas: Canvas, fault: Fault, noise: float) -> Shots:
    twins, cover = _expose(scene, scene, Fault(), noise), scene.cover > 0.5
    if fault.kind is None:
        return Shots(twins, twins, torch.zeros_like(cover), cover)
    changed = reach(scene, fault.kind) if fault.kind in GLOBAL else _tidy(_changed(canvas, scene, scene.pixel))
    return Shots(_expose(scene, canvas, fault, noise), twins, changed, cover)


def _measure(scene: Scene, canvas: Canvas, fault: Fault, noise: float) -> Surfaces:
    return Surfaces(_expose(scene, canvas, fault, noise), canvas.height, canvas.cover, canvas.gloss)


@checked
@torch.inference_mode()
def render(
    category: str,
    seeds: Int[Tensor, "b"],
    variants: Int[Tensor, "b"] | int = 0,
    defect: str | None = None,
    severity: Float[Tensor, "b"] | Number = 0.5,
    size: int = 96,
    nuisance: Number = 1.0,
    noise: Number = 0.02,
) -> Shots:
    """Photograph parts of a category: one image a seed, on the device of `seeds`.

    `seeds` choose piece, pose, light and defect; `variants` the product (size, colours, counts).  `severity` runs
    from 0 to 1, `nuisance` from 0 (every part aligned under one light) to 1 (free); `noise` is the sensor's standard
    deviation.
    The same arguments give the same pixels.  Raises ValueError for an unknown category or a defect it cannot have.
    """
    return _each(Shots, _shoot, category, seeds, variants, defect, severity, size, nuisance, noise)


@checked
@torch.no_grad()  # and not inference mode: these planes are targets, which a loss keeps for its backward pass
def survey(
    category: str,
    seeds: Int[Tensor, "b"],
    variants: Int[Tensor, "b"] | int = 0,
    defect: str | None = None,
    severity: Float[Tensor, "b"] | Number = 0.5,
    size: int = 96,
    nuisance: Number = 1.0,
    noise: Number = 0.02,
) -> Surfaces:
    """Photograph parts as `render` does, pixel for pixel, and measure their surfaces as well."""
    return _each(Surfaces, _measure, category, seeds, variants, defect, severity, size, nuisance, noise)


def _each(result, what, category, seeds, variants, defect, severity, size, nuisance, noise):
    """Check the order, then draw it a chunk at a time and put the chunks together."""
    kind = lookup(category)
    if defect is not None:
        one_of("defect", defect, kind.defects + kind.everywhere)
    whole("size", size, 16, 2048)
    share("nuisance", nuisance, zero=True)
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise: expected a standard deviation from 0, got {noise}")
    if seeds.ndim != 1 or len(seeds) == 0:
        raise ValueError(f"seeds: expected a vector of at least one seed, got shape {tuple(seeds.shape)}")
    severity = torch.as_tensor(severity, dtype=torch.float32, device=seeds.device)
    if not bool(((severity >= 0) & (severity <= 1)).all()):
        raise ValueError(f"severity: expected numbers from 0 to 1, got {severity.min():.3g} to {severity.max():.3g}")
    variants = torch.as_tensor(variants, device=seeds.device).expand(len(seeds))
    severity = severity.expand(len(seeds))[:, None, None]
    step = max(1, _CHUNK // size**2)
    parts = [
        what(*_draw(category, defect, size, nuisance, *rows), noise)
        for rows in zip(seeds.split(step), variants.split(step), severity.split(step), strict=True)
    ]
    return result(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(result)))
