"""UniADet's idea: in place of a text tower two learnt vectors a layer, "normal" and "anomalous", on any frozen eyes.

A text tower does no more for AnomalyCLIP than to give two vectors.  Here they are learnt themselves: one pair a layer
for patches, and another pair a layer for the image, because what tells images apart need not tell patches apart.

Source: Gao and Wang, One Language-Free Foundation Model Is Enough for Universal Vision Anomaly Detection (UniADet),
2026.  Its code is not published: this is the idea, not a reproduction.
Book: anomaly/language
"""

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gadkit.anomaly.detectors.base import Base, check_backbone
from gadkit.anomaly.detectors.parts import refused
from gadkit.anomaly.detectors.patches import CHUNK, fineness, patch_means
from gadkit.anomaly.maps import SIGMA, probability, smooth_upsample
from gadkit.backbones.preprocess import check_layers
from gadkit.checks import check_finite, describe, positive, share, whole
from gadkit.protocols import AnomalyResult, Backbone


class UniADet(Base):
    """Zero-shot detection without words: vectors that were learnt on other products.  `fit` takes no normal images.

    `heads`        `patch.0` and `image.0` (2, e), normal and anomalous, for the first of the layers, and so on.
    `layers`       blocks or stages whose features are compared, from 0 or from the end; None: the backbone's
                   `patch_layers`.  The probabilities of layers are averaged.
    `temperature`  of the softmax over the two cosines.
    `peak`         weight of the map's highest value in an image's score, against that of the image's own vectors.
    `sigma`        of the Gaussian that smooths maps, as a share of the image's side; 0 for none.
    `chunk`        images encoded at once: bounds the memory, changes no result.

    Encoded are, a layer, `patch.0` (b, n, e) and `image.0` (b, e), the mean of the former before both become unit
    vectors.  Where a layer is finer than the grid, a patch has the mean of its vectors.  `fit` sets `pairs_`, the heads
    as unit vectors.  Raises ValueError for arguments outside these and for heads that do not fit.
    """

    def __init__(
        self,
        backbone: Backbone,
        heads: Mapping[str, Tensor],
        *,
        layers: tuple[int, ...] | None = None,
        temperature: float = 0.07,
        peak: float = 0.5,
        sigma: float = SIGMA,
        chunk: int = CHUNK,
    ) -> None:
        check_backbone(backbone)
        layers = backbone.patch_layers if layers is None else layers
        if not isinstance(layers, tuple | list) or not layers:
            raise ValueError(f"layers: expected at least one block number, got {layers!r}")
        check_layers(layers, backbone.depth)
        self.backbone, self.layers = backbone, tuple(layers)
        self.heads = _checked(heads, untrained(backbone, self.layers))
        self.temperature = positive("temperature", temperature)
        self.peak, self.sigma = share("peak", peak, zero=True), share("sigma", sigma, zero=True)
        self.chunk = whole("chunk", chunk)

    @property
    def map_range(self) -> tuple[float, float]:
        """The probability of damage, undecided at 0.5."""
        return (0.4, 1.0)

    def explain(self) -> str:
        """How the scores came about."""
        return "Each image, and each spot of it, was compared with what good and damaged parts of other products share"

    def _encode(self, images: Tensor, full: bool) -> dict[str, Tensor]:
        tokens = self.backbone.encode_image(self.backbone.preprocess(images.to(self.backbone.device)), self.layers)
        found = {}
        for number, mean in enumerate(patch_means(tokens.patches, fineness(self.backbone, self.layers))):  # (b, n, e)
            found[f"patch.{number}"] = F.normalize(mean, dim=-1)
            found[f"image.{number}"] = F.normalize(mean.mean(1), dim=-1)
        return found

    def _fit(self, normal: Iterator[Tensor] | None) -> None:
        refused(normal, self)
        where = self.backbone.device
        self.pairs_ = {name: F.normalize(pair.float(), dim=-1).to(where) for name, pair in self.heads.items()}

    def _score(self, features: dict[str, Tensor], size: tuple[int, int]) -> AnomalyResult:
        grid = self._mean("patch", features).unflatten(1, self.backbone.grid)
        whole, maps = self._mean("image", features), smooth_upsample(grid, size, self.sigma)
        return AnomalyResult(maps, (1 - self.peak) * whole + self.peak * grid.amax((1, 2)))

    def _mean(self, what: str, features: Mapping[str, Tensor]) -> Float[Tensor, "b *n"]:
        """The mean over layers of the probability of "anomalous"."""
        names = [f"{what}.{i}" for i in range(len(self.layers))]
        return torch.stack([probability(features[n], self.pairs_[n], self.temperature) for n in names]).mean(0)

    def _names(self) -> tuple[str, ...]:
        return tuple(f"{what}.{i}" for what in ("patch", "image") for i in range(len(self.layers)))

    def _group(self) -> int:
        return self.chunk

    def _learnt(self) -> dict[str, Tensor]:
        return {f"pairs_/{name}": pair for name, pair in self.pairs_.items()}

    def _take(self, tensors: dict[str, Tensor]) -> None:
        self.pairs_ = {name: tensors[f"pairs_/{name}"] for name in self.heads}


@torch.no_grad()
def untrained(backbone: Backbone, layers: tuple[int, ...] | None = None, seed: int = 0) -> dict[str, Tensor]:
    """Heads before training: random vectors for a backbone's layers, by default its `patch_layers`."""
    layers = backbone.patch_layers if layers is None else layers
    blank = torch.zeros(1, 3, backbone.image_size, backbone.image_size, device=backbone.device)
    tokens, draw, heads = backbone.encode_image(blank, layers), torch.Generator().manual_seed(seed), {}
    for number, patches in enumerate(patch_means(tokens.patches, fineness(backbone, layers))):
        width = patches.shape[-1]
        for what in ("patch", "image"):
            heads[f"{what}.{number}"] = torch.randn(2, width, generator=draw) * width**-0.5
    return heads


def _checked(heads: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The heads, if they have the names and shapes of others."""
    if not isinstance(heads, Mapping) or not all(isinstance(value, Tensor) for value in heads.values()):
        raise ValueError(f"heads: expected tensors by name, got {describe(heads)}")
    wanted, came = (", ".join(f"{n} {tuple(h[n].shape)}" for n in sorted(h)) for h in (like, heads))
    if wanted != came:
        raise ValueError(f"heads: expected {wanted} for this backbone and these layers, got {came or 'none'}")
    return {name: check_finite(value, f"heads: {name}") for name, value in heads.items()}
