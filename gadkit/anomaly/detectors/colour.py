"""The sceptic's baseline: a memory of colours, without any network.

An image is a grid of cells, each as its mean colour.  All that the detector learns is which colours good parts have:
how far a cell's colour is from the nearest of them is its anomaly.  A detector that does not beat this one has seen
nothing but colour.

Book: anomaly/benchmark
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit.anomaly.detectors.base import Base, check_backbone
from gadkit.anomaly.maps import upsample
from gadkit.checks import one_of, whole
from gadkit.protocols import AnomalyResult, Backbone

CHUNK = 16  # images at once
FAR = (0.05, 0.4)  # distances of colours in [0, 1]: noise and light stay below; at 0.4 nothing is shared


class Colour(Base):
    """How far the mean colour of each cell is from the nearest that good parts have.

    `cells`  a side of the grid, laid over the image whatever its size; an image may have fewer pixels than that.
    `where`  what a cell is compared with: "anywhere", all cells of the good parts; "in place", the mean over the good
             parts of the same cell.
    `chunk`  images at once: bounds the memory, changes no result.

    Learnt by `fit`: `colours_` (m, 3), of red, green and blue in [0, 1].  Distances are Euclidean.  The score is the
    largest distance.  `backbone` is not asked what it sees; its image size says how large references need to be.
    Raises ValueError for arguments outside these.
    """

    learnt = ("colours_",)

    def __init__(self, backbone: Backbone, cells: int = 32, where: str = "anywhere", *, chunk: int = CHUNK) -> None:
        check_backbone(backbone)
        self.backbone, self.cells, self.chunk = backbone, whole("cells", cells), whole("chunk", chunk)
        self.where = one_of("where", where, ("anywhere", "in place"))

    @property
    def map_range(self) -> tuple[float, float]:
        """Distances of colours, see `FAR`."""
        return FAR

    def explain(self) -> str:
        """How the scores came about."""
        good = "one image of a good part" if self.shots == 1 else f"{self.shots} images of good parts"
        return f"The colour of each spot was compared with those of {good}; nothing else was looked at"

    def _encode(self, images: UInt8[Tensor, "b 3 h w"], full: bool) -> dict[str, Tensor]:
        images = images.to(self.backbone.device).float() / 255
        return {"colours": F.adaptive_avg_pool2d(images, self.cells).flatten(2).mT.contiguous()}  # (b, n, 3)

    def _fit(self, normal: Iterator[Tensor] | None) -> None:
        if normal is None:
            raise ValueError("normal images: Colour compares with normal images, so it needs some")
        colours = torch.cat([self._encode(some, full=False)["colours"] for some in normal])  # (k, n, 3)
        self.colours_ = colours.mean(0) if self.where == "in place" else colours.flatten(0, 1)

    def _score(self, features: dict[str, Tensor], size: tuple[int, int]) -> AnomalyResult:
        far = self._distances(features["colours"]).unflatten(1, (self.cells, self.cells))
        return AnomalyResult(upsample(far, size), far.flatten(1).amax(1))

    def _distances(self, colours: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n"]:
        if self.where == "in place":
            return (colours - self.colours_).square().sum(2).sqrt()
        return torch.stack([torch.cdist(one, self.colours_).amin(1) for one in colours])

    def _names(self) -> tuple[str, ...]:
        return ("colours",)

    def _group(self) -> int:
        return self.chunk
