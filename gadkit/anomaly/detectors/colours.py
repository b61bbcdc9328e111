"""A memory of mean colours: the least that a detector can know, and a control for those that know more.

Book: anomaly/measuring
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gadkit.anomaly.detectors.base import Base, check_backbone
from gadkit.anomaly.maps import upsample
from gadkit.checks import whole
from gadkit.protocols import AnomalyResult, Backbone


class ColourMemory(Base):
    """How far the mean colour of each of `cells` x `cells` parts of an image is from its nearest in good parts."""

    learnt = ("memory_",)

    def __init__(self, backbone: Backbone, cells: int = 16) -> None:
        check_backbone(backbone)
        self.backbone, self.cells = backbone, whole("cells", cells)

    @property
    def map_range(self) -> tuple[float, float]:
        """Distances of colours in [0, 1]^3."""
        return (0.1, 0.5)

    def explain(self) -> str:
        """How the scores came about."""
        return f"The colours of each image were compared with those of {self.shots} images of good parts"

    def _fit(self, normal: Tensor | None) -> None:
        if normal is None:
            raise ValueError("normal images: ColourMemory compares with normal images, so it needs some")
        self.memory_ = self._encode(normal, full=True)["colours"].flatten(0, 1)

    def _encode(self, images: Tensor, full: bool) -> dict[str, Tensor]:
        means = F.adaptive_avg_pool2d(images.to(self.backbone.device) / 255, self.cells)
        return {"colours": means.flatten(2).mT.contiguous()}  # (b, n, 3)

    def _score(self, features: dict[str, Tensor], size: tuple[int, int]) -> AnomalyResult:
        far = torch.cdist(features["colours"], self.memory_.expand(len(features["colours"]), -1, -1)).amin(2)
        return AnomalyResult(upsample(far.unflatten(1, (self.cells, self.cells)), size), far.amax(1))

    def _names(self) -> tuple[str, ...]:
        return ("colours",)

    def _group(self) -> int:
        return 16
