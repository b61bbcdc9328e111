"""Views of photographs: crops, flips, colours, blur, for whole batches, with parameters of its own for every image.

Whole-batch tensor operations on whatever device the images are on.  torchvision's transforms draw one set of parameters
a call, so a batch would get the same crop throughout.

Source: the recipes are SimCLR's (Chen et al. 2020, appendix A), BYOL's (Grill et al. 2020, table 6) and, for many
crops, SwAV's (Caron et al. 2020).  Two settings are gentler: crops begin at 20 % of the area and not at 8 %, and
colours at strength 1 are shaken half as hard as SimCLR's, which is as hard as BYOL's.
Book: selfsup/simclr
"""

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit import checks
from gadkit.checks import check_images, checked, whole
from gadkit.data.resampling import resample

MEAN, STD = 0.45, 0.27  # of the factory's photographs, all channels together
LUMA = (0.299, 0.587, 0.114)

Images = Float[Tensor, "b 3 h w"]
Generator = torch.Generator | None


@checked
def normalise(x: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 3 h w"]:
    """Normalise images for an encoder: mean 0 and deviation 1, roughly."""
    return (x - MEAN) / STD


@checked
def denormalise(x: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 3 h w"]:
    """Back from `normalise` to [0, 1]."""
    return x * STD + MEAN


@checked
def to_float(images: UInt8[Tensor, "b 3 h w"]) -> Images:
    """Bytes to [0, 1]."""
    return check_images(images).float() / 255


def _draw(x: Tensor, low: float | int, high: float | int, generator: Generator, *shape: int) -> Tensor:
    """Uniform numbers, one or `shape` of them an image, as (b, 1, 1, 1) or (b, *shape)."""
    drawn = torch.rand((len(x), *(shape or (1, 1, 1))), generator=generator)  # on the CPU: one stream for all devices
    return (low + (high - low) * drawn).to(x)


@checked
def crop(
    images: UInt8[Tensor, "b 3 h w"] | Images,
    size: int,
    scale: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    generator: Generator = None,
) -> Float[Tensor, "b 3 s s"]:
    """A random part of each image, `scale` its share of the area and `ratio` its shape, stretched to a square.

    A side never passes the image's, so of a long and narrow image the share may come out smaller.

    Bilinear, with the filter of `F.interpolate(antialias=True)` where a part is larger than `size`, so that nothing
    aliases.  Bytes become [0, 1].  Raises ValueError for shares outside (0, 1].
    """
    whole("size", size)
    if not 0 < scale[0] <= scale[1] <= 1 or not 0 < ratio[0] <= ratio[1]:
        raise ValueError(f"crop: expected 0 < scale <= 1 and ratio > 0 in order, got {scale} and {ratio}")
    x = to_float(images) if images.dtype == torch.uint8 else images
    height, width = x.shape[2:]
    area = _draw(x, *scale, generator, 1)[:, 0]
    shape = _draw(x, math.log(ratio[0]), math.log(ratio[1]), generator, 1)[:, 0].exp()
    wide = (area * shape * height / width).sqrt().clamp(max=1)  # shares of the width and the height
    tall = (area / shape * width / height).sqrt().clamp(max=1)
    centre = _draw(x, -1, 1, generator, 2) * torch.stack([1 - wide, 1 - tall], 1)
    return _sample(x, wide, tall, centre, size)


def _sample(x: Images, wide: Tensor, tall: Tensor, centre: Tensor, size: int) -> Float[Tensor, "b 3 s s"]:
    """Parts of images by their shares of the sides and their centres in [-1, 1].

    An upright part is a product of three matrices, rows @ image @ columns, which is faster than gathering pixels.
    """
    rows, columns = _filters(tall, centre[:, 1], x.shape[2], size), _filters(wide, centre[:, 0], x.shape[3], size)
    with _in_full(x):
        narrow = x.flatten(1, 2) @ columns.mT  # (b, 3 h, s): one product an image
        return rows[:, None] @ narrow.unflatten(1, (3, -1))  # (b, 3, s, s)


def _filters(share: Tensor, centre: Tensor, pixels: int, size: int) -> Float[Tensor, "b s p"]:
    """The weight of each input pixel in each of `size` output pixels: triangles as wide as the reduction."""
    step = share * pixels / size
    at = (centre + 1) / 2 * pixels + (torch.arange(size).to(share)[:, None] - (size - 1) / 2) * step  # (s, b)
    at = at.T[..., None].clamp(0.5, pixels - 0.5)  # (b, s, 1): nothing lies beyond the border
    distance = (torch.arange(pixels).to(share) + 0.5 - at).abs()
    weight = (1 - distance / step.clamp(min=1)[:, None, None]).clamp(min=0)
    return weight / weight.sum(2, keepdim=True)


def _in_full(x: Tensor) -> AbstractContextManager[None]:
    """Full precision, whatever the loop around trains in: a byte has more steps than bfloat16."""
    return torch.autocast(x.device.type, enabled=False)


@checked
def resize(images: UInt8[Tensor, "b 3 h w"], size: int) -> Float[Tensor, "b 3 s s"]:
    """The whole of each image as a square, in [0, 1]: what a view is when nothing is random."""
    return resample(to_float(images), size, white=1.0)


def _some(x: Images, changed: Images, share: float, generator: Generator) -> Images:
    checks.share("share", share, zero=True)
    return torch.where(_draw(x, 0, 1, generator) < share, changed, x)


@checked
def flip(x: Images, share: float = 0.5, generator: Generator = None) -> Images:
    """Mirror a share of the images."""
    return _some(x, x.flip(3), share, generator)


@checked
def grey(x: Images) -> Float[Tensor, "b 1 h w"]:
    """Luminance, by the weights of ITU-R BT.601."""
    return (x * torch.tensor(LUMA).to(x)[:, None, None]).sum(1, keepdim=True)


@checked
def greyscale(x: Images, share: float = 0.2, generator: Generator = None) -> Images:
    """Take the colour out of a share of the images."""
    return _some(x, grey(x).expand_as(x), share, generator)


@checked
def colour_jitter(
    x: Images,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.1,
    share: float = 0.8,
    generator: Generator = None,
) -> Images:
    """Shake brightness, contrast, saturation (each times 1 +- its strength) and hue (+- a share of the circle).

    In this order, with torchvision's arithmetic.  Raises ValueError for a negative strength and a hue above a half.
    """
    _check_jitter((brightness, contrast, saturation, hue))
    bright, flat, pale = (_draw(x, max(0.0, 1 - s), 1 + s, generator) for s in (brightness, contrast, saturation))
    y = (x * bright).clamp(0, 1)
    mean = grey(y).mean((2, 3), keepdim=True)
    y = (mean + (y - mean) * flat).clamp(0, 1)
    light = grey(y)
    y = (light + (y - light) * pale).clamp(0, 1)
    if hue:
        y = _turn_hue(y, _draw(x, -hue, hue, generator, 1)[:, 0])
    return _some(x, y, share, generator)


def _check_jitter(strengths: tuple[float, float, float, float]) -> None:
    if not all(0 <= s < math.inf for s in strengths) or strengths[3] > 0.5:
        raise ValueError(f"jitter: expected four strengths from 0, that of the hue up to 0.5, got {strengths}")


def _turn_hue(x: Images, turn: Float[Tensor, "b"]) -> Images:
    """Turn colours about the hexagon of hues (HSV); the largest and the smallest channel of a pixel keep their values.

    With the hue h in sixths of the circle, channels are low + chroma * a trapezium of h, shifted by 2 for each of them.
    """
    r, g, b = x.unbind(1)
    high, low = x.amax(1), x.amin(1)
    chroma = high - low
    per = chroma.clamp(min=1e-8).reciprocal()
    h = torch.where(high == r, (g - b) * per, torch.where(high == g, (b - r) * per + 2, (r - g) * per + 4))
    h = h + 6 * turn[:, None, None]
    h = h - 6 * (h / 6).floor()  # into [0, 6); `remainder` takes three times as long
    share = torch.stack([(h - 3).abs() - 1, 2 - (h - 2).abs(), 2 - (h - 4).abs()], 1).clamp(0, 1)  # (b, 3, h, w)
    return torch.addcmul(low[:, None], share, chroma[:, None])


@checked
def blur(x: Images, sigma: tuple[float, float] = (0.1, 2.0), share: float = 0.5, generator: Generator = None) -> Images:
    """Gaussian blur with a deviation of its own, in pixels, for each of a share of the images.

    Raises ValueError for deviations that are not positive, finite and in order.
    """
    if not 0 < sigma[0] <= sigma[1] < math.inf:
        raise ValueError(f"sigma: expected two positive deviations in order, got {sigma}")
    reach = max(1, math.ceil(2 * sigma[1]))
    steps = torch.arange(-reach, reach + 1).to(x)
    kernel = torch.exp(-0.5 * (steps / _draw(x, *sigma, generator, 1)) ** 2)  # (b, k)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None]  # (3 b, 1, k)
    y = F.pad(x, (reach,) * 4, mode="reflect").flatten(0, 1)[None]  # (1, 3 b, h, w)
    with _in_full(x):
        y = F.conv2d(y, kernel[:, :, None], groups=len(kernel))
        y = F.conv2d(y, kernel[..., None], groups=len(kernel))
    return _some(x, y[0].unflatten(0, (-1, 3)), share, generator)


@checked
def solarise(x: Images, share: float = 0.2, threshold: float = 0.5, generator: Generator = None) -> Images:
    """Turn what is brighter than a threshold into its negative, in a share of the images."""
    return _some(x, torch.where(x >= threshold, 1 - x, x), share, generator)


@dataclass(frozen=True)
class Views:
    """The recipe of a view: crop, mirror, shake colours, lose colour, blur, normalise.

    `strength` scales everything but crop and mirror, 1 being SimCLR's 1/2; at 0, with `scale` (1, 1), `ratio` (1, 1)
    and `mirror` 0, a view is the whole image.  `jitter` holds brightness, contrast, saturation and hue, `blurred` and
    `solarised` are shares of the images.  Raises ValueError for a negative strength and shares outside [0, 1].
    """

    size: int = 64
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    strength: float = 1.0
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    mirror: float = 0.5
    blurred: float = 0.5
    solarised: float = 0.0

    def __post_init__(self) -> None:
        whole("size", self.size)
        if not 0 <= self.strength < math.inf:
            raise ValueError(f"strength: expected a number from 0, got {self.strength}")
        _check_jitter(self.jitter)
        for name in ("mirror", "blurred", "solarised"):
            checks.share(name, getattr(self, name), zero=True)

    def __call__(self, images: UInt8[Tensor, "b 3 h w"], generator: Generator = None) -> Float[Tensor, "b 3 s s"]:
        """One view of each image, normalised.  Raises ValueError for anything but uint8 RGB images."""
        x = crop(check_images(images), self.size, self.scale, self.ratio, generator)
        x = flip(x, self.mirror, generator)
        if self.strength:
            jitter = [self.strength * s for s in self.jitter[:3]] + [min(0.5, self.strength * self.jitter[3])]
            x = colour_jitter(x, *jitter, share=0.8, generator=generator)
            x = greyscale(x, 0.2 * min(1, self.strength), generator)
            x = blur(x, (0.1, 1 + self.size / 64), self.blurred * min(1, self.strength), generator)
            x = solarise(x, self.solarised * min(1, self.strength), generator=generator) if self.solarised else x
        return normalise(x)


_PALE = (0.4, 0.4, 0.2, 0.1)  # half the saturation's change
ASYMMETRIC = (  # BYOL's table 6, which MoCo v3 and, for its large views, DINO take over
    Views(jitter=_PALE, blurred=1.0),
    Views(jitter=_PALE, blurred=0.1, solarised=0.2),
)


@checked
def pair(size: int) -> tuple[Views, Views]:
    """The two recipes of `ASYMMETRIC` for views of `size` pixels a side."""
    return tuple(replace(recipe, size=size) for recipe in ASYMMETRIC)


@checked
def multi_crop(
    images: UInt8[Tensor, "b 3 h w"],
    globals_: int = 2,
    locals_: int = 4,
    sizes: tuple[int, int] = (64, 32),
    share: float = 0.3,
    strength: float = 1.0,
    recipes: tuple[Views, ...] = (Views(),),
    generator: Generator = None,
) -> list[Float[Tensor, "b 3 _ _"]]:
    """Large views that hold at least a `share` of the area, then small ones that hold at most that.

    The large ones follow `recipes` in turn; of the small ones, which shake colours like the first recipe, half are
    blurred.  Of images longer than about 1 : 2.5 the large views may hold less.  SwAV, section 3.3, whose code
    parts small from large at 0.14; DINO's does at 0.4.
    """
    large = [replace(recipe, size=sizes[0], scale=(share, 1.0), strength=strength) for recipe in recipes]
    small = replace(recipes[0], size=sizes[1], scale=(0.05, share), strength=strength, blurred=0.5, solarised=0.0)
    seen = [large[i % len(large)](images, generator) for i in range(globals_)]
    return [*seen, *small(images.repeat(locals_, 1, 1, 1), generator).chunk(locals_)] if locals_ else seen
