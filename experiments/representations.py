"""Every representation against anomaly detection: nearest neighbours on categories that no network has seen.

`python -m experiments.representations NAME... --out book/results/representations.json` adds its rows to the same
table as `gadkit evaluate`.

Book: anomaly/representations, selfsup/comparison
"""

import sys
from collections.abc import Iterator, Sequence
from functools import cache
from statistics import mean

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gadkit import factory
from gadkit.anomaly.detectors import PatchKNN
from gadkit.anomaly.detectors.knn import distances
from gadkit.anomaly.detectors.patches import top_mean
from gadkit.anomaly.maps import upsample
from gadkit.anomaly.metrics import aupro, auroc
from gadkit.cli.evaluate import main
from gadkit.protocols import Backbone

SHOTS = (1, 4, 16, 64)  # good parts of each product that a detector learns from
FEW, NORMAL, PER_DEFECT = 4, 8, 1  # the shots of all other figures; sound images to score, defective ones of each kind
_product = cache(factory.test_set)


def evaluate(
    backbone: Backbone,
    seeds: Sequence[int] = (0, 1, 2),
    regimes: Sequence[str] = tuple(factory.NUISANCE),
    categories: Sequence[str] = factory.split("held-out"),
    size: int = 96,
) -> Iterator[tuple[str, float]]:
    """Yield ("regime/detector/measure", value), the mean over the categories; every name comes once a seed.

    A seed stands for another product of each category.  `knn` compares image vectors with those of 4 good parts, and
    `blocks/i` the patches after block i, from 0 on.  `patch` is `PatchKNN` as it is by default, with 4 good parts, and
    `shots/k` the same with k.  Raises ValueError where there is nothing to do.
    """
    if not seeds or not regimes or not categories:
        raise ValueError(f"expected seeds, regimes and categories, got {[*seeds]}, {[*regimes]} and {[*categories]}")
    for regime in regimes:
        for seed in seeds:
            rows = [_measure(backbone, category, seed, regime, size) for category in categories]
            for name in rows[0]:
                yield f"{regime}/{name}", mean(row[name] for row in rows)


@torch.no_grad()
def _measure(backbone: Backbone, category: str, seed: int, regime: str, size: int) -> dict[str, float]:
    """All measures of one product."""
    data = _product(category, seed, seed, regime, NORMAL, PER_DEFECT, max(SHOTS), size)
    images = torch.cat([data.references[:FEW], data.images]).to(backbone.device)
    tokens = backbone.encode_image(backbone.preprocess(images), range(backbone.depth))
    normal, tested = tokens.pooled[:FEW], tokens.pooled[FEW:]
    found = {"knn/image_auroc": auroc(distances(tested, normal), data.labels)}
    for i, patches in enumerate(tokens.patches):
        far = patch_distances(patches[FEW:], patches[:FEW])  # (b, n)
        maps = upsample(far.unflatten(1, tokens.grid), (size, size))
        found[f"blocks/{i}/image_auroc"] = auroc(top_mean(far), data.labels)
        found[f"blocks/{i}/pixel_auroc"] = auroc(maps, data.masks)
    detector = PatchKNN(backbone)
    encoded = detector.encode(data.images)
    for k in SHOTS:
        result = detector.fit(data.references[:k]).score(encoded)
        image, pixel = auroc(result.scores, data.labels), auroc(result.maps, data.masks)
        found |= {f"shots/{k}/image_auroc": image, f"shots/{k}/pixel_auroc": pixel}
        if k == FEW:
            found |= {
                "patch/image_auroc": image,
                "patch/pixel_auroc": pixel,
                "patch/aupro": aupro(result.maps, data.masks),
            }
    return found


def patch_distances(queries: Float[Tensor, "b n e"], normal: Float[Tensor, "k n e"]) -> Float[Tensor, "b n"]:
    """How far each patch of the queries is from the nearest patch of any normal image."""
    flat, bank = (F.normalize(x.float(), dim=-1).flatten(0, 1) for x in (queries, normal))
    return distances(flat, bank).view(queries.shape[:2])


if __name__ == "__main__":
    sys.exit(main("anomaly", evaluate))
