"""The figures on the cards of the small CLIPs: one protocol for a trained model and for the same network untrained.

`python -m cards.clip NAME RESULTS.json` measures what the file does not hold yet, a regime at a time, and prints the
card's table; a test repeats the small fixed sample and holds the card to it.  `--blind DIR` adds the network with real
eyes trained on random ones: the recipe of `clip` and nothing else changed, trained in DIR, or resumed there.

Book: anomaly/winclip
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from gadkit import factory, runtime, weights, zoo
from gadkit.anomaly.benchmark import Result, factory_cases, run, summarise, table
from gadkit.anomaly.detectors import WinCLIP
from gadkit.backbones.openclip import OpenCLIP
from gadkit.backbones.tiny import EYES
from gadkit.files import provenance, write_json
from gadkit.multimodal.contrastive import RECIPES, train

MEASURES = ("image_auroc", "pixel_auroc", "aupro")
DEVELOPMENT = {0: 0.85, 4: 0.88}  # targets of image AUROC on the development split, by shots


def measure(
    clip: OpenCLIP,
    categories: Sequence[str],
    regime: str,
    variants: int = 5,
    seeds: tuple[int, ...] = (0, 1, 2),
    shots: tuple[int, ...] = (0, 4),
    quiet: bool = False,
) -> list[Result]:
    """WinCLIP with its defaults on some categories, zero-shot and with 4 references."""
    cases = factory_cases(categories, regime, variants, seeds)
    return list(run(lambda noun: WinCLIP(clip, noun), cases, shots, quiet=quiet))


def spot_check(clip: OpenCLIP, shots: tuple[int, ...] = (0, 4)) -> dict[str, float]:
    """The small fixed sample: one product of every second development category, zero-shot and 4-shot."""
    results = measure(clip, factory.split("development")[::2], "loose", variants=1, seeds=(0,), shots=shots, quiet=True)
    return {
        f"{m} at {k} shots": round(summarise([r for r in results if r.shots == k], m)[0], 3)
        for k in shots
        for m in ("image_auroc", "pixel_auroc")
    }


def control(name: str) -> OpenCLIP:
    """The network of a CLIP as it is before training."""
    return zoo.load("clip-random", file=weights.ASSETS / f"{name}.safetensors")


def blind(folder: Path) -> OpenCLIP:
    """The network of `clip`, trained by its recipe on random eyes: what the eyes bring is what it lacks."""
    recipe = RECIPES["clip"]
    path = folder / "clip.safetensors"
    if not path.exists():
        train(replace(recipe, model=replace(recipe.model, stem=EYES[1]), out=folder))
    return zoo.load("clip", file=path)


def main(name: str, path: Path, folder: Path | None = None) -> None:
    """Measure each kind of weights on the held-out split in both regimes; add to `path`, print the table."""
    kinds = {"trained": lambda: zoo.load(name), "random": lambda: control(name)}
    if folder is not None:
        kinds["trained, random eyes"] = lambda: blind(folder)
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": [], "seconds": 0}
    record["what"] = f"WinCLIP on {name}, held-out split, 5 products a category, 3 data seeds: mean, deviation"
    done = {(row["weights"], row["regime"]) for row in record["rows"]}
    for which, regime in product(kinds, factory.NUISANCE):
        if (which, regime) in done:
            continue
        began = time.monotonic()
        results = measure(kinds[which](), factory.split("held-out"), regime)
        for k in (0, 4):
            some = [r for r in results if r.shots == k]
            key = {"weights": which, "regime": regime, "shots": k}
            record["rows"].append(key | {m: summarise(some, m) for m in MEASURES})
            record.setdefault("image_auroc_by_category", []).append(key | by_category(some))
        record["seconds"] += round(time.monotonic() - began)
        _write(record, path)
    _write(record | {"sample": spot_check(zoo.load(name)), "seeds": [0, 1, 2]}, path)
    sys.stdout.write(table(record["rows"]) + "\n")


def _write(record: dict[str, Any], path: Path) -> None:
    write_json(path, record | provenance(runtime.device()))


def by_category(results: list[Result]) -> dict[str, float]:
    """Mean image AUROC of each category."""
    names = sorted({r.category for r in results})
    return {n: round(mean(r.image_auroc for r in results if r.category == n), 3) for n in names}


def by_kind(results: Path) -> str:
    """The card's line of development figures by kind of defect, from `experiments.failures`."""
    found: dict[str, dict[int, list[float]]] = {}
    for row in json.loads(results.read_text(encoding="utf-8"))["rows"]:
        if (row["detector"], row["backbone"]) == ("winclip", "clip"):
            for kind, values in row["image"].items():
                found.setdefault(kind, {}).setdefault(row["shots"], []).extend(values)
    means = {kind: (mean(some[0]), mean(some[4])) for kind, some in found.items()}
    order = sorted(means, key=lambda kind: -means[kind][0])
    return ", ".join("{} {:.2f} / {:.2f}".format(kind, *means[kind]) for kind in order)


def development(results: Path) -> str:
    """The card's line of targets on the development split, from what `experiments.detectors` wrote."""
    rows = json.loads(results.read_text(encoding="utf-8"))["rows"]
    local = [row for row in rows if (row["detector"], row["protocol"]) == ("winclip", "local")]
    found = {(row["regime"], row["shots"]): mean(row["image_auroc"]) for row in local}
    parts = []
    for regime in factory.NUISANCE:
        for shots, target in DEVELOPMENT.items():
            value = found[regime, shots]
            verdict = "reached" if value >= target else "not reached"
            name = f"{shots}-shot" if shots else "zero-shot"
            parts.append(f"{regime} {name} {value:.3f} (target {target:.2f}: {verdict})")
    return "; ".join(parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="cards.clip", description="Measure the figures of a CLIP's card.")
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("results", type=Path)
    parser.add_argument("--blind", type=Path, help="of clip: train on random eyes in this folder, and measure that too")
    asked = parser.parse_args()
    if asked.blind is not None and asked.name != "clip":
        parser.error(f"--blind: expected clip, whose eyes are frozen, got {asked.name}")
    main(asked.name, asked.results, asked.blind)
