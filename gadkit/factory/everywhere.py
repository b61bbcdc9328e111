"""Faults of the whole part or the whole photograph: wrong material, wrong scale, a colour cast, a blur.

None of them has a place, so a detector that looks for the worst spot can miss them.  Each goes beyond what sound
photographs of the loosest regime show: their white balance varies by 4 %, their zoom within a texture's range, and
their focus not at all.  They are a protocol of their own, beside the kinds of damage in `defects`.

Book: anomaly/thresholds, intro/factory
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from gadkit.factory.scene import Canvas, Fault, Scene, hsv
from gadkit.factory.shapes import TAU

GLOBAL = ("material", "scale", "cast", "blur")
TEXTURES_ONLY = ("scale",)  # an object at another scale is a part of another size, or a camera at another distance
Image = Float[Tensor, "b 3 h w"]


def remade(scene: Scene, severity: Float[Tensor, "b 1 1"]) -> Canvas:
    """The part in another material: other colour, grain and gloss on the same shape; slight faults let some through."""
    canvas, draw = Canvas.clone(scene), scene.photo
    own = (canvas.albedo * canvas.cover[:, None]).sum((2, 3)) / (canvas.cover.sum((1, 2))[:, None] + 1e-3)  # (b, 3)
    hue, sat, val = (draw.uniform(f"material {name}") for name in ("hue", "sat", "val"))
    colour = hsv(hue, 0.8 * sat, 0.12 + 0.83 * val)  # (b, 3, 1, 1)
    alike = ((colour[..., 0, 0] - own).abs().amax(1) < 0.3)[:, None, None, None]
    colour = torch.where(alike, (own[..., None, None] + 0.45) % 1.0, colour)
    brushed, mottled = scene.noise("material brushed", 6, 3, stretch=(0.5, 8)), scene.noise("material mottled", 7, 3)
    grain = torch.where(draw.chance("material is brushed") > 0, brushed, mottled)  # (b, h, w)
    m = canvas.cover * (0.5 + 0.5 * severity)
    canvas.paint(m, colour * (1 + 0.25 * grain)[:, None], draw.uniform("material gloss", 0, 0.9))
    canvas.height = canvas.height + 0.03 * grain * m
    return canvas


def photographed(image: Image, scene: Scene, fault: Fault) -> Image:
    """What the camera makes of an image, before the sensor's noise: a cast or a blur where that is the fault.

    A cast multiplies each channel by up to 1 +- 0.12 (severity 0) or 0.3 (severity 1), in a direction of its own.  A
    blur is Gaussian, its standard deviation 0.8 % (severity 0) to 2.2 % (severity 1) of the image's side.
    """
    if fault.kind == "cast":
        angle = scene.photo.uniform("cast", 0, TAU)
        chroma = torch.stack([(angle + i * TAU / 3).cos() for i in range(3)], 1)  # (b, 3, 1, 1), of mean 0
        return image * (1 + (0.12 + 0.18 * fault.severity)[:, None] * chroma)
    if fault.kind == "blur":
        return _blurred(image, scene.size * (0.008 + 0.014 * fault.severity.flatten()))
    return image


def _blurred(image: Image, sigma: Float[Tensor, "b"]) -> Image:
    """A Gaussian blur of its own for each image; sigma in pixels."""
    reach = math.ceil(3 * 0.022 * image.shape[-1])  # of the strongest, so that no image depends on its batch
    at = torch.arange(-reach, reach + 1, device=image.device)
    kernel = torch.exp(-0.5 * (at / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None, None]  # (3 b, 1, 1, k)
    flat = image.flatten(0, 1)[None]  # (1, 3 b, h, w)
    for _ in range(2):  # along x, then, turned, along y
        padded = F.pad(flat, (reach, reach, 0, 0), mode="replicate")
        flat = F.conv2d(padded, kernel, groups=len(kernel)).transpose(2, 3)
    return flat[0].unflatten(0, image.shape[:2])


def reach(scene: Scene, kind: str) -> Bool[Tensor, "b h w"]:
    """The pixels that a fault changes: the whole part, or the whole photograph where light or focus is at fault."""
    whole = scene.cover > 0.5
    return torch.ones_like(whole) if kind in ("cast", "blur") else whole
