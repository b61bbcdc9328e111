"""Which detector is the default?  Nearest patches, words, and both together, on development categories.

    python -m experiments.detectors --out book/results/detectors.json

Both protocols, damage at a spot ("local") and faults of the whole ("global"); 0 shots are words alone.  A fusion adds
a share of WinCLIP's score to that of nearest patches or of a plane; "whole" is the image vector's distance from the
nearest good one.  What `gadkit.anomaly.detectors.default` names was settled here.

Book: anomaly/thresholds
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit import factory, runtime, zoo
from gadkit.anomaly.detectors import DETECTORS, build
from gadkit.anomaly.metrics import auroc
from gadkit.evaluation.results import merge
from gadkit.files import provenance
from gadkit.protocols import Backbone

SHOTS = (1, 4, 16)
SHARES = (0.1, 0.25, 0.5, 1.0)  # of WinCLIP's score in a fusion
TRIED: dict[str, tuple[str, dict[str, Any]]] = {  # what is built on the real eyes: a detector's name, and its arguments
    "patch-knn": ("patch-knn", {}),
    "patch-knn, 8 turns": ("patch-knn", {"turns": 8}),
    "subspace": ("subspace", {}),
    "subspace, 4 turns": ("subspace", {"turns": 4}),
}
READING = ("winclip", "anomalyclip")  # without good parts, on the CLIP
FUSED = ("patch-knn", "subspace")


def scores(eyes: Mapping[str, Backbone], category: str, seed: int, regime: str, size: int = 96) -> Iterator[tuple]:
    """Yield (detector, protocol, shots, image AUROC) of one product."""
    arguments = (category, seed, seed, regime, 20, 3, SHOTS[-1], size)
    local, everywhere = (factory.test_set(*arguments, defects) for defects in ("local", "global"))
    wrong = everywhere.images[everywhere.labels]
    images = torch.cat([local.images, wrong])
    is_global = torch.arange(len(images)) >= len(local.images)
    bad = torch.cat([local.labels, torch.ones(len(wrong), dtype=torch.bool)])
    models = {label: build(name, eyes["real"], **options) for label, (name, options) in TRIED.items()}
    models |= {name: build(name, eyes["clip"], local.object_name) for name in READING}
    whole = build("knn", eyes["real"])
    encoded = {name: model.encode(images) for name, model in models.items()}
    vectors = whole.encode(images)

    def by_protocol(name: str, shots: int, found: Float[Tensor, "b"]) -> Iterator[tuple]:
        for protocol, rows in (("local", ~is_global), ("global", is_global | ~bad)):
            yield name, protocol, shots, auroc(found[rows], bad[rows])

    alone = {name: models[name].fit().score(encoded[name]).scores for name in READING}
    for name, values in alone.items():
        yield from by_protocol(name, 0, values)
    words, few = alone["winclip"], {name: model for name, model in models.items() if name != "anomalyclip"}
    for k in SHOTS:
        found = {name: model.fit(local.references[:k]).score(encoded[name]).scores for name, model in few.items()}
        for name, values in found.items():
            yield from by_protocol(name, k, values)
        far = whole.fit(local.references[:k]).score(vectors).scores
        for name in FUSED:
            for share in SHARES:
                yield from by_protocol(f"{name} + {share:g} words", k, found[name] + share * words)
                yield from by_protocol(f"{name} + {share:g} winclip", k, found[name] + share * found["winclip"])
        for share in SHARES:
            yield from by_protocol(f"subspace + {share:g} whole", k, found["subspace"] + share * far)


def key(row: Mapping[str, Any]) -> tuple:
    """What tells one row from another."""
    return tuple(row[name] for name in ("detector", "protocol", "shots", "regime", "clip"))


def main(argv: Sequence[str] | None = None, categories: Sequence[str] = factory.split("development")) -> int:
    """Measure both regimes, and write the rows into the results file."""
    parser = argparse.ArgumentParser(description="Compare detectors on development categories.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to merge into")
    parser.add_argument("--clip", default=DETECTORS["winclip"].backbone, metavar="NAME", help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1), metavar="N", help="products (default: 0 1)")
    given = parser.parse_args(argv)
    device, what = runtime.device(None), "detectors and their fusions on development categories, image AUROC"
    merge(given.out, [], key, what)  # whether it can be written, before anything is measured
    names = {"real": DETECTORS["patch-knn"].backbone, "clip": given.clip}
    eyes = {name: zoo.load(backbone, "tiny", str(device)) for name, backbone in names.items()}
    for regime in factory.NUISANCE:
        start, found = time.monotonic(), defaultdict(lambda: defaultdict(list))
        for category in categories:
            for seed in given.seeds:
                for *cell, value in scores(eyes, category, seed, regime):
                    found[tuple(cell)][seed].append(value)
                sys.stderr.write(f"{regime}, {category}, product {seed}\n")
        about = {"regime": regime, "clip": given.clip, "seeds": list(given.seeds), "categories": list(categories)}
        about |= {"seconds": round(time.monotonic() - start), **provenance(device)}
        rows = [
            dict(zip(("detector", "protocol", "shots"), cell, strict=True))
            | {"image_auroc": [round(mean(by[seed]), 4) for seed in given.seeds]}
            for cell, by in found.items()
        ]
        merge(given.out, [row | about for row in rows], key, what)
    return 0


if __name__ == "__main__":
    sys.exit(main())
