"""MuSc: the photographs of a set, not one of them known to be good, judge each other patch by patch.

What is normal occurs in most photographs, and a defect in few: a patch is strange if even the images that have its best
counterparts have none that is near.  This is the batched setting: a detector of this kind is fitted on the very
photographs that are to be scored, or on others of the same kind, without labels.  So its figures stand in tables of
their own: it has seen the test set.

Source: Li et al., MuSc, ICLR 2024 (arXiv 2401.16753), sections 3.2 to 3.4.
Book: anomaly/neighbours
"""

import hashlib
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gadkit.anomaly.detectors.parts import needed
from gadkit.anomaly.detectors.patches import CHUNK, Patches, patch_means
from gadkit.anomaly.maps import upsample
from gadkit.checks import share, whole
from gadkit.protocols import AnomalyResult, Backbone
from gadkit.search.neighbors import inner

FEW = 10  # images; fewer are hardly a set
FAR = (0.4, 1.2)  # Euclidean distances of unit vectors; 1.41 where nothing is shared


def aggregated(x: Float[Tensor, "b r c e"], radius: int) -> Float[Tensor, "b r c e"]:
    """Unit vectors of the mean of each patch's radius x radius neighbours, of those that there are.

    Local neighbourhood aggregation, section 3.2.  The reference fills with zeros beyond the edge, and so does this: the
    direction is the same.
    """
    near = F.avg_pool2d(x.movedim(3, 1), radius, 1, radius // 2) if radius > 1 else x.movedim(3, 1)
    return F.normalize(near.movedim(1, 3), dim=-1)


def nearest(queries: Float[Tensor, "b n e"], images: Float[Tensor, "m p e"]) -> Float[Tensor, "b n m"]:
    """The distance of each query's nearest patch in each image, eq. 2; all are unit vectors."""
    best = [inner(queries.flatten(0, 1), patches).amax(1) for patches in images]
    return _apart(torch.stack(best, 1)).unflatten(0, queries.shape[:2])


def mutual(images: Float[Tensor, "m p e"], chunk: int = CHUNK) -> Float[Tensor, "m p m"]:
    """`nearest` of a set in itself: each pair of images is compared once, `chunk` of them at a time."""
    best = images.new_empty(len(images), images.shape[1], len(images))
    for i, one in enumerate(images):
        for first in range(i, len(images), chunk):
            some = images[first : first + chunk]
            cosines = inner(one, some.flatten(0, 1)).unflatten(1, some.shape[:2])  # (p, b, p)
            best[i, :, first : first + chunk] = cosines.amax(2)
            best[first : first + chunk, :, i] = cosines.amax(0)
    return _apart(best)


def _apart(cosines: Tensor) -> Tensor:
    """Euclidean distances of unit vectors."""
    return (2 - 2 * cosines).clamp(min=0).sqrt()


def interval_mean(distances: Float[Tensor, "n m"], lowest: float) -> Float[Tensor, "n"]:
    """The mean of the lowest share of each row, of one entry at least: eq. 3 with the interval from 0 to `lowest`."""
    count = max(1, int(lowest * distances.shape[1]))
    return distances.topk(count, dim=1, largest=False).values.mean(1)


def shared_scores(
    similar: Float[Tensor, "b m"], own: Float[Tensor, "b"], scores: Float[Tensor, "m"], neighbours: Sequence[int]
) -> Float[Tensor, "b"]:
    """Scores of images, each the mean over `neighbours` of what its k most similar images have, itself among them.

    RsCIN, section 3.4, weighted by similarity; `similar` are the cosines with other images, and -1 leaves one out.
    The reference first brings all scores between 0 and 1, which changes the ranking of none.
    """
    order = similar.sort(dim=1, descending=True)
    weights = torch.cat([torch.ones_like(own)[:, None], order.values], 1)
    values = torch.cat([own[:, None], scores[order.indices]], 1)
    found = []
    for k in neighbours:
        some = slice(min(k, int((similar > -1).sum(1).min()) + 1))
        found.append((weights[:, some] * values[:, some]).sum(1) / weights[:, some].sum(1))
    return torch.stack(found).mean(0)


class MuSc(Patches):
    """Batched detection: how far each patch is from its counterparts in the other images of an unlabelled set.

    `layers`      blocks whose tokens describe a patch, each compared by itself; None takes the backbone's
                  `patch_layers`.
    `radii`       sides, in patches, of the neighbourhoods over which a patch is averaged before it is compared: odd.
    `lowest`      share of the other images, those with the nearest counterparts, that score a patch.
    `neighbours`  how many of the most similar images share an image's score, itself among them: the mean over these
                  numbers; () leaves each image its own.
    `most`        images of the set that are kept to compare with; of more, as many are drawn by lot, by seed 0.
    `finer`       as `PatchKNN` has it.
    `chunk`       images encoded at once: bounds the memory, changes no result.

    Learnt by `fit` from a set without labels: `layer0_` (n, p, e) and so on, the patches' tokens, `vectors_` (n, d),
    `far_` (n, rows, columns), what the set says of its own patches, and `marks_` (n,), by which an image of the set is
    known again: it is not compared with itself, and what is known of it is not computed again.
    Raises ValueError for arguments outside these, and for fewer than two images.
    """

    version = 2

    def __init__(
        self,
        backbone: Backbone,
        layers: tuple[int, ...] | None = None,
        *,
        radii: tuple[int, ...] = (1, 3, 5),
        lowest: float = 0.3,
        neighbours: tuple[int, ...] = (1, 2, 3),
        most: int = 128,
        finer: str = "average",
        chunk: int = CHUNK,
    ) -> None:
        super().__init__(backbone, layers, finer=finer, chunk=chunk)
        self.radii = tuple(radii)
        if not self.radii or any(whole("radii", radius) % 2 == 0 for radius in self.radii):
            raise ValueError(f"radii: expected odd numbers of patches, got {self.radii}")
        self.neighbours = tuple(whole("neighbours", k) for k in neighbours)
        self.lowest, self.most = share("lowest", lowest), whole("most", most, 2)

    @property
    def learnt(self) -> tuple[str, ...]:
        """The tensors that `fit` sets."""
        return (*(f"{name}_" for name in self._names()), "far_")

    @property
    def scores_(self) -> Float[Tensor, "n"]:
        """The images' own scores, before any is shared."""
        return self.far_.flatten(1).amax(1)

    @property
    def map_range(self) -> tuple[float, float]:
        """Distances, see `FAR`."""
        return FAR

    def explain(self) -> str:
        """How the scores came about."""
        return (
            f"Each spot was compared with the {self.shots} images of the set itself, of which none is known to be good"
        )

    def remarks(self) -> Sequence[str]:
        """What the setting means, whether the set is too small, and whether all of it was compared."""
        if not self.shots:
            return ()
        batched = "images were compared with each other, so a defect that most of them share looks normal"
        few = f"{self.shots} images say little about what is usual: dozens of one product do"
        some = f"each image is compared with {self.most} of the {self.shots}, drawn by lot"
        return [batched] + [few] * (self.shots < FEW) + [some] * (self.shots > self.most)

    def _fit(self, normal: Iterator[Tensor] | None) -> None:
        draw, kept, count = torch.Generator().manual_seed(0), [], 0
        for some in needed(normal, self):
            for one in zip(*self._encode(some, full=True).values(), strict=True):
                count += 1  # reservoir sampling: each image stays with the same chance
                at = len(kept) if len(kept) < self.most else int(torch.randint(count, (1,), generator=draw))
                kept[at : at + 1] = [one] if at < self.most else []
        if count < 2:
            raise ValueError(f"images: MuSc compares the images of a set, so it needs at least 2, got {count}")
        self._keep(kept)

    def _keep(self, images: Sequence[Sequence[Tensor]]) -> None:
        """Keep the features of a set, and what its images say of each other."""
        for name, values in zip(self._names(), zip(*images, strict=True), strict=True):
            setattr(self, f"{name}_", torch.stack(values))
        others, found = ~torch.eye(len(images), dtype=torch.bool), []
        for bank in self._neighbourhoods(self._set()):
            rows = zip(mutual(bank, self.chunk), others, strict=True)
            found.append(torch.stack([interval_mean(row[:, use], self.lowest) for row, use in rows]))
        self.far_ = torch.stack(found).mean(0).unflatten(1, self.backbone.grid)

    def _encode(self, images: Tensor, full: bool) -> dict[str, Tensor]:
        tokens = self.backbone.encode_image(self._prepared(images), self.layers)
        layers = [F.layer_norm(x, x.shape[1:]) for x in patch_means(tokens.patches, self._averaged())]
        contents = (hashlib.blake2b(one.numpy().tobytes(), digest_size=8).digest() for one in images.cpu())
        marks = torch.tensor([int.from_bytes(content, signed=True) for content in contents])
        vectors = F.normalize(tokens.pooled.float(), dim=-1)
        return dict(zip(self._names(), [*layers, vectors, marks.to(vectors.device)], strict=True))

    def _names(self) -> tuple[str, ...]:
        return (*(f"layer{i}" for i in range(len(self.layers))), "vectors", "marks")

    def _score(self, features: dict[str, Tensor], size: tuple[int, int]) -> AnomalyResult:
        far = self._far(features)
        score = far.flatten(1).amax(1)
        if self.neighbours:
            similar = (features["vectors"] @ self.vectors_.T).masked_fill(self._same(features["marks"]), -1)
            score = shared_scores(similar, score, self.scores_, self.neighbours)
        return AnomalyResult(upsample(far, size), score)

    def _far(self, features: dict[str, Tensor]) -> Float[Tensor, "b r c"]:
        """The mean, over layers and radii, of what the other images say of each patch."""
        known, which = self._same(features["marks"]).max(1)
        found = self.far_[which]
        if known.all():
            return found
        new = self._neighbourhoods({name: x[~known] for name, x in features.items()})
        pairs = zip(new, self._neighbourhoods(self._set()), strict=True)
        far = [interval_mean(nearest(own, bank).flatten(0, 1), self.lowest) for own, bank in pairs]
        found[~known] = torch.stack(far).mean(0).view_as(found[~known])
        return found

    def _set(self) -> dict[str, Tensor]:
        return {name: getattr(self, f"{name}_") for name in self._names()}

    def _neighbourhoods(self, features: dict[str, Tensor]) -> Iterator[Float[Tensor, "b p e"]]:
        """The aggregated patches of images, by layer and radius."""
        for name in self._names()[: len(self.layers)]:
            for radius in self.radii:
                yield aggregated(features[name].unflatten(1, self.backbone.grid), radius).flatten(1, 2)

    def _same(self, marks: Int[Tensor, "b"]) -> Bool[Tensor, "b m"]:
        """Which image of the set each one is: of copies the first, as the others are other photographs."""
        same = marks[:, None] == self.marks_
        return same & (same.cumsum(1) == 1)
