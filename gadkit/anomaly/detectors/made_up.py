"""Learning from made-up defects: a small network on frozen eyes that has seen many defects, each beside its sound twin.

No words and no good parts: a photograph is scored by itself.  An adapter lets the patches of an image look at each
other, a decoder draws the map, and one linear layer gives the score.  All three learn from pictures whose defects were
painted, so their masks are exact; the eyes stay as they are.

Source: Fucka et al., AnomalyVFM, CVPR 2026 (arXiv 2601.20524).  There the adapter is LoRA within the transformer's own
blocks; here it stands behind the eyes, so that what they see can be kept and the training takes minutes.
Book: anomaly/made-up
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gadkit import weights
from gadkit.anomaly.detectors.base import Base, check_backbone
from gadkit.anomaly.detectors.parts import refused
from gadkit.anomaly.detectors.patches import CHUNK, fineness
from gadkit.anomaly.maps import upsample
from gadkit.checks import whole
from gadkit.nn.vit import Block
from gadkit.protocols import AnomalyResult, Backbone

WIDTH, DEPTH, HEADS, GROUPS = 96, 1, 4, 8
FAR = (0.3, 0.9)  # probabilities


def layers_of(backbone: Backbone) -> tuple[int, ...]:
    """Of the backbone's `patch_layers` those that are at most twice as fine as its grid."""
    return tuple(i for i in backbone.patch_layers if 2 * backbone.strides[i] >= backbone.patch_size)


def maps_of(
    layers: Sequence[Float[Tensor, "b n _"]], joined: Sequence[int], grid: tuple[int, int]
) -> list[Float[Tensor, "b _ _ _"]]:
    """Layers as maps of their own resolution, `joined` times as fine as the common grid."""
    maps = [x.transpose(1, 2).unflatten(2, grid) for x in layers]  # (b, e, r, c)
    return [F.pixel_shuffle(x, f) for x, f in zip(maps, joined, strict=True)]


class Convolutions(nn.Sequential):
    """Two 3 x 3 convolutions with group norm."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__(
            *(nn.Conv2d(width, out, 3, padding=1), nn.GroupNorm(GROUPS, out), nn.ReLU()),
            *(nn.Conv2d(out, out, 3, padding=1), nn.GroupNorm(GROUPS, out), nn.ReLU()),
        )


class Network(nn.Module):
    """The trained part: maps of the eyes' layers in, the logits of the image, of a map and of its confidence out.

    `widths` are the layers' channels and `cells` the patches on the common grid.  The layers are standardised by `mean`
    and `std`, which training sets.
    """

    def __init__(self, widths: Sequence[int], cells: int) -> None:
        super().__init__()
        self.mean = nn.ParameterList(nn.Parameter(torch.zeros(w), requires_grad=False) for w in widths)
        self.std = nn.ParameterList(nn.Parameter(torch.ones(w), requires_grad=False) for w in widths)
        self.project = nn.ModuleList(nn.Conv2d(w, WIDTH, 1) for w in widths)
        self.position = nn.Parameter(0.02 * torch.randn(1, cells, WIDTH))
        self.adapter = nn.ModuleList(Block(WIDTH, HEADS) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)
        self.bottleneck, self.decoder = Convolutions(WIDTH, WIDTH // 2), Convolutions(WIDTH, WIDTH // 2)
        self.skip = nn.Conv2d(widths[0], WIDTH // 2, 1)  # the finest layer goes past the adapter, too
        self.map, self.confidence = (nn.Conv2d(WIDTH // 2, 1, 1) for _ in range(2))
        self.image = nn.Linear(2 * WIDTH, 1)

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (b,) of the images, (b, 2r, 2c) of the maps, and of their confidence, for a grid of r x c."""
        side = math.isqrt(self.position.shape[1])
        scaled = [(x - m[:, None, None]) / s[:, None, None] for x, m, s in zip(maps, self.mean, self.std, strict=True)]
        projected = [project(x) for project, x in zip(self.project, scaled, strict=True)]
        coarse = sum(F.adaptive_avg_pool2d(x, side) for x in projected)  # a map of that size stays as it is
        tokens = coarse.flatten(2).transpose(1, 2) + self.position  # (b, n, WIDTH)
        for block in self.adapter:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        score = self.image(torch.cat([tokens.mean(1), tokens.amax(1)], 1))[:, 0]
        x = self.bottleneck(tokens.transpose(1, 2).unflatten(2, (side, side)))
        fine = (F.interpolate(part, (2 * side, 2 * side)) for part in (x, self.skip(scaled[0])))
        x = self.decoder(torch.cat([*fine], 1))
        return score, self.map(x)[:, 0], self.confidence(x)[:, 0]


def network_for(heads: Mapping[str, Tensor]) -> Network:
    """The trained part from its tensors by name.  Raises ValueError for tensors that are not such a part's."""
    widths = [len(heads[f"mean.{i}"]) for i in range(len(heads)) if f"mean.{i}" in heads]
    if not widths or "position" not in heads:
        raise ValueError(f"heads: expected tensors named mean.0 and position, got {', '.join(heads) or 'none'}")
    with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten
        network = Network(widths, heads["position"].shape[1])
    weights.fill(network, {name: value.float() for name, value in heads.items()}, "made-up")
    return network.eval().requires_grad_(False)


class MadeUp(Base):
    """Zero-shot detection by a network that was trained on painted defects of other products.

    `heads`  the trained part by name, as `gadkit train made-up` writes it, for eyes like these.
    `blend`  share of the score that is the highest value of the map; the rest is the image's own probability.
    `chunk`  images encoded at once: bounds the memory, changes no result.

    Nothing is learnt by `fit`, which takes no normal images.  Maps and scores are probabilities from 0 to 1.  Raises
    ValueError for arguments outside these, and for heads that were trained on other eyes.
    """

    def __init__(
        self, backbone: Backbone, heads: Mapping[str, Tensor], *, blend: float = 0.0, chunk: int = CHUNK
    ) -> None:
        check_backbone(backbone)
        if not 0 <= blend <= 1:
            raise ValueError(f"blend: expected a share in [0, 1], got {blend}")
        self.backbone, self.heads, self.blend, self.chunk = backbone, dict(heads), float(blend), whole("chunk", chunk)
        self.layers = layers_of(backbone)
        self.network = network_for(heads).to(backbone.device)
        if self.network.position.shape[1] != math.prod(backbone.grid) or len(self.network.mean) != len(self.layers):
            raise ValueError(
                f"heads: expected {len(self.layers)} layers on {math.prod(backbone.grid)} patches, as these eyes have, "
                f"got {len(self.network.mean)} on {self.network.position.shape[1]}"
            )

    @property
    def map_range(self) -> tuple[float, float]:
        """Probabilities, see `FAR`."""
        return FAR

    def explain(self) -> str:
        """How the scores came about."""
        return "Each image was scored by itself, by a network that learnt from made-up defects of other products"

    def _fit(self, normal: Iterator[Tensor] | None) -> None:
        refused(normal, self)

    def _encode(self, images: Tensor, full: bool) -> dict[str, Tensor]:
        return dict(zip(self._names(), encoded_maps(self.backbone, images, self.layers), strict=True))

    def _score(self, features: dict[str, Tensor], size: tuple[int, int]) -> AnomalyResult:
        score, logits, _ = self.network([features[name].float() for name in self._names()])
        maps = logits.sigmoid()
        best = (1 - self.blend) * score.sigmoid() + self.blend * maps.flatten(1).amax(1)
        return AnomalyResult(upsample(maps, size), best)

    def _names(self) -> tuple[str, ...]:
        return tuple(f"layer{i}" for i in range(len(self.layers)))

    def _group(self) -> int:
        return self.chunk


def encoded_maps(backbone: Backbone, images: Tensor, layers: Sequence[int]) -> list[Float[Tensor, "b _ _ _"]]:
    """What the network takes of raw images: the maps of the layers."""
    tokens = backbone.encode_image(backbone.preprocess(images.to(backbone.device)), layers)
    return maps_of(tokens.patches, fineness(backbone, layers), tokens.grid)
