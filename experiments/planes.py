"""A memory or a plane?  Nearest patches, SubspaceAD and MuSc on development categories, by eyes and shots.

    python -m experiments.planes --out book/results/planes.json

Patches of good parts are encoded once, with all their turns, and serve every detector and number of shots.  A row holds
all measures of a product for one network, so a run that was killed loses one product at most.  Rows of the batched
setting stand by themselves: they have seen the test set.

Book: anomaly/neighbours
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gadkit import factory, runtime, zoo
from gadkit.anomaly.detectors.knn import distances
from gadkit.anomaly.detectors.musc import MuSc
from gadkit.anomaly.detectors.patches import patch_vectors, top_mean, turned
from gadkit.anomaly.detectors.subspace import Moments, residual
from gadkit.anomaly.maps import upsample
from gadkit.anomaly.metrics import auroc
from gadkit.evaluation.results import merge, read
from gadkit.files import provenance
from gadkit.protocols import Backbone, TestSet

EYES = ("efficientnet-lite0", "clip", "dinov2", "random")
SHOTS, TURNS = (1, 2, 4, 8, 16), (1, 8)
TURNED = (1, 4)  # shots at which the memory is measured with turns, too: it grows with them
EXPLAINED = (0.99, 0.9)
CURVE, CURVE_AT = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0), 4  # shares of the variance, at so many shots
EXTENTS = (0.25, 1.0)  # weights of the image vector's distance
Measured = Iterator[tuple[str, float]]


@torch.no_grad()
def encoded(eyes: Backbone, images: Tensor, turns: int = 1) -> tuple[Float[Tensor, "n t p e"], Float[Tensor, "n d"]]:
    """The patches of all turns of images, and the images' own vectors, all of unit length."""
    patches, vectors = [], []
    joined = [max(1, -(-eyes.patch_size // eyes.strides[i])) for i in eyes.patch_layers]
    for some in images.split(8):
        tokens = [eyes.encode_image(x, eyes.patch_layers) for x in turned(eyes.preprocess(some.to(eyes.device)), turns)]
        patches.append(torch.stack([patch_vectors(t.patches, joined) for t in tokens], 1))
        vectors.append(F.normalize(tokens[0].pooled.float(), dim=-1))
    return torch.cat(patches), torch.cat(vectors)


def product(eyes: Backbone, category: str, seed: int, regime: str, size: int = 96) -> dict[str, float]:
    """All measures of one product: "detector/shots/measure"."""
    arguments = (category, seed, seed, regime, 20, 3, SHOTS[-1], size)
    local, everywhere = (factory.test_set(*arguments, protocol) for protocol in ("local", "global"))
    wrong = everywhere.images[everywhere.labels]
    patches, vectors = encoded(eyes, torch.cat([local.images, wrong]))
    good, own = encoded(eyes, local.references, TURNS[-1])
    at = len(local.images)
    is_good = ~torch.cat([local.labels, torch.ones(len(wrong), dtype=torch.bool)])

    def measured(name: str, far: Float[Tensor, "n p"], more: Tensor | float = 0.0) -> Measured:
        scores = top_mean(far) + more
        everyone = torch.arange(len(far))
        for protocol, rows in (("local", everyone < at), ("global", (everyone >= at) | is_good)):
            yield f"{name}/{protocol}", auroc(scores[rows], ~is_good[rows])
        maps = upsample(far[:at].unflatten(1, eyes.grid), (size, size))
        yield f"{name}/pixel", auroc(maps, local.masks)

    found = dict(few_shot(measured, patches[:, 0], vectors, good, own))
    found |= dict(batched(eyes, local, patches[:at, 0]))
    return {name: round(value, 4) for name, value in found.items()}


def few_shot(
    measured: Callable[..., Measured], patches: Tensor, vectors: Tensor, good: Tensor, own: Tensor
) -> Measured:
    """The memory and the plane at all shots, and the plane's share of the variance at some."""
    for k in SHOTS:
        whole = distances(vectors, own[:k])
        for turns in TURNS:
            rows = good[:k, :: TURNS[-1] // turns].flatten(0, 2)
            planes = Moments().add(rows)
            if turns == 1 or k in TURNED:
                bank = distances(patches.flatten(0, 1), rows).view(patches.shape[:2])
                yield from measured(f"patch-knn, {turns} turns/{k}", bank)
            for share in CURVE if k == CURVE_AT else EXPLAINED:
                far = residual(patches, *planes.axes(share))
                yield from measured(f"subspace {share:g}, {turns} turns/{k}", far)
                if k == CURVE_AT and share in EXPLAINED:
                    for extent in EXTENTS:
                        yield from measured(
                            f"subspace {share:g}, {turns} turns, {extent:g} image/{k}", far, extent * whole
                        )


def batched(eyes: Backbone, data: TestSet, patches: Float[Tensor, "n p e"]) -> Measured:
    """Detectors that are fitted on the test set itself, without its labels."""
    far = residual(patches, *Moments().add(patches.flatten(0, 1)).axes(0.9))
    yield "batched subspace 0.9/0/local", auroc(top_mean(far), data.labels)
    maps = upsample(far.unflatten(1, eyes.grid), tuple(data.masks.shape[1:]))
    yield "batched subspace 0.9/0/pixel", auroc(maps, data.masks)
    detector = MuSc(eyes).fit(data.images)
    result = detector.score(data.images)
    yield "batched musc/0/local", auroc(result.scores, data.labels)
    yield "batched musc/0/pixel", auroc(result.maps, data.masks)
    yield "batched musc, own scores/0/local", auroc(detector.scores_, data.labels)


def key(row: Mapping[str, Any]) -> tuple:
    """What tells one row from another."""
    return row["backbone"], row["category"], row["product"], row["regime"]


def main(argv: Sequence[str] | None = None, categories: Sequence[str] = factory.split("development")) -> int:
    """Measure the products that are not in the results file yet, and write a row for each."""
    parser = argparse.ArgumentParser(description="Compare nearest patches and planes on development categories.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to merge into")
    parser.add_argument("--backbones", nargs="+", default=EYES, metavar="NAME")
    parser.add_argument("--regimes", nargs="+", default=["loose"], choices=[*factory.NUISANCE], metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="products (default: 0)")
    given = parser.parse_args(argv)
    device, what = runtime.device(None), "nearest patches, planes and sets on development categories, AUROC"
    merge(given.out, [], key, what)  # whether it can be written, before anything is measured
    done = {key(row) for row in read(given.out)}
    for name in given.backbones:
        eyes = zoo.load(name, "tiny", str(device))
        for regime in given.regimes:
            for seed in given.seeds:
                for category in categories:
                    about = {"backbone": name, "category": category, "product": seed, "regime": regime}
                    if key(about) in done:
                        continue
                    start = time.process_time()
                    about["values"] = product(eyes, category, seed, regime)
                    about["cpu_seconds"] = round(time.process_time() - start, 1)
                    merge(given.out, [about | provenance(device)], key, what)
                    sys.stderr.write(f"{name}, {regime}, {category}, product {seed}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
