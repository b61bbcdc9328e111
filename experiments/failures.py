"""What does each detector miss?  AUROC by kind of defect on development categories, beside random eyes.

    python -m experiments.failures --out book/results/failures.json

Eleven kinds of damage at a spot and four faults of the whole, each kind against the good parts of its own product.  A
category is written as soon as it is done, and a run that begins again measures what is not in the file; so a later
detector is one run with its name.

Book: anomaly/failures
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product as pairs
from pathlib import Path
from typing import Any

import torch

from gadkit import factory, runtime, zoo
from gadkit.anomaly.detectors import DETECTORS, build
from gadkit.anomaly.metrics import auroc
from gadkit.evaluation.results import merge, read
from gadkit.files import provenance
from gadkit.protocols import AnomalyResult, TestSet

SHOTS = (0, 4)
RANDOM = {"clip": "clip-random", "efficientnet-lite0": "efficientnet-random"}  # the same eyes before any training
KEY = ("detector", "backbone", "shots", "regime", "category")
Kinds = dict[str, dict[str, list[float]]]  # measure -> kind of defect -> a value a product


def product(category: str, seed: int, regime: str, size: int = 96, normal: int = 20) -> TestSet:
    """Good parts of one product, and defective ones of all its kinds, local and global, in one test set."""
    arguments = (category, seed, seed, regime, normal, 3, max(SHOTS), size)
    local, everywhere = (factory.test_set(*arguments, defects) for defects in factory.sets.PROTOCOLS)
    wrong = everywhere.labels  # its good parts are those of the other
    names = [name for name in everywhere.defects if name != "good"]
    images, masks = ([getattr(local, what), getattr(everywhere, what)[wrong]] for what in ("images", "masks"))
    return TestSet(
        category, local.references, torch.cat(images), torch.cat(masks), (*local.defects, *names), local.noun
    )


def by_kind(found: AnomalyResult, data: TestSet) -> dict[str, dict[str, float]]:
    """Image AUROC of every kind against the good parts, and pixel AUROC inside its own images, if it has a place."""
    scores, maps, kinds = found.scores.cpu(), found.maps.cpu(), torch.tensor([d != "good" for d in data.defects])
    values: dict[str, dict[str, float]] = {"image": {}, "pixel": {}}
    for kind in dict.fromkeys(data.defects):
        if kind == "good":
            continue
        mine = torch.tensor([defect == kind for defect in data.defects])
        use = mine | ~kinds
        values["image"][kind] = round(auroc(scores[use], mine[use]), 4)
        if kind not in factory.GLOBAL:
            values["pixel"][kind] = round(auroc(maps[mine], data.masks[mine]), 4)
    return values


def settings(name: str) -> list[int | str]:
    """What a detector of the table can be given: numbers of good parts, of `SHOTS`, and the "batch" to be scored."""
    row = DETECTORS[name]
    return [k for k in SHOTS if (row.few_shot if k else row.zero_shot)] + ["batch"] * bool(row.batched)


def measure(
    name: str, backbone: str, category: str, seeds: Sequence[int], regime: str, size: int = 96
) -> dict[int | str, Kinds]:
    """For each setting, the measures by kind of one category, a value a product."""
    eyes = zoo.load(backbone, "tiny", str(runtime.device(None)))
    values: dict[int | str, Kinds] = {
        k: {"image": defaultdict(list), "pixel": defaultdict(list)} for k in settings(name)
    }
    for seed in seeds:
        data = product(category, seed, regime, size)
        model = build(name, eyes, data.object_name)
        encoded = model.encode(data.images)
        for k, kinds in values.items():
            given = data.images if k == "batch" else data.references[:k] if k else None
            for measured, by in by_kind(model.fit(given).score(encoded), data).items():
                for kind, value in by.items():
                    kinds[measured][kind].append(value)
    return values


def key(row: Mapping[str, Any]) -> tuple:
    """What tells one row from another."""
    return tuple(row[name] for name in KEY)


def main(argv: Sequence[str] | None = None, categories: Sequence[str] = factory.split("development")) -> int:
    """Measure every detector with its own eyes and with random ones; what is in the file is left alone."""
    parser = argparse.ArgumentParser(description="Measure by kind of defect what detectors miss.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to merge into")
    parser.add_argument("--detectors", nargs="+", default=("winclip", "patch-knn"), choices=DETECTORS, metavar="NAME")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=(0, 1, 2), metavar="N", help="products (default: 0 1 2)"
    )
    parser.add_argument("--regime", default="loose", choices=factory.NUISANCE, help="(default: %(default)s)")
    parser.add_argument("--size", type=int, default=96, metavar="PIXELS", help="(default: %(default)s)")
    given = parser.parse_args(argv)
    what = "AUROC by kind of defect on development categories, a value a product; image, and pixel inside the image"
    merge(given.out, [], key, what)  # whether it can be written, before anything is measured
    for name in given.detectors:
        own = DETECTORS[name].backbone
        for backbone, category in pairs((own, RANDOM[own]), categories):
            held = {key(row): row["seeds"] for row in read(given.out)}
            cells = {k: (name, backbone, k, given.regime, category) for k in settings(name)}
            if all(held.get(cell) == list(given.seeds) for cell in cells.values()):
                continue
            start = time.monotonic()
            values = measure(name, backbone, category, given.seeds, given.regime, given.size)
            about = {"seeds": list(given.seeds), "size": given.size, "seconds": round(time.monotonic() - start)}
            about |= provenance(runtime.device(None))
            rows = [dict(zip(KEY, cells[k], strict=True)) | about | kinds for k, kinds in values.items()]
            merge(given.out, rows, key, what)
            sys.stderr.write(f"{name}, {backbone}, {category}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
