"""Somebody else's images: the simulated textiles of PyPI's conformal-clip-data, and nobody tuned on them.

    python -m experiments.textiles --source conformal_clip_data-0.1.4-py3-none-any.whl --out book/results/textiles.json

Every detector as it is by default, and nearest patches with other eyes; local and global faults apart.

Book: anomaly/thresholds
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gadkit import runtime, zoo
from gadkit.anomaly.detectors import DETECTORS, build
from gadkit.anomaly.metrics import auroc
from gadkit.data.testsets import textile_sets
from gadkit.evaluation.results import merge
from gadkit.files import provenance
from gadkit.protocols import TestSet

ROWS = {  # detector, backbone and its own arguments
    "nearest patches": ("patch-knn", None, {}),
    "plane": ("subspace", None, {}),
    "nearest patches, maximum only": ("patch-knn", None, {"extent": 0.0}),
    "nearest patches, random eyes": ("patch-knn", "efficientnet-random", {}),
    "nearest patches, SimCLR": ("patch-knn", "simclr", {}),
    "nearest images": ("knn", None, {}),
    "WinCLIP": ("winclip", None, {}),
    "AnomalyCLIP": ("anomalyclip", None, {}),
    "InCTRL": ("inctrl", None, {}),
    "two vectors a layer": ("uniadet", None, {}),
    "made-up defects": ("made-up", None, {}),
}


def key(row: Mapping[str, Any]) -> tuple:
    """What tells one row from another."""
    return row["detector"], row["backbone"], row["shots"], row["data"]


def rows(
    name: str, sets: Sequence[TestSet], shots: Sequence[int], seeds: Sequence[int], device: torch.device
) -> list[dict[str, Any]]:
    """Image AUROC of one detector on every set and number of shots, one value a draw of the references."""
    detector, backbone, parameters = ROWS[name]
    backbone, start, found = backbone or DETECTORS[detector].backbone, time.monotonic(), []
    eyes = zoo.load(backbone, "tiny", str(device))
    model = build(detector, eyes, sets[0].object_name, **parameters)
    bad, good = [data.images[data.labels] for data in sets], sets[0].images[~sets[0].labels]  # the sets share good ones
    encoded, normal = model.encode(torch.cat([good, *bad])), len(good)
    able = DETECTORS[detector]
    for k in [*([0] if able.zero_shot else []), *(shots if able.few_shot else [])]:
        values: list[list[float]] = [[] for _ in sets]
        for seed in seeds[: None if k else 1]:
            order = torch.randperm(len(sets[0].references), generator=torch.Generator().manual_seed(seed))[:k]
            scores = model.fit(sets[0].references[order] if k else None).score(encoded).scores
            sound, *parts = scores.split([normal, *map(len, bad)])
            for i, part in enumerate(parts):
                truth = torch.arange(normal + len(part)) >= normal
                values[i].append(round(auroc(torch.cat([sound, part]), truth), 4))
        for data, some, part in zip(sets, values, bad, strict=True):
            row = {"detector": name, "backbone": backbone, "shots": k, "data": data.category, "image_auroc": some}
            found.append(row | {"normal": normal, "defective": len(part)})
    about = {"seeds": list(seeds), "seconds": round(time.monotonic() - start), **provenance(device)}
    return [row | about for row in found]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the detectors, one after the other; each is in the file as soon as it is done."""
    parser = argparse.ArgumentParser(description="Measure detectors on the textiles of conformal-clip-data.")
    parser.add_argument("--source", type=Path, metavar="PATH", help="wheel or folder (default: the installed package)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to merge into")
    parser.add_argument("--each", type=int, default=75, metavar="N", help="images of every kind (default: 75)")
    parser.add_argument("--detectors", nargs="+", choices=ROWS, default=[*ROWS], metavar="ROW", help="default: all")
    parser.add_argument("--shots", type=int, nargs="+", default=(4, 16, 64), metavar="N")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0,), metavar="N")
    given = parser.parse_args(argv)
    what, device = "detectors on simulated textiles (conformal-clip-data), never tuned on", runtime.device(None)
    try:
        sets = textile_sets(given.source, 224, given.each)
        merge(given.out, [], key, what)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    for name in given.detectors:
        merge(given.out, rows(name, sets, given.shots, given.seeds, device), key, what)
        sys.stderr.write(f"{name}: done\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
