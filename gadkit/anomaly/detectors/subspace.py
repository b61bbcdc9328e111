"""Anomaly detection by a plane: normal patches lie near a subspace of few dimensions, and what is left over is strange.

Nothing is trained, and no patch is remembered: of all normal patches only their mean and main axes (PCA) stay.

Source: Lendering et al., SubspaceAD, CVPR 2026 (arXiv 2602.23013, version 3), section 3.
Book: anomaly/neighbours
"""

import copy
from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit.anomaly.detectors.knn import distances
from gadkit.anomaly.detectors.parts import good, needed, shares, without
from gadkit.anomaly.detectors.patches import CHUNK, Patches, patch_means, top_mean
from gadkit.anomaly.maps import upsample
from gadkit.checks import one_of, share
from gadkit.protocols import AnomalyResult, Backbone, Tokens

MERGES = ("join", "mean")
ROUNDING = 1e-12  # of a sum of shares
PIECES = 64  # sets of normal images, at most, whose moments are kept apart for leaving one out ...
ROOM = 2**29  # ... in so many bytes, but 4 of them in any case
FAR = (0.1, 0.3)  # residual energies of unit vectors: good parts stay below the first


class Moments:
    """The number, sum and second moment of rows that come a few at a time, in double precision."""

    def __init__(self) -> None:
        self.count: int = 0
        self.sum: Tensor | float = 0.0
        self.second: Tensor | float = 0.0

    def add(self, rows: Float[Tensor, "n e"]) -> "Moments":
        """Add rows; itself."""
        x = rows.double()
        self.count += len(x)
        self.sum = self.sum + x.sum(0)
        self.second = self.second + x.T @ x
        return self

    @classmethod
    def of(cls, several: Iterable["Moments"]) -> "Moments":
        """The moments of all rows of several."""
        total = cls()
        for some in several:
            total.count += some.count
            total.sum = total.sum + some.sum
            total.second = total.second + some.second
        return total

    def axes(self, explained: float) -> tuple[Float[Tensor, "k e"], Float[Tensor, "e"]]:
        """The fewest main axes that hold the `explained` share of the variance, largest first, and the mean."""
        mean = self.sum / self.count
        values, vectors = torch.linalg.eigh(self.second / self.count - torch.outer(mean, mean))  # rising
        values = values.flip(0).clamp(min=0)
        total = values.sum()
        reached = values.cumsum(0) / total if total > 0 else torch.ones_like(values)
        k = min(int((reached < explained - ROUNDING).sum()) + 1, len(values))
        return vectors.flip(1).T[:k].float(), mean.float()


class Pieces:
    """The moments of normal images that come one after the other, piece by piece.

    A piece is one image as long as there are few; beyond `most` pieces two neighbours become one, and so on, so that
    the memory is bounded however many images come.
    """

    def __init__(self) -> None:
        self.images = 1  # in a piece; the last one may have fewer
        self.moments: list[Moments] = []
        self.count = 0

    def add(self, rows: Float[Tensor, "b m e"]) -> None:
        """Add the rows of b images."""
        most = max(4, min(PIECES, ROOM // (8 * rows.shape[-1] ** 2)) // 2 * 2)
        for row in rows:
            if self.count == most * self.images:
                pairs = zip(self.moments[::2], self.moments[1::2], strict=True)
                self.moments, self.images = [Moments.of(pair) for pair in pairs], 2 * self.images
            if self.count % self.images == 0:
                self.moments.append(Moments())
            self.moments[-1].add(row)
            self.count += 1

    def touched(self, first: int, last: int) -> range:
        """The pieces that hold images `first` to before `last`."""
        return range(first // self.images, (last - 1) // self.images + 1)

    def without(self, some: range) -> Moments:
        """The moments of all images but those of some pieces.  Raises ValueError where nothing is left."""
        kept = [moments for i, moments in enumerate(self.moments) if i not in some]
        if not kept:
            raise ValueError(f"parts: expected some images of other parts among {self.count}, got none")
        return Moments.of(kept)


def residual(
    patches: Float[Tensor, "*b e"], axes: Float[Tensor, "k e"], mean: Float[Tensor, "e"]
) -> Float[Tensor, "*b"]:
    """The squared distance of patches from the plane through `mean` along orthonormal `axes`."""
    off = patches - mean
    return (off - (off @ axes.T) @ axes).square().sum(-1)


class SubspaceAD(Patches):
    """Patch-level detection: the squared distance of each patch from the plane of the normal patches.

    `layers`     blocks whose tokens describe a patch; None takes the backbone's `patch_layers`.
    `explained`  share of the normal patches' variance that the plane holds (tau); at 1 hardly anything is left over.
    `turns`      how many rotations of each normal image are learnt, at equal angles (the paper takes 30).
    `top`        share of an image's patches, the strangest ones, whose mean is its score.
    `finer`      what describes a patch in a layer that has several vectors there: their "average", or "join" for all.
    `merge`      how layers become one: "join" puts their unit vectors side by side, "mean" takes the mean of their
                 vectors as they are.  The paper takes the mean, which asks for layers of one width; then distances
                 have no common scale.
    `extent`     weight of the distance of the image vector from the nearest normal one, added to the score.
    `chunk`      images encoded at once: bounds the memory, changes no result.

    Learnt by `fit`: `axes_` (k, e), `mean_` (e) and, of images, `vectors_` (n, d).  Maps are bilinear between patches.
    Raises ValueError for arguments outside these.
    """

    learnt = ("axes_", "mean_", "vectors_")
    _pieces: Pieces | None = None  # no part of the state: they are much larger than the plane

    def __init__(
        self,
        backbone: Backbone,
        layers: tuple[int, ...] | None = None,
        *,
        explained: float = 0.99,
        turns: int = 1,
        top: float = 0.01,
        finer: str = "average",
        merge: str = "join",
        extent: float = 0.0,
        chunk: int = CHUNK,
    ) -> None:
        super().__init__(backbone, layers, turns=turns, top=top, finer=finer, extent=extent, chunk=chunk)
        self.explained, self.merge = share("explained", explained), one_of("merge", merge, MERGES)

    @property
    def map_range(self) -> tuple[float, float]:
        """Residual energies, see `FAR`."""
        return FAR

    def explain(self) -> str:
        """How the scores came about."""
        whole = ", and the image as a whole was compared with it" * (self.extent > 0)
        return f"Each spot was compared with what varies in {good(self.shots)}{whole}"

    def _fit(self, normal: Iterator[Tensor] | None) -> None:
        self._pieces, vectors = Pieces(), []
        for some in needed(normal, self):
            rows, whole = self._rows(some)
            self._pieces.add(rows)
            vectors.append(whole)
        self.axes_, self.mean_ = Moments.of(self._pieces.moments).axes(self.explained)
        self.vectors_ = torch.cat(vectors)

    def _others(self, normal: Tensor | Iterable[Tensor], counts: Sequence[int]) -> Iterator["SubspaceAD"]:
        """As the base class has it, but nothing is encoded again: the moments of what is left out are not counted.

        Where a piece holds several images, the neighbours of a part in its pieces are left out with it.
        """
        pieces, before = self._pieces or copy.copy(self).fit(normal)._pieces, None
        for first, last in shares(counts):
            if (touched := pieces.touched(first, last)) != before:
                (axes, mean), before = pieces.without(touched).axes(self.explained), touched
            yield self._with(axes_=axes, mean_=mean, vectors_=without(self.vectors_, first, last, self.shots))

    def _score(self, features: dict[str, Tensor], size: tuple[int, int]) -> AnomalyResult:
        energy = residual(features["patches"], self.axes_, self.mean_)
        score = top_mean(energy.flatten(1), self.top)
        if self.extent:
            score = score + self.extent * distances(features["vectors"], self.vectors_)
        return AnomalyResult(upsample(energy, size), score)

    def described(self, tokens: Tokens) -> Float[Tensor, "b n e"]:
        """As the base class has it, or with `merge` the mean of the layers.

        Raises ValueError for layers of several widths that have to be one.
        """
        if self.merge == "join":
            return super().described(tokens)
        means = patch_means(tokens.patches, self._averaged())
        if len({x.shape[-1] for x in means}) > 1:
            widths = ", ".join(str(x.shape[-1]) for x in means)
            raise ValueError(f'merge: "mean" expects layers of one width, got {widths}; "join" takes any')
        return torch.stack(means).mean(0)
