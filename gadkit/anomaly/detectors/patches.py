"""What detectors on patches share: which layers describe a patch, turned images, and the score of the worst patches.

Source: Damm et al. 2025, AnomalyDINO, section 3 (turns; the mean of the largest 1 %, eq. 4).
Book: anomaly/neighbours
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gadkit.anomaly.detectors.base import Base, check_backbone
from gadkit.checks import one_of, share, whole
from gadkit.protocols import Backbone, Tokens

CHUNK = 16  # images encoded at once
FINER = ("join", "average")


class Patches(Base):
    """A detector on the patches of a frozen backbone; `knn.PatchKNN` says what the arguments mean.

    Encoded are `patches` (b, rows, columns, e) and `vectors` (b, d), the images'.  All are unit vectors.
    """

    def __init__(
        self,
        backbone: Backbone,
        layers: tuple[int, ...] | None = None,
        *,
        turns: int = 1,
        top: float = 0.01,
        finer: str = "average",
        extent: float = 0.0,
        chunk: int = CHUNK,
    ) -> None:
        check_backbone(backbone)
        layers = backbone.patch_layers if layers is None else layers
        if not isinstance(layers, tuple | list) or not layers or not all(isinstance(i, int) for i in layers):
            raise ValueError(f"layers: expected at least one block number, got {layers!r}")
        self.backbone, self.layers = backbone, tuple(layers)
        self.turns, self.chunk, self.top = whole("turns", turns), whole("chunk", chunk), share("top", top)
        if not 0 <= extent < math.inf:
            raise ValueError(f"extent: expected a weight from 0, got {extent}")
        self.finer, self.extent = one_of("finer", finer, FINER), extent

    @torch.no_grad()
    def _rows(self, images: Tensor) -> tuple[Float[Tensor, "k m e"], Float[Tensor, "k d"]]:
        """The patches of all turns of each of a few images; and the images' own vectors."""
        seen = [self._features(turn) for turn in turned(self._prepared(images), self.turns)]
        return torch.cat([patches.flatten(1, 2) for patches, _ in seen], 1), seen[0][1]

    def _encode(self, images: Tensor, full: bool) -> dict[str, Tensor]:
        return dict(zip(self._names(), self._features(self._prepared(images)), strict=True))

    def _names(self) -> tuple[str, ...]:
        return ("patches", "vectors")

    def _group(self) -> int:
        return self.chunk

    def _prepared(self, images: Tensor) -> Tensor:
        return self.backbone.preprocess(images.to(self.backbone.device))

    def _features(self, x: Tensor) -> tuple[Float[Tensor, "b r c e"], Float[Tensor, "b d"]]:
        """Unit vectors of prepared images' patches, whose cosine is the layers' mean cosine, and of the images."""
        tokens = self.backbone.encode_image(x, self.layers)
        return self.described(tokens).unflatten(1, tokens.grid), F.normalize(tokens.pooled.float(), dim=-1)

    def described(self, tokens: Tokens) -> Float[Tensor, "b n e"]:
        """The vectors of patches, from the tokens of `layers`."""
        return patch_vectors(tokens.patches, self._averaged())

    def _averaged(self) -> list[int]:
        """Of how many by how many vectors, in each layer, a patch is the mean."""
        return fineness(self.backbone, self.layers) if self.finer == "average" else [1] * len(self.layers)


def fineness(backbone: Backbone, layers: Sequence[int]) -> list[int]:
    """How many by how many vectors a backbone has joined in a patch, for each of the layers."""
    return [math.ceil(backbone.patch_size / backbone.strides[i]) for i in layers]


def top_mean(scores: Float[Tensor, "b n"], share: float = 0.01) -> Float[Tensor, "b"]:
    """Mean of the largest `share` of each row, of one entry at least: an estimate of the tail's expected value.

    AnomalyDINO's image score, eq. 4, with the largest entry where 1 % of the patches is less than one.
    """
    return scores.topk(max(1, int(share * scores.shape[1])), dim=1).values.mean(1)


def patch_means(layers: Sequence[Float[Tensor, "b n _"]], joined: Sequence[int]) -> list[Float[Tensor, "b n _"]]:
    """Of each layer one vector a patch: the mean of the f x f that a backbone has joined in it, `joined` says f."""
    # channels lie by place in the patch, as pixel unshuffle has them
    return [x.float().unflatten(-1, (-1, f * f)).mean(-1) for x, f in zip(layers, joined, strict=True)]


def patch_vectors(layers: Sequence[Float[Tensor, "b n _"]], joined: Sequence[int]) -> Float[Tensor, "b n e"]:
    """Unit vectors of patches from several layers, so that the cosine of two is the layers' mean cosine.

    Of each layer a backbone has joined f x f vectors in a patch; `joined` says for which f to take their mean, and 1
    takes the patch as it is.
    """
    means = patch_means(layers, joined)
    return torch.cat([F.normalize(x, dim=-1) for x in means], -1) / math.sqrt(len(means))


def turned(x: Float[Tensor, "b 3 s s"], turns: int) -> Iterator[Float[Tensor, "b 3 s s"]]:
    """The images turned by 0, 1 / turns, 2 / turns, ... of a full circle, corners filled by reflection."""
    yield x
    for i in range(1, turns):
        if 4 * i % turns == 0:
            yield torch.rot90(x, 4 * i // turns, (2, 3))  # exact, without interpolation
            continue
        angle = 2 * math.pi * i / turns
        c, s = math.cos(angle), math.sin(angle)
        turn = x.new_tensor([[c, -s, 0], [s, c, 0]]).expand(len(x), -1, -1)
        grid = F.affine_grid(turn, list(x.shape), align_corners=False)
        yield F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
