"""Free labels: depth, normals, edges and segmentation, which a renderer knows, so that they need no drawing.

Book: pretext/semantic
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gadkit import distributed
from gadkit.checks import check_images
from gadkit.data.views import crop, normalise
from gadkit.factory.geometry import MATERIALS, edges, normals
from gadkit.nn.vit import ViT
from gadkit.pretext.base import Pretext, init_small, unexplained_variance, weighted_cross_entropy

CHANNELS = {"depth": 1, "normals": 2, "edges": 1, "segmentation": len(MATERIALS)}
COLLAPSE = {"depth": 1.0, "normals": 1.0, "edges": math.log(2), "segmentation": math.log(len(MATERIALS))}


class FreeLabels(Pretext):
    """Read geometry off a photograph, pixel by pixel, through a linear head a task (Ren and Lee 2018).

    Depth and the normals' x and y count by the share of variance left unexplained, edges and materials by
    cross-entropy in which every class weighs the same; their sum is the loss, and the best constants' sum its
    `collapse`.  Parts lie in the middle of their photographs: `scale=(1, 1)` leaves them there and opens the shortcut
    of a mean map, the same for every photograph; random crops close it.
    """

    needs = ("images", "height", "materials")

    def __init__(
        self,
        encoder: ViT | None = None,
        labels: tuple[str, ...] = tuple(CHANNELS),
        size: int = 64,
        scale: tuple[float, float] = (0.15, 0.6),
    ) -> None:
        super().__init__(encoder, size, scale)
        if not labels or set(labels) - {*CHANNELS}:
            raise ValueError(f"labels: expected some of {', '.join(CHANNELS)}, got {labels}")
        self.labels = tuple(labels)
        area = self.encoder.patch_size**2
        self.heads = nn.ModuleDict(
            {k: init_small(nn.Linear(self.encoder.width, area * CHANNELS[k])) for k in self.labels}
        )

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Photographs, and every label beside them in the order of `labels`, cut out of the same places.

        `batch` holds `images`, `height` and `materials` as `gadkit.factory.geometry` gives them.
        """
        images, height, materials = self.columns(batch)
        images, height, materials = check_images(images), height.float(), materials.long()
        known = {  # only those that are asked for are computed
            "depth": lambda: height[:, None],
            "normals": lambda: normals(height)[:, :2],
            "edges": lambda: edges(height, materials)[:, None].float(),
            "segmentation": lambda: torch.stack([materials == i for i in range(len(MATERIALS))], 1).float(),
        }
        planes = torch.cat([images.float() / 255, *(known[k]() for k in self.labels)], 1)
        views = _crop_together(planes, self.size, self.scale)
        photographs, *maps = views.split([3, *(CHANNELS[k] for k in self.labels)], 1)
        return [normalise(photographs), *maps]

    def collapse(self, batch_size: int) -> float:
        """The sum of the labels' own: the best constant everywhere."""
        return sum(COLLAPSE[k] for k in self.labels)

    def maps(self, photographs: Float[Tensor, "b 3 s s"]) -> dict[str, Float[Tensor, "b c s s"]]:
        """The output of the heads: standardised depth and normals, logits of edges and materials."""
        patches = self.patches(photographs)
        return {label: self.pixels(head(patches), photographs) for label, head in self.heads.items()}

    def losses(self, views: list[Tensor]) -> dict[str, Float[Tensor, ""]]:
        """The loss of each label by itself."""
        return {k: _loss(k, m, t) for (k, m), t in zip(self.maps(views[0]).items(), views[1:], strict=True)}

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """The sum over the labels."""
        return sum(self.losses(views).values())


def _crop_together(planes: Float[Tensor, "b c h w"], size: int, scale: tuple[float, float]) -> Tensor:
    """One random window an image for all its planes, which are cut three at a time by the same numbers."""
    seed = int(torch.randint(1 << 62, ()))
    groups = F.pad(planes, (0, 0, 0, 0, 0, -planes.shape[1] % 3)).split(3, 1)
    square = (1.0, 1.0)  # a stretch would tilt the normals
    cut = [crop(group, size, scale, square, torch.Generator().manual_seed(seed)) for group in groups]
    return torch.cat(cut, 1)[:, : planes.shape[1]]


def _loss(label: str, prediction: Float[Tensor, "b c s s"], target: Float[Tensor, "b c s s"]) -> Float[Tensor, ""]:
    if label in ("depth", "normals"):  # predictions count in deviations of the batch, so all heads learn at one pace
        mean = distributed.mean(target.mean((0, 2, 3), keepdim=True))
        spread = distributed.mean((target - mean).square().mean((0, 2, 3), keepdim=True)).sqrt() + 1e-4
        return unexplained_variance(prediction, (target - mean) / spread)
    if label == "edges":
        is_edge = (target > 0.5).float()
        share = distributed.mean(is_edge.mean())
        weight = torch.where(is_edge > 0, 0.5 / share.clamp(min=1e-4), 0.5 / (1 - share).clamp(1e-4))
        return F.binary_cross_entropy_with_logits(prediction, is_edge, weight)
    truth = target.argmax(1)
    size = distributed.total(truth.flatten().bincount(minlength=target.shape[1]))
    return weighted_cross_entropy(prediction, truth, size.clamp(min=1).reciprocal())
