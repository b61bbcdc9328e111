"""One vector for a region: the mean of a backbone's patch tokens under a mask, to find an object again elsewhere.

Book: objects/sam
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from gadkit.checks import check_images, checked
from gadkit.protocols import Backbone


@checked
@torch.no_grad()
def embed(
    backbone: Backbone, image: UInt8[Tensor, "3 h w"], masks: Bool[Tensor, "k h w"], layer: int | None = None
) -> Float[Tensor, "k e"]:
    """A unit vector for each of k masks of an image: patch tokens, weighed by how much of each lies under the mask.

    The layer is by default the last of those that describe a patch well.  k may be 0.  Raises ValueError for masks of
    another size than the image's, and for an empty mask.
    """
    check_images(image[None], "image")
    if not bool(masks.flatten(1).any(1).all()):
        raise ValueError("masks: expected a pixel in each, got an empty one")
    layer = backbone.patch_layers[-1] if layer is None else layer
    tokens = backbone.encode_image(backbone.preprocess(image[None]), (layer,))
    share = F.interpolate(masks[:, None].float().to(backbone.device), tokens.grid, mode="area").flatten(1)  # (k, n)
    return F.normalize(share @ tokens.patches[0][0].float(), dim=1)
