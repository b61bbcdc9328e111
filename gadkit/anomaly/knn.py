"""Anomaly detection by nearest neighbours: how far an image, or a patch of it, is from everything normal.

There is nothing to train.  All that a detector of this kind knows is the representation it looks through, which makes
it the plainest test of one.  Distances are 1 - cos: 0 is the same direction, 2 the opposite one.

Source: Reiss et al. 2022, Anomaly Detection Requires Better Representations (images); Damm et al. 2025, AnomalyDINO,
section 3 (patches, few-shot); Roth et al. 2022, PatchCore, section 3.2 (thinning of the memory bank).
Book: anomaly/representations
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit.anomaly.maps import upsample
from gadkit.checks import check_images, describe
from gadkit.protocols import AnomalyResult, Backbone
from gadkit.search.neighbors import k_centre, topk

CHUNK = 16  # images encoded at once


def distances(queries: Float[Tensor, "n e"], bank: Float[Tensor, "m e"], k: int = 1) -> Float[Tensor, "n"]:
    """Mean of 1 - cos to the k nearest members of a bank: from 0 to 2.

    Raises ValueError for a bank of fewer than k members.
    """
    if len(bank) < k:
        raise ValueError(f"bank: expected at least k = {k} normal features, got {len(bank)}")
    nearest, _ = topk(queries, bank, k)  # (n, k) cosines
    return (1 - nearest).clamp(min=0).mean(1)  # rounding can take a cosine past 1


def top_mean(scores: Float[Tensor, "b n"], share: float = 0.01) -> Float[Tensor, "b"]:
    """Mean of the largest `share` of each row, of one entry at least: an estimate of the tail's expected value.

    AnomalyDINO's image score, eq. 4, with the largest entry where 1 % of the patches is less than one.
    """
    return scores.topk(max(1, int(share * scores.shape[1])), dim=1).values.mean(1)


class KNN:
    """Image-level detection: the mean distance of an image vector to those of its `k` nearest normal images.

    `k`       neighbours that count; at most as many as normal images.
    `chunk`   images encoded at once: bounds the memory, changes no result.

    Learnt by `fit`: `bank_` (m, d), the normal images' vectors.  Raises ValueError for arguments outside these.
    """

    @no_type_check  # bad input is a ValueError
    def __init__(self, backbone: Backbone, k: int = 1, *, chunk: int = CHUNK) -> None:
        _check_backbone(backbone)
        _check_whole("k", k)
        _check_whole("chunk", chunk)
        self.backbone, self.k, self.chunk = backbone, k, chunk

    @no_type_check  # check_images answers bad input
    @torch.no_grad()
    def fit(self, normal: UInt8[Tensor, "m 3 h w"] | None = None) -> "KNN":
        """Remember normal images.  Raises ValueError for fewer than k, or for anything but uint8 RGB images."""
        _check_normal(normal, self)
        if len(normal) < self.k:
            raise ValueError(f"normal images: expected at least k = {self.k}, got {len(normal)}")
        self.bank_ = self._vectors(normal)
        return self

    @no_type_check  # check_images answers bad input
    @torch.no_grad()
    def score(self, images: UInt8[Tensor, "b 3 h w"]) -> AnomalyResult:
        """One score an image.  The map is that score everywhere, for an image vector can't say where.

        Raises ValueError for anything but a batch of uint8 RGB images, RuntimeError before `fit`.
        """
        _check_fitted(self)
        scores = distances(self._vectors(check_images(images)), self.bank_, self.k).to(images.device)
        return AnomalyResult(scores[:, None, None].expand(-1, *images.shape[2:]).clone(), scores)

    def _vectors(self, images: Tensor) -> Tensor:
        parts = [self.backbone.encode_image(x, ()).pooled for x in _prepared(self.backbone, images, self.chunk)]
        return torch.cat(parts).float()


@dataclass(frozen=True)
class Seen:
    """Images as `PatchKNN` sees them: one unit vector a patch, the grid they lie on, and the images' size."""

    patches: Float[Tensor, "b n e"]
    grid: tuple[int, int]
    size: tuple[int, int]


class PatchKNN:
    """Patch-level detection: how far each patch is from its nearest counterpart in a bank of normal patches.

    `layers`  blocks whose tokens describe a patch, from 0 or from the end; several are joined, with equal say.
    `k`       neighbours that count for a patch.
    `thin`    share of the bank to keep, spread out by k-centre greedy; None keeps it all.
    `turns`   how many rotations of each normal image enter the bank, at equal angles (AnomalyDINO takes 8).
    `top`     share of an image's patches, the most distant ones, whose mean is its score.
    `chunk`   images encoded at once: bounds the memory, changes no result.

    Learnt by `fit`: `bank_` (m, e), unit vectors.  Raises ValueError for arguments outside these.
    """

    @no_type_check  # bad input is a ValueError
    def __init__(
        self,
        backbone: Backbone,
        layers: tuple[int, ...] = (-1,),
        *,
        k: int = 1,
        thin: float | None = None,
        turns: int = 1,
        top: float = 0.01,
        chunk: int = CHUNK,
    ) -> None:
        _check_backbone(backbone)
        if not isinstance(layers, tuple | list) or not layers or not all(isinstance(i, int) for i in layers):
            raise ValueError(f"layers: expected at least one block number, got {layers!r}")
        for name, value in (("k", k), ("turns", turns), ("chunk", chunk)):
            _check_whole(name, value)
        for name, value in (("thin", 1 if thin is None else thin), ("top", top)):
            if not isinstance(value, int | float) or not 0 < value <= 1:
                raise ValueError(f"{name}: expected a share above 0 and at most 1, got {value!r}")
        self.backbone, self.layers, self.k, self.thin = backbone, tuple(layers), k, thin
        self.turns, self.top, self.chunk = turns, top, chunk

    @no_type_check  # check_images answers bad input
    @torch.no_grad()
    def fit(self, normal: UInt8[Tensor, "m 3 h w"] | None = None) -> "PatchKNN":
        """Fill the bank with the patches of normal images.

        Raises ValueError for anything but a batch of uint8 RGB images, or a bank that ends with fewer than k patches.
        """
        _check_normal(normal, self)
        bank = torch.cat(
            [
                self._patches(turn)[0].flatten(0, 1)
                for x in _prepared(self.backbone, normal, self.chunk)
                for turn in _turned(x, self.turns)
            ]
        )  # (m, e)
        if self.thin is not None:
            bank = bank[k_centre(bank, math.ceil(self.thin * len(bank)))[0]]
        if len(bank) < self.k:
            raise ValueError(f"bank: expected at least k = {self.k} normal patches, got {len(bank)}")
        self.bank_ = bank
        return self

    @no_type_check  # check_images answers bad input
    @torch.no_grad()
    def score(self, images: UInt8[Tensor, "b 3 h w"]) -> AnomalyResult:
        """Maps at the images' own size, bilinear between patches, and one score an image, on the images' device.

        Raises ValueError for anything but a batch of uint8 RGB images, RuntimeError before `fit`.
        """
        _check_fitted(self)
        found = [self.judge(self.see(part)) for part in check_images(images).split(self.chunk)]
        return AnomalyResult(torch.cat([f.maps for f in found]), torch.cat([f.scores for f in found]))

    @no_type_check  # check_images answers bad input
    @torch.no_grad()
    def see(self, images: UInt8[Tensor, "b 3 h w"]) -> Seen:
        """Encode images once, to be judged many times; needs no `fit`.  `score(images)` is `judge(see(images))`."""
        parts = [self._patches(x) for x in _prepared(self.backbone, images, self.chunk)]
        return Seen(torch.cat([p for p, _ in parts]).to(images.device), parts[0][1], tuple(images.shape[2:]))

    @torch.no_grad()
    def judge(self, seen: Seen) -> AnomalyResult:
        """Maps and scores of images that `see` has encoded.  Raises RuntimeError before `fit`."""
        _check_fitted(self)
        where = seen.patches.device
        far = distances(seen.patches.flatten(0, 1).to(self.bank_.device), self.bank_, self.k)  # (b n,)
        far = far.view(seen.patches.shape[:2]).to(where)
        return AnomalyResult(upsample(far.unflatten(1, seen.grid), seen.size), top_mean(far, self.top))

    def _patches(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Unit vectors (b, n, e) of prepared images, and their grid: the cosine of two is the layers' mean cosine."""
        tokens = self.backbone.encode_image(x, self.layers)
        joined = torch.cat([F.normalize(p.float(), dim=-1) for p in tokens.patches], -1)
        return joined / math.sqrt(len(self.layers)), tokens.grid


@no_type_check
def _prepared(backbone: Backbone, images: Any, chunk: int) -> Iterator[Tensor]:
    where = getattr(backbone, "device", None)
    for part in check_images(images).split(chunk):
        yield backbone.preprocess(part.to(where))


def _turned(x: Float[Tensor, "b 3 s s"], turns: int) -> Iterator[Float[Tensor, "b 3 s s"]]:
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


def _check_backbone(backbone: Any) -> None:
    if not hasattr(backbone, "encode_image") or not hasattr(backbone, "preprocess"):
        raise ValueError(f"backbone: expected one with preprocess and encode_image, got {describe(backbone)}")


def _check_whole(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r}")


def _check_normal(normal: Any, detector: KNN | PatchKNN) -> None:
    if normal is None:
        raise ValueError(f"normal images: {type(detector).__name__} compares with normal images, so it needs some")
    check_images(normal, "normal images")


def _check_fitted(detector: KNN | PatchKNN) -> None:
    if not hasattr(detector, "bank_"):
        raise RuntimeError(f"this {type(detector).__name__} is not fitted yet: call fit(normal) with normal images")
