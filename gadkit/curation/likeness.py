"""How alike is too alike: a cosine means something else to every backbone, so it is measured on the images themselves.

Book: selfsup/curation
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from gadkit.checks import check_images, checked, share
from gadkit.curation import centre_of, prepare, twins
from gadkit.evaluation.features import encode
from gadkit.protocols import Backbone

SHIFT, LIGHT, NOISE = 0.01, 0.97, 2.0  # share of a side, share of the light, and deviation in grey levels
QUANTILE = 0.1  # nine of ten images, taken again, count as the same
LARGEST, CHAINED = 0.5, 1 / 3  # of all images in one group; of near-duplicates unlike the one that stands for them
JPEG = 90  # quality at which an image is saved again


@dataclass(frozen=True)
class Line:
    """The cosine from which two images count as one, and `of` whom it is: of images and themselves "taken again", ...

    ... or, where that line does not hold, "saved again", or mere "copies", which have 1.  `retaken` is the first one.
    """

    cosine: float
    of: str
    retaken: float


@checked
def taken_again(images: UInt8[Tensor, "b 3 h w"], seed: int = 0) -> UInt8[Tensor, "b 3 h w"]:
    """The same photographs a moment later: the camera has moved by a hundredth, the light is a little less."""
    images = check_images(images)
    draw = torch.Generator().manual_seed(seed)
    rows, columns = (max(1, round(SHIFT * n)) for n in images.shape[2:])
    padded = F.pad(images.float(), (columns, 0, rows, 0), mode="replicate")[..., : images.shape[2], : images.shape[3]]
    noise = NOISE * torch.randn(images.shape, generator=draw).to(images.device)
    return (padded * LIGHT + noise).round().clamp(0, 255).to(torch.uint8)


@checked
def saved_again(images: UInt8[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b 3 h w"]:
    """The same photographs, after JPEG has compressed them once more."""
    copies = []
    for image in check_images(images).cpu():
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file := io.BytesIO(), "JPEG", quality=JPEG)
        copies.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))
    return torch.stack(copies).to(images.device)


@checked
def retaken(
    backbone: Backbone,
    images: UInt8[Tensor, "b 3 h w"],
    features: Float[Tensor, "b d"] | None = None,
    centre: Float[Tensor, "d"] | None = None,
    quantile: float = QUANTILE,
    again: Callable[[Tensor], Tensor] = taken_again,
) -> float:
    """The cosine from which a backbone sees one photograph in two: a quantile of those of images and their retakes.

    `features` are those of `images`, if they are known already, and `centre` that of the whole collection
    (`gadkit.curation.centre_of`), so that the cosines are those that `gadkit.curation.curate` compares.
    """
    share("quantile", quantile, zero=True)
    before = encode(backbone, images).pooled if features is None else features
    centre = centre_of(before) if centre is None else centre
    after = encode(backbone, again(images)).pooled
    cosines = (prepare(before, centre) * prepare(after, centre)).sum(1)
    return float(cosines.quantile(quantile).clamp(-0.9999, 1))  # a line below all cosines is none


@checked
def line_between(
    backbone: Backbone, images: UInt8[Tensor, "b 3 h w"], features: Float[Tensor, "b d"], x: Float[Tensor, "n d"]
) -> Line:
    """The line between one photograph in two and two photographs, as far as a backbone can draw it.

    `images` with their `features` are a sample of the collection that has the features `x`.  The line is that of
    `retaken`, if it `holds`.  On photographs of one part in one fixture it does not: there the next shot of a part
    differs as much as the next part does, and all would be one.  So only what is saved again counts as the same, or,
    where that line does not hold either, copies alone.
    """
    centre, z = centre_of(x), prepare(x)
    again = retaken(backbone, images, features, centre)
    if holds(z, again):
        return Line(again, "taken again", again)
    saved = retaken(backbone, images, features, centre, again=saved_again)
    return Line(saved, "saved again", again) if holds(z, saved) else Line(1.0, "copies", again)


@checked
def holds(z: Float[Tensor, "n d"], line: float) -> bool:
    """Whether the groups above a line are photographs of one thing each; `z` are features as `prepare` leaves them.

    They are not if one of them holds most of the collection, or if too many images are unlike the one that would stand
    for them: then a chain of small steps has led from one to the other.
    """
    twin = twins(z, line)
    gone = twin != torch.arange(len(z), device=z.device)
    if not gone.any():
        return True
    unlike = (z[gone] * z[twin[gone]]).sum(1) < line - 1e-6
    return int(twin.bincount().max()) <= LARGEST * len(z) and float(unlike.double().mean()) <= CHAINED
