"""What does language add?  The same eyes without words, with one sentence, with many, with learnt ones, with vectors.

    python -m experiments.language --out book/results/language.json --split development

WinCLIP's references alone, one pair of prompts, its ensemble, AnomalyCLIP's learnt prompts and UniADet's two vectors a
layer, on the same towers; and nouns that are wrong, misspelt or general, and sentences that negate.  A cell is a
product on a pair of eyes; a run that was killed goes on with the cells that are missing.

Book: anomaly/language
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gadkit import factory, files, runtime, weights, zoo
from gadkit.anomaly.benchmark import measures
from gadkit.anomaly.detectors import WinCLIP
from gadkit.anomaly.prompts import WINCLIP, PromptEnsemble
from gadkit.anomaly.training import anomalyclip, uniadet
from gadkit.backbones import OpenCLIP
from gadkit.evaluation.results import merge, read
from gadkit.protocols import AnomalyResult, TestSet

EYES = ("clip", "clip-scratch")
LEARNT = {"learnt prompts": anomalyclip, "two vectors a layer": uniadet}
TRAINED, PAIRS = 3, 240  # training seeds, and pairs that each learns from
REFERENCES = 4
ONE = PromptEnsemble(("flawless {}",), ("damaged {}",), ("a photo of a {}.",))
NEGATED = PromptEnsemble(("not damaged {}",), ("not flawless {}",), ("a photo of a {}.",))
SWAPPED = PromptEnsemble(("damaged {}",), ("flawless {}",), ("a photo of a {}.",))
SAME = PromptEnsemble(("{}",), ("{}",), ("a photo of a {}.",))
ABOUT = "what language adds: image and pixel AUROC of products of the factory"


def misspelt(noun: str) -> str:
    """The noun with its two middle letters swapped: "leather" becomes "letaher"."""
    i = max(0, len(noun) // 2 - 1)
    return noun[:i] + noun[i + 1 : i + 2] + noun[i] + noun[i + 2 :]


def sentences(noun: str) -> dict[str, tuple[PromptEnsemble, str]]:
    """What WinCLIP is asked, by a label: prompts, and the noun that they are about."""
    return {
        "one pair": (ONE, noun),
        "one pair, negated": (NEGATED, noun),
        "one pair, swapped": (SWAPPED, noun),
        "ensemble": (WINCLIP, noun),
        "ensemble, object": (WINCLIP, "object"),
        "ensemble, banana": (WINCLIP, "banana"),
        "ensemble, misspelt": (WINCLIP, misspelt(noun)),
    }


def references_alone(detector: WinCLIP, images: Tensor, size: tuple[int, int]) -> AnomalyResult:
    """WinCLIP+ without its words: the mean of its reference maps, and their highest value."""
    from gadkit.anomaly.maps import upsample

    grid = torch.stack([*detector.few_shot_maps(images).values()]).mean(0)
    return AnomalyResult(upsample(grid, size), grid.amax((1, 2)))


def cell(clip: OpenCLIP, data: TestSet, heads: Mapping[str, Sequence[Mapping[str, Tensor]]]) -> Iterator[tuple]:
    """Yield (label, values a training seed of image and pixel AUROC) of one product."""
    encoded = WinCLIP(clip, data.object_name).encode(data.images)

    def measured(*found: AnomalyResult) -> dict[str, list[float]]:
        each = [measures(one, data) for one in found]
        return {name: [round(m[name], 4) for m in each] for name in ("image_auroc", "pixel_auroc")}

    for label, (prompts, noun) in sentences(data.object_name).items():
        yield label, measured(WinCLIP(clip, noun, prompts=prompts).fit().score(encoded))
    detector = WinCLIP(clip, data.object_name).fit(data.references)
    yield "ensemble + 4 good parts", measured(detector.score(encoded))
    yield "4 good parts alone", measured(references_alone(detector, data.images, encoded.size))
    for label, module in LEARNT.items():
        detectors = [module.detector_of(clip, some).fit() for some in heads[label]]
        known = detectors[0].encode(data.images)
        yield label, measured(*(one.score(known) for one in detectors))


def taught(clip: OpenCLIP, name: str, folder: Path) -> dict[str, list[dict[str, Tensor]]]:
    """Heads of `TRAINED` seeds for each of `LEARNT`, kept in a folder, so that they are learnt once."""
    found: dict[str, list[dict[str, Tensor]]] = {}
    for label, module in LEARNT.items():
        paths = [folder / f"{name}-{module.__name__.split('.')[-1]}-{seed}.safetensors" for seed in range(TRAINED)]
        held = None if all(path.is_file() for path in paths) else module.encoded(clip, PAIRS)
        for seed, path in enumerate(paths):
            if not path.is_file():
                weights.write(module.learn(clip, seed=seed, held=held), path, {"backbone": name, "seed": str(seed)})
                sys.stderr.write(f"{path.name}: learnt\n")
        found[label] = [weights.read(path) for path in paths]
    return found


def key(row: Mapping[str, Any]) -> tuple:
    """What tells one row from another."""
    return row["split"], row["eyes"], row["category"], row["product"]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the cells that the results file lacks, one after the other."""
    parser = argparse.ArgumentParser(description="Measure what language adds.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to merge into")
    parser.add_argument("--heads", type=Path, default=Path("runs/language"), metavar="FOLDER", help="for learnt heads")
    parser.add_argument("--split", choices=("development", "held-out"), default="development")
    parser.add_argument("--products", type=int, nargs="+", default=(0, 1), metavar="N")
    parser.add_argument("--eyes", choices=EYES, nargs="+", default=EYES)
    given = parser.parse_args(argv)
    device = runtime.device(None)
    merge(given.out, [], key, ABOUT)
    files.writable(given.heads, "--heads")
    done = {key(row) for row in read(given.out)}
    for eyes in given.eyes:
        clip, heads = zoo.load(eyes, "tiny", str(device)), None
        for category in factory.split(given.split):
            for product in given.products:
                what = {"split": given.split, "eyes": eyes, "category": category, "product": product}
                if key(what) in done:
                    continue
                heads, start = heads or taught(clip, eyes, given.heads), time.monotonic()
                data = factory.test_set(category, product, product, "loose", references=REFERENCES)
                values = dict(cell(clip, data, heads))
                about = {"seconds": round(time.monotonic() - start, 1), **files.provenance(device)}
                merge(given.out, [{**what, "values": values, **about}], key, ABOUT)
                sys.stderr.write(f"{eyes}, {category}, product {product}: {about['seconds']} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
