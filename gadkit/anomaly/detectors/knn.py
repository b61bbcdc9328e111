"""Anomaly detection by nearest neighbours: how far an image, or a patch of it, is from everything normal.

There is nothing to train.  All that a detector of this kind knows is its representation, which makes
it the plainest test of one.  Distances are 1 - cos: 0 is the same direction, 2 the opposite one.

Source: Reiss et al. 2022, Anomaly Detection Requires Better Representations (images); Damm et al. 2025, AnomalyDINO,
section 3 (patches, few-shot); Roth et al. 2022, PatchCore, section 3.2 (thinning of the memory bank).
Book: anomaly/representations, anomaly/thresholds
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit.anomaly.detectors.bank import Bank
from gadkit.anomaly.detectors.base import Base, check_backbone
from gadkit.anomaly.detectors.parts import by_part, good, needed, shares, without
from gadkit.anomaly.detectors.patches import CHUNK, Patches, top_mean
from gadkit.anomaly.maps import upsample
from gadkit.checks import positive, share, whole
from gadkit.protocols import AnomalyResult, Backbone
from gadkit.search.neighbors import topk

FOLDS = 5  # of the good parts, where a thinned bank has to be made once more for each
FAR = (0.2, 0.6)  # of 1 - cos: by the default eyes 98 % of defective development parts stay below 0.53


def distances(queries: Float[Tensor, "n e"], bank: Float[Tensor, "m e"], k: int = 1) -> Float[Tensor, "n"]:
    """Mean of 1 - cos to the k nearest members of a bank: from 0 to 2.

    Raises ValueError for a bank of fewer than k members.
    """
    if len(bank) < k:
        raise ValueError(f"bank: expected at least k = {k} normal features, got {len(bank)}")
    nearest, _ = topk(queries, bank, k)  # (n, k) cosines
    return (1 - nearest).clamp(min=0).mean(1)  # rounding can take a cosine past 1


class KNN(Base):
    """Image-level detection: the mean distance of an image vector to those of its `k` nearest normal images.

    `k`       neighbours that count; at most as many as normal images.
    `chunk`   images encoded at once: bounds the memory, changes no result.

    Learnt by `fit`: `bank_` (m, d), the normal images' vectors.  A map is its image's score everywhere, for an image
    vector can't say where.  Raises ValueError for arguments outside these.
    """

    learnt = ("bank_",)

    def __init__(self, backbone: Backbone, k: int = 1, *, chunk: int = CHUNK) -> None:
        check_backbone(backbone)
        self.backbone, self.k, self.chunk = backbone, whole("k", k), whole("chunk", chunk)

    @property
    def map_range(self) -> tuple[float, float]:
        """Distances, see `FAR`."""
        return FAR

    def explain(self) -> str:
        """How the scores came about."""
        return f"Each image was compared as a whole with {good(self.shots)}"

    def _fit(self, normal: Iterator[Tensor] | None) -> None:
        bank = torch.cat([self._encode(some, full=True)["vectors"] for some in needed(normal, self)])
        if len(bank) < self.k:
            raise ValueError(f"normal images: expected at least k = {self.k}, got {len(bank)}")
        self.bank_ = bank

    def _others(self, normal: Tensor | Iterable[Tensor], counts: Sequence[int]) -> Iterator["KNN"]:
        """As the base class has it, but from what `fit` has encoded."""
        for first, last in shares(counts):
            yield self._with(bank_=without(self.bank_, first, last, self.shots))

    def _known(self, first: int, last: int) -> dict[str, Tensor]:
        return {"vectors": self.bank_[first:last]}

    def _encode(self, images: Tensor, full: bool) -> dict[str, Tensor]:
        prepared = self.backbone.preprocess(images.to(self.backbone.device))
        return {"vectors": self.backbone.encode_image(prepared, ()).pooled.float()}

    def _score(self, features: dict[str, Tensor], size: tuple[int, int]) -> AnomalyResult:
        scores = distances(features["vectors"], self.bank_, self.k)
        return AnomalyResult(scores[:, None, None].expand(-1, *size).clone(), scores)

    def _names(self) -> tuple[str, ...]:
        return ("vectors",)

    def _group(self) -> int:
        return self.chunk


class PatchKNN(Patches):
    """Patch-level detection: how far each patch is from its nearest counterpart in a bank of normal patches.

    `layers`  blocks whose tokens describe a patch, from 0 or from the end; several are joined
              with equal weight; None takes the backbone's `patch_layers`.
    `k`       neighbours that count for a patch.
    `thin`    share of the bank to keep, spread out by k-centre greedy; None keeps it all.
    `bank`    megabytes that the bank may take: beyond them it is thinned while it is filled (`bank.Bank`).
    `turns`   how many rotations of each normal image enter the bank, at equal angles (AnomalyDINO takes 8).
    `top`     share of an image's patches, the most distant ones, whose mean is its score.
    `finer`   what describes a patch in a layer that has several vectors there: their "average", or "join" for all.
    `extent`  weight of a second distance, added to the score: of the image vector from the nearest normal one.  The
              worst patch finds a spot, the image vector a change everywhere; 0 leaves it out.
    `chunk`   images encoded at once: bounds the memory, changes no result.

    Averages, every layer of the real eyes but the first, and an extent of 1 (which `build` sets) were settled on the
    development categories, where `python -m experiments.scores` measures them beside what else was tried.

    Learnt by `fit`: `bank_` (m, e) and, of images, `vectors_` (k, d).  Encoded are `patches` (b, rows, columns, e) and
    `vectors` (b, d).  All are unit vectors; maps are bilinear between patches.  Raises ValueError for arguments outside
    these.
    """

    version = 2
    learnt = ("bank_", "vectors_")

    def __init__(
        self,
        backbone: Backbone,
        layers: tuple[int, ...] | None = None,
        *,
        k: int = 1,
        thin: float | None = None,
        bank: float | None = None,
        turns: int = 1,
        top: float = 0.01,
        finer: str = "average",
        extent: float = 0.0,
        chunk: int = CHUNK,
    ) -> None:
        super().__init__(backbone, layers, turns=turns, top=top, finer=finer, extent=extent, chunk=chunk)
        self.k, self.thin = whole("k", k), None if thin is None else share("thin", thin)
        self.bank = None if bank is None else positive("bank", bank)

    @property
    def map_range(self) -> tuple[float, float]:
        """Distances, see `FAR`."""
        return FAR

    def explain(self) -> str:
        """How the scores came about."""
        whole = ", and the image as a whole" * (self.extent > 0)
        return f"Each spot of an image{whole} was compared with {good(self.shots)}"

    def remarks(self) -> Sequence[str]:
        """Whether the memory of good parts has been thinned."""
        if not self.shots or len(self.bank_) == self._every():
            return ()
        return (
            f"the memory keeps {len(self.bank_)} of the {self._every()} patches of good parts, spread out; held out, "
            f"good parts are compared with others of them, {FOLDS - 1} in {FOLDS} at least",
        )

    def _fit(self, normal: Iterator[Tensor] | None) -> None:
        bank, vectors = self._empty(), []
        for some in needed(normal, self):
            rows, whole = self._rows(some)
            bank.add(rows.flatten(0, 1))
            vectors.append(whole)
        self.bank_, self.vectors_ = self._enough(bank.rows()), torch.cat(vectors)

    def _others(self, normal: Tensor | Iterable[Tensor], counts: Sequence[int]) -> Iterator["PatchKNN"]:
        """As the base class has it, but from what `fit` has encoded; a bank that was thinned is made anew.

        That takes long, so at most `FOLDS` banks are made.  More parts share them: every bank lacks a fold of the
        parts, and scores those.
        """
        vectors = (without(self.vectors_, first, last, self.shots) for first, last in shares(counts))
        if self._whole():
            for (first, last), others in zip(shares(counts), vectors, strict=True):
                bank = self._enough(without(self.bank_, first, last, self.shots))
                yield self._with(bank_=bank, vectors_=others)
            return
        folds = min(FOLDS, len(counts))
        banks = [self._empty() for _ in range(folds)]
        for part, images in by_part(normal, counts):
            for some in images.split(self.chunk):
                found = self._rows(some)[0].flatten(0, 1)
                for fold, bank in enumerate(banks):
                    if fold != part % folds:
                        bank.add(found)
        kept = [self._enough(bank.rows()) for bank in banks]
        for part, others in enumerate(vectors):
            yield self._with(bank_=kept[part % folds], vectors_=others)

    def _known(self, first: int, last: int) -> dict[str, Tensor]:
        if not self._whole():
            return {}
        turns = self.bank_.view(self.shots, self.turns, *self.backbone.grid, -1)  # of each image, itself first
        return {"patches": turns[first:last, 0], "vectors": self.vectors_[first:last]}

    def _whole(self) -> bool:
        """Whether the bank has all patches of the good parts, in their order."""
        return self.thin is None and len(self.bank_) == self._every()

    def _every(self) -> int:
        """How many patches the good parts have."""
        rows, columns = self.backbone.grid
        return self.shots * rows * columns * self.turns

    def _empty(self) -> Bank:
        return Bank(None if self.bank is None else int(self.bank * 1e6), self.thin)

    def _enough(self, bank: Float[Tensor, "m e"]) -> Float[Tensor, "m e"]:
        if len(bank) < self.k:
            raise ValueError(f"bank: expected at least k = {self.k} normal patches, got {len(bank)}")
        return bank

    def _score(self, features: dict[str, Tensor], size: tuple[int, int]) -> AnomalyResult:
        patches = features["patches"]  # (b, r, c, e)
        far = distances(patches.flatten(0, 2), self.bank_, self.k).view(patches.shape[:3])
        score = top_mean(far.flatten(1), self.top)
        if self.extent:
            score = score + self.extent * distances(features["vectors"], self.vectors_)
        return AnomalyResult(upsample(far, size), score)
