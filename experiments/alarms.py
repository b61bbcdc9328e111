"""Is a promised rate of false alarms kept?  On new good parts, and when the light has changed since.

    python -m experiments.alarms --out book/results/alarms.json

Nearest patches and a plane, one after the other, on development categories.  Good parts give a line by their held-out
scores; other good parts of the same product are then photographed in the same light and, by arithmetic on the pixels,
in another.

Book: anomaly/thresholds
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from gadkit import factory, runtime, zoo
from gadkit.anomaly.detectors import build
from gadkit.anomaly.thresholds import counted, doubts, held_out, threshold
from gadkit.evaluation.results import merge
from gadkit.files import provenance
from gadkit.protocols import Backbone

Images = UInt8[Tensor, "b 3 h w"]
DETECTORS = ("patch-knn", "subspace")
ALARMS, GOOD, NEW = 0.05, 19, 20  # the rate that is promised, good parts to promise it by, and new ones to count on


def lit(images: Images, gain: float = 1.0, warm: float = 0.0, gamma: float = 1.0) -> Images:
    """The same photographs in another light: `gain` times as bright, red raised and blue lowered by `warm`."""
    white = torch.tensor([1 + warm, 1.0, 1 - warm])[:, None, None]
    return (255 * (images / 255).pow(gamma) * gain * white).round().clamp(0, 255).to(torch.uint8)


LIGHTS: dict[str, Callable[[Images], Images]] = {
    "as before": lambda x: x,
    "10 % darker": lambda x: lit(x, 0.9),
    "30 % darker": lambda x: lit(x, 0.7),
    "20 % brighter": lambda x: lit(x, 1.2),
    "10 % warmer": lambda x: lit(x, warm=0.1),
    "25 % warmer": lambda x: lit(x, warm=0.25),
}


def product(name: str, backbone: Backbone, category: str, seed: int, regime: str, size: int = 96) -> dict[str, Any]:
    """False alarms of one product by light, what is found of its defects, and the doubts about its good parts.

    One of the good parts is then exchanged for a defective one, and the doubts are asked for again.
    """
    data = factory.test_set(category, seed, seed, regime, NEW, 1, GOOD, size)
    new, bad = data.images[~data.labels], data.images[data.labels]
    detector = build(name, backbone).fit(data.references)
    scores = held_out(detector, data.references).scores
    line = threshold(scores, alarms=ALARMS)
    alarms = {name: int((detector.score(light(new)).scores > line).sum()) for name, light in LIGHTS.items()}
    found = int((detector.score(bad).scores > line).sum())
    mixed = torch.cat([data.references[1:], bad[-1:]])
    spoilt = held_out(build(name, backbone).fit(mixed), mixed).scores
    unlike = [any("unlike" in doubt for doubt in doubts(x, threshold(x))) for x in (scores, spoilt)]
    return {"alarms": alarms, "found": found, "bad": len(bad), "unlike": unlike}


def key(row: Mapping[str, Any]) -> tuple:
    """What tells one row from another."""
    return row["detector"], row["regime"], row["light"]


def main(argv: Sequence[str] | None = None, categories: Sequence[str] = factory.split("development")) -> int:
    """Measure both detectors in both regimes, and write the rows into the results file."""
    parser = argparse.ArgumentParser(description="Count false alarms at a line that promises a rate of them.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to merge into")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0,), metavar="N")
    parser.add_argument("--detectors", nargs="+", default=DETECTORS, choices=DETECTORS, metavar="NAME")
    given = parser.parse_args(argv)
    device, what = runtime.device(None), f"false alarms where {ALARMS:.0%} are promised, by {GOOD} good parts a product"
    merge(given.out, [], key, what)  # whether it can be written, before anything is measured
    backbone = zoo.load("efficientnet-lite0", "tiny", str(device))
    for name, regime in itertools.product(given.detectors, factory.NUISANCE):
        start = time.monotonic()
        found = [product(name, backbone, c, seed, regime) for c in categories for seed in given.seeds]
        about = {"promised": ALARMS, "good": GOOD, "products": len(found), "parts": NEW * len(found)}
        about |= {"found": sum(f["found"] for f in found) / sum(f["bad"] for f in found)}
        about |= {"unlike": [sum(f["unlike"][i] for f in found) for i in (0, 1)], "seeds": list(given.seeds)}
        about |= {"seconds": round(time.monotonic() - start), **provenance(device)}
        rows = []
        for light in LIGHTS:
            rate = counted(sum(f["alarms"][light] for f in found), NEW * len(found))
            by = [f["alarms"][light] / NEW for f in found]
            rows.append(
                {"detector": name, "regime": regime, "light": light}
                | {"rate": [rate.expected, rate.low, rate.high], "by": by}
                | about
            )
        merge(given.out, rows, key, what)
    return 0


if __name__ == "__main__":
    sys.exit(main())
