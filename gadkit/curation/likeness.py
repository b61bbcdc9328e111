"""How alike is too alike: a cosine means something else to every backbone, so it is measured on the images themselves.

Book: selfsup/curation
"""

from typing import no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit.checks import check_images
from gadkit.curation import centre_of, prepare
from gadkit.evaluation.features import look
from gadkit.protocols import Backbone

SHIFT, LIGHT, NOISE = 0.01, 0.97, 2.0  # share of a side, share of the light, and deviation in grey levels
QUANTILE = 0.1  # nine of ten images, taken again, count as the same


def taken_again(images: UInt8[Tensor, "b 3 h w"], seed: int = 0) -> UInt8[Tensor, "b 3 h w"]:
    """The same photographs a moment later: the camera has moved by a hundredth, the light is a little less."""
    images = check_images(images)
    draw = torch.Generator().manual_seed(seed)
    rows, columns = (max(1, round(SHIFT * n)) for n in images.shape[2:])
    padded = F.pad(images.float(), (columns, 0, rows, 0), mode="replicate")[..., : images.shape[2], : images.shape[3]]
    noise = NOISE * torch.randn(images.shape, generator=draw).to(images.device)
    return (padded * LIGHT + noise).round().clamp(0, 255).to(torch.uint8)


@no_type_check  # check_images answers bad input
def retaken(
    backbone: Backbone,
    images: UInt8[Tensor, "b 3 h w"],
    features: Float[Tensor, "b d"] | None = None,
    centre: Float[Tensor, "d"] | None = None,
    quantile: float = QUANTILE,
) -> float:
    """The cosine from which a backbone sees one photograph in two: a quantile of those of images and their retakes.

    `features` are those of `images`, if they are known already, and `centre` that of the whole collection
    (`gadkit.curation.centre_of`), so that the cosines are those that `gadkit.curation.curate` compares.
    """
    before = look(backbone, images).pooled if features is None else features
    centre = centre_of(before) if centre is None else centre
    after = look(backbone, taken_again(images)).pooled
    cosines = (prepare(before, centre) * prepare(after, centre)).sum(1)
    return float(cosines.quantile(quantile).clamp(max=1))
