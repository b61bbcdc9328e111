"""Which score finds a spot and a change everywhere?  What describes a patch, and how an image's score comes of patches.

    python -m experiments.scores --out book/results/scores.json

Nearest patches on the real eyes, on development categories only: products with damage at a spot ("local") and with
faults of the whole ("global").  Every way to describe a patch is measured with the plain and the chosen score, and
every score on the chosen description.

Book: anomaly/thresholds
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit import factory, runtime, zoo
from gadkit.anomaly.detectors.patches import patch_vectors, top_mean
from gadkit.anomaly.maps import upsample
from gadkit.anomaly.metrics import aupro, auroc
from gadkit.evaluation.results import merge
from gadkit.files import provenance
from gadkit.protocols import Backbone, TestSet

SHOTS, PIXELS_AT = (1, 4, 16), 4
LAYERS = (1, 2, 3, 4)  # strides 4, 8, 16 and 32, on a grid of stride 16
FEATURES = {  # layers, and whether the vectors of a finer one are averaged within a patch
    "joined, 8 to 32": ((2, 3, 4), False),
    "averaged, 8 to 32": ((2, 3, 4), True),
    "joined, 4 to 32": ((1, 2, 3, 4), False),
    "averaged, 4 to 32": ((1, 2, 3, 4), True),
    "averaged, 16 and 32": ((3, 4), True),
    "32 alone": ((4,), True),
}
FEATURE, SCORE = "averaged, 4 to 32", "maximum + image"
SMOOTHED = (0.0, 2.0, 4.0)  # pixels of a 96-pixel image
Found = tuple[Float[Tensor, "b n"], Float[Tensor, "b"]]  # distances of the patches, and of the image vectors
Good = tuple[Float[Tensor, "k n"], Float[Tensor, "k"]]  # the same of good parts, each held out


def _power(far: Tensor, p: float) -> Tensor:
    return far.pow(p).mean(1).pow(1 / p)


def _soft(far: Tensor, t: float = 0.02) -> Tensor:
    """A maximum that all patches have a share in."""
    return t * (far / t).exp().mean(1).log()


def _scales(far: Tensor) -> Tensor:
    """The mean, over windows of several sizes, of the worst window's mean distance."""
    side = round(far.shape[1] ** 0.5)
    maps = far.view(-1, 1, side, side)
    return sum(F.avg_pool2d(maps, s, 1).flatten(1).amax(1) for s in (1, 2, 4, 8, side)) / 5


SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "maximum": lambda far, whole: far.amax(1),
    "mean": lambda far, whole: far.mean(1),
    "image": lambda far, whole: whole,
    "top 2 %": lambda far, whole: top_mean(far, 0.02),
    "top 5 %": lambda far, whole: top_mean(far, 0.05),
    "top 25 %": lambda far, whole: top_mean(far, 0.25),
    "8-norm": lambda far, whole: _power(far, 8.0),
    "16-norm": lambda far, whole: _power(far, 16.0),
    "soft maximum": lambda far, whole: _soft(far),
    "worst window, 5 sizes": lambda far, whole: _scales(far),
    "maximum + mean": lambda far, whole: far.amax(1) + far.mean(1),
    "maximum + image / 2": lambda far, whole: far.amax(1) + whole / 2,
    "maximum + image": lambda far, whole: far.amax(1) + whole,
    "maximum + 2 image": lambda far, whole: far.amax(1) + 2 * whole,
    "soft maximum + image": lambda far, whole: _soft(far) + whole,
}
STANDARDISED = {  # two scores, each in standard deviations of what good parts get when held out
    "standardised maximum + mean": ("maximum", "mean"),
    "standardised maximum + image": ("maximum", "image"),
}


def standardised(found: Found, good: Good, names: Sequence[str]) -> Float[Tensor, "b"]:
    """The sum of scores, each less the mean of held-out good parts and over their deviation."""
    total = torch.zeros(len(found[0]))
    for name in names:
        normal = SCORES[name](*good)
        total = total + (SCORES[name](*found) - normal.mean()) / (normal.std() + 1e-3)
    return total


def score(name: str, found: Found, good: Good | None) -> Float[Tensor, "b"]:
    """A score by its name; below three good parts nothing can be standardised, and the sum is a plain one."""
    if name in SCORES:
        return SCORES[name](*found)
    if good is None:
        return sum(SCORES[one](*found) for one in STANDARDISED[name])
    return standardised(found, good, STANDARDISED[name])


@torch.no_grad()
def encoded(backbone: Backbone, images: UInt8[Tensor, "n 3 s s"]) -> tuple[list[Tensor], Tensor]:
    """The patches of each of `LAYERS`, (n, r, e), as the backbone joins them, and the unit vectors of the images."""
    tokens = [backbone.encode_image(backbone.preprocess(some.to(backbone.device)), LAYERS) for some in images.split(16)]
    layers = [torch.cat([t.patches[i] for t in tokens]) for i in range(len(LAYERS))]
    return layers, F.normalize(torch.cat([t.pooled for t in tokens]).float(), dim=-1)


def apart(backbone: Backbone, layers: Sequence[Tensor], count: int) -> dict[str, Float[Tensor, "n r count"]]:
    """By what describes a patch, how far each patch is from the nearest one of each of the first `count` images.

    The cosine of joined layers is the mean of their cosines, so each layer is compared once.
    """
    factors = [max(1, backbone.patch_size // backbone.strides[i]) for i in LAYERS]
    parts = {(i, average) for wanted, average in FEATURES.values() for i in wanted}
    described = {}
    for i, average in parts:
        at = LAYERS.index(i)
        described[i, average] = patch_vectors([layers[at]], [factors[at] if average else 1])
    far = {name: torch.empty(*layers[0].shape[:2], count) for name in FEATURES}
    for number in range(count):
        cosines = {part: x.flatten(0, 1) @ x[number].T for part, x in described.items()}  # (n r, r)
        for name, (wanted, average) in FEATURES.items():
            total = sum(cosines[i, average] for i in wanted) / len(wanted)
            far[name][..., number] = (1 - total.amax(1)).clamp(min=0).view(layers[0].shape[:2])
    return far


def product(backbone: Backbone, local: TestSet, everywhere: TestSet) -> Iterator[tuple[dict[str, Any], float]]:
    """Every measure of a product, with what it is a measure of; the two sets have the same good parts."""
    extra = everywhere.labels
    data = TestSet(
        local.category,
        local.references,
        torch.cat([local.images, everywhere.images[extra]]),
        torch.cat([local.masks, everywhere.masks[extra]]),
        local.defects + tuple(d for d in everywhere.defects if d != "good"),
    )
    is_global = torch.tensor([d in factory.GLOBAL for d in data.defects])
    layers, vectors = encoded(backbone, torch.cat([data.references, data.images]))
    first, size = len(data.references), tuple(data.images.shape[2:])
    wholes = 1 - vectors @ vectors[:first].T  # (n, first)
    own = torch.eye(first, dtype=torch.bool)
    for name, far in apart(backbone, layers, first).items():  # (n, r, first)
        for shots in SHOTS:
            found = far[first:, :, :shots].amin(2), wholes[first:, :shots].amin(1)
            good = None
            if shots > 2:
                mask = own[:shots, :shots]
                others = far[:shots, :, :shots].masked_fill(mask[:, None], 9).amin(2)
                good = others, wholes[:shots, :shots].masked_fill(mask, 9).amin(1)
            for one in (*SCORES, *STANDARDISED) if name == FEATURE else ("maximum", SCORE):
                values = score(one, found, good)
                for protocol, rows in (("local", ~is_global), ("global", is_global | ~data.labels)):
                    what = {"features": name, "score": one, "protocol": protocol, "shots": shots}
                    yield what | {"measure": "image_auroc"}, auroc(values[rows], data.labels[rows])
            if shots == PIXELS_AT:
                yield from pixels(name, found[0][~is_global], data.masks[~is_global], size)


def pixels(
    name: str, far: Float[Tensor, "b n"], masks: Tensor, size: tuple[int, int]
) -> Iterator[tuple[dict[str, Any], float]]:
    """Where the defect is: as it comes, and for the chosen description smoothed."""
    from scipy.ndimage import gaussian_filter

    side = round(far.shape[1] ** 0.5)
    maps = upsample(far.view(-1, side, side), size)
    for sigma in SMOOTHED if name == FEATURE else SMOOTHED[:1]:
        smooth = maps if not sigma else torch.from_numpy(gaussian_filter(maps.numpy(), (0, sigma, sigma)))
        what = {"features": name, "score": f"smoothed by {sigma:g}", "protocol": "local", "shots": PIXELS_AT}
        yield what | {"measure": "pixel_auroc"}, auroc(smooth, masks)
        yield what | {"measure": "aupro"}, aupro(smooth, masks)


def measure(
    backbone: Backbone, regime: str, categories: Sequence[str], seeds: Sequence[int], size: int = 96
) -> list[dict[str, Any]]:
    """Rows of all that is measured in a regime: the mean over categories, one value a seed (another product each)."""
    found: dict[tuple, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for category in categories:
        for seed in seeds:
            arguments = (category, seed, seed, regime, 20, 3, SHOTS[-1], size)
            local, everywhere = (factory.test_set(*arguments, defects) for defects in ("local", "global"))
            for what, value in product(backbone, local, everywhere):
                found[tuple(what.items())][seed].append(value)
            sys.stderr.write(f"{regime}, {category}, product {seed}\n")
    return [
        dict(what) | {"regime": regime, "values": [round(mean(by_seed[seed]), 4) for seed in seeds]}
        for what, by_seed in found.items()
    ]


def key(row: Mapping[str, Any]) -> tuple:
    """What tells one row from another."""
    return tuple(row[name] for name in ("backbone", "features", "score", "protocol", "shots", "measure", "regime"))


def main(argv: Sequence[str] | None = None, categories: Sequence[str] = factory.split("development")) -> int:
    """Measure both regimes, and write the rows into the results file."""
    parser = argparse.ArgumentParser(description="Measure how an image's score should come of its patches.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to merge into")
    parser.add_argument("--backbone", default="efficientnet-lite0", metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1), metavar="N")
    given = parser.parse_args(argv)
    what = "nearest patches on development categories: what describes a patch, and how patches make a score"
    device = runtime.device(None)
    merge(given.out, [], key, what)  # whether it can be written, before anything is measured
    backbone = zoo.load(given.backbone, "tiny", str(device))
    for regime in factory.NUISANCE:
        start = time.monotonic()
        rows = measure(backbone, regime, categories, given.seeds)
        about = {"backbone": given.backbone, "categories": list(categories), "seeds": list(given.seeds)}
        about |= {"seconds": round(time.monotonic() - start), **provenance(device)}
        merge(given.out, [{**row, **about} for row in rows], key, what)
    return 0


if __name__ == "__main__":
    sys.exit(main())
