"""The figures on the tiny CLIP's card: one protocol for the trained model and for the same network untrained.

`python -m cards.clip [RESULTS.json]` measures them all and prints the card's table; a test repeats the small
fixed sample and holds the card to it.

Book: anomaly/winclip
"""

import json
import sys
import time
from pathlib import Path
from statistics import mean

from gadkit import factory, runtime, zoo
from gadkit.anomaly.benchmark import Result, factory_cases, run, summarise, table
from gadkit.anomaly.detectors import WinCLIP
from gadkit.backbones.openclip import OpenCLIP
from gadkit.files import provenance, replacing

MEASURES = ("image_auroc", "pixel_auroc", "aupro")


def measure(
    clip: OpenCLIP,
    split: str,
    regime: str,
    variants: int = 5,
    seeds: tuple[int, ...] = (0, 1, 2),
    shots: tuple[int, ...] = (0, 4),
    quiet: bool = False,
) -> list[Result]:
    """WinCLIP with its defaults on a split, zero-shot and with 4 references."""
    categories = factory.split(split)
    cases = factory_cases(categories, regime, variants, seeds)
    return list(run(lambda noun: WinCLIP(clip, noun), cases, shots, quiet=quiet))


def spot_check(clip: OpenCLIP, shots: tuple[int, ...] = (0, 4)) -> dict[str, float]:
    """The small fixed sample: one product of each development category, zero-shot and 4-shot."""
    results = measure(clip, "development", "loose", variants=1, seeds=(0,), shots=shots, quiet=True)
    return {
        f"{m} at {k} shots": round(summarise([r for r in results if r.shots == k], m)[0], 3)
        for k in shots
        for m in ("image_auroc", "pixel_auroc")
    }


def main(path: Path | None = None) -> None:
    """Measure trained and random weights on the held-out split in both regimes; write `path`, print the table."""
    began, rows, details = time.monotonic(), [], []
    for name in ("trained", "random"):
        clip = zoo.load("clip-random" if name == "random" else "clip")
        for regime in factory.NUISANCE:
            results = measure(clip, "held-out", regime)
            for k in (0, 4):
                some = [r for r in results if r.shots == k]
                rows.append({"weights": name, "regime": regime, "shots": k} | {m: summarise(some, m) for m in MEASURES})
                details.append({"weights": name, "regime": regime, "shots": k} | by_category(some))
    record = {
        "what": "WinCLIP on the tiny CLIP, held-out split, 5 products a category, 3 data seeds: mean, deviation",
        "rows": rows,
        "image_auroc_by_category": details,
        "sample": spot_check(zoo.load("clip")),
        "seconds": round(time.monotonic() - began),
        "seeds": [0, 1, 2],
    }
    if path:
        with replacing(path) as part:
            part.write_text(json.dumps(record | provenance(runtime.device()), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(rows) + "\n")


def by_category(results: list[Result]) -> dict[str, float]:
    """Mean image AUROC of each category."""
    names = sorted({r.category for r in results})
    return {n: round(mean(r.image_auroc for r in results if r.category == n), 3) for n in names}


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else None)
