"""A toy: how much lighter or darker each cell of an image is than the good parts ever are there.

Book: anomaly/measuring
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from gadkit.anomaly.detectors.base import Base, check_backbone
from gadkit.anomaly.maps import upsample
from gadkit.checks import whole
from gadkit.protocols import AnomalyResult, Backbone


class Brightness(Base):
    """Mean greys of `cells` x `cells` cells, and how far each is outside the range of the good parts.

    Learnt by `fit`: `greys_` (k, n), in [0, 1].  The score is the largest distance.
    """

    learnt = ("greys_",)

    def __init__(self, backbone: Backbone, cells: int = 16) -> None:
        check_backbone(backbone)
        self.backbone, self.cells = backbone, whole("cells", cells)

    @property
    def map_range(self) -> tuple[float, float]:
        """Differences of greys in [0, 1]."""
        return (0.0, 0.5)

    def explain(self) -> str:
        """How the scores came about."""
        good = "one image of a good part" if self.shots == 1 else f"{self.shots} images of good parts"
        return f"The brightness of each spot was compared with that of {good}"

    def _encode(self, images: UInt8[Tensor, "b 3 h w"], full: bool) -> dict[str, Tensor]:
        grey = images.to(self.backbone.device).float().mean(1, keepdim=True) / 255
        return {"greys": F.adaptive_avg_pool2d(grey, self.cells).flatten(1)}  # (b, n)

    def _fit(self, normal: Iterator[Tensor] | None) -> None:
        if normal is None:
            raise ValueError("normal images: Brightness compares with normal images, so it needs some")
        self.greys_ = torch.cat([self._encode(some, full=False)["greys"] for some in normal])

    def _score(self, features: dict[str, Tensor], size: tuple[int, int]) -> AnomalyResult:
        greys = features["greys"]  # (b, n)
        far = torch.maximum(greys - self.greys_.amax(0), self.greys_.amin(0) - greys).clamp(min=0)
        return AnomalyResult(upsample(far.unflatten(1, (self.cells, self.cells)), size), far.amax(1))

    def _names(self) -> tuple[str, ...]:
        return ("greys",)

    def _group(self) -> int:
        return 16
