"""What do WinCLIP's prompts, its good parts and its eyes do?  Products one by one, for the tables of its chapter.

    python -m experiments.winclip --out book/results/winclip.json

Three questions, each to its own set of products: ensembles of prompts and a wrong noun on development categories;
0, 1, 2 and 4 good parts, and good parts without words, on every second held-out category; and the scores of all
held-out categories by words alone.  A product is written as soon as it is done, and a run that begins again measures
what is not in the file.

Book: anomaly/winclip
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gadkit import factory, runtime, zoo
from gadkit.anomaly.detectors import WinCLIP
from gadkit.anomaly.maps import upsample
from gadkit.anomaly.metrics import auroc
from gadkit.anomaly.prompts import WINCLIP, PromptEnsemble
from gadkit.backbones.openclip import OpenCLIP
from gadkit.evaluation.results import merge, read
from gadkit.files import provenance
from gadkit.protocols import TestSet

NETWORKS = ("clip", "clip-scratch", "clip-random")
KEY = ("what", "network", "category", "variant", "size")
SHOTS = (0, 1, 2, 4)
ONE, GOOD, BAD = ("a photo of a {}.",), WINCLIP.normal, WINCLIP.anomalous
PROMPTS = {
    "11 states x 22 templates": WINCLIP,
    "11 states x 1 template": PromptEnsemble(GOOD, BAD, ONE),
    "2 states x 1 template": PromptEnsemble(GOOD[1:2], BAD[:1], ONE),
    "small against large": PromptEnsemble(("small {}",), ("large {}",), ONE),
}
WRONG = "banana"
Values = dict[str, Any]


def half(data: TestSet) -> TestSet:
    """Every second image of a test set: every kind of defect, half the time."""
    return replace(data, images=data.images[::2], masks=data.masks[::2], defects=data.defects[::2])


def by_prompts(clip: OpenCLIP, data: TestSet) -> Values:
    """Image AUROC from words alone for each ensemble, and under a wrong noun."""
    data = half(data)
    asked = {label: (data.object_name, prompts) for label, prompts in PROMPTS.items()}
    values = {}
    for label, (noun, prompts) in (asked | {f'called "{WRONG}"': (WRONG, WINCLIP)}).items():
        # no windows: the score from words is the image's own
        detector = WinCLIP(clip, noun, prompts=prompts, scales=()).fit()
        values[label] = round(auroc(detector.score(data.images).scores.cpu(), data.labels), 5)
    return values


def by_shots(clip: OpenCLIP, data: TestSet) -> Values:
    """Image and pixel AUROC by the number of good parts shown, and of the good parts without any words ("alone")."""
    data = half(data)
    detector, size = WinCLIP(clip, data.object_name), tuple(data.images.shape[-2:])
    encoded, answers = detector.encode(data.images), {}
    for k in SHOTS:
        found = detector.fit(data.references[:k] if k else None).score(encoded)
        answers[str(k)] = found.scores, found.maps
    far = torch.stack([*detector.few_shot_maps(data.images).values()]).mean(0)
    answers["alone"] = far.amax(dim=(1, 2)), upsample(far, size)
    return {
        "image": {k: round(auroc(scores.cpu(), data.labels), 5) for k, (scores, _) in answers.items()},
        "pixel": {k: round(auroc(maps.cpu(), data.masks), 5) for k, (_, maps) in answers.items()},
    }


def by_words(clip: OpenCLIP, data: TestSet) -> Values:
    """The score of every image from words alone, and what it shows."""
    found = WinCLIP(clip, data.object_name, scales=()).fit().score(data.images)
    return {"defects": [*data.defects], "scores": [round(score, 6) for score in found.scores.tolist()]}


Question = tuple[str, Callable[[OpenCLIP, TestSet], Values], Sequence[str], Sequence[str], Sequence[int], int]
QUESTIONS: tuple[Question, ...] = (  # name, how, networks, categories, products, good parts in a test set
    ("prompts", by_prompts, NETWORKS[:2], factory.split("development"), (0, 1), 12),
    ("shots", by_shots, NETWORKS, factory.split("held-out")[::2], (0,), 16),
    ("words", by_words, NETWORKS[:2], factory.split("held-out"), (0,), 12),
)


def cells(size: int, only: Sequence[str] | None = None) -> Iterator[tuple[tuple, Callable, int]]:
    """Key, measurement and number of good parts of everything that is asked; of some categories `only`."""
    for what, how, networks, categories, variants, normal in QUESTIONS:
        for network in networks:
            for category in categories:
                for variant in variants if only is None or category in only else ():
                    yield (what, network, category, variant, size), how, normal


def key(row: Mapping[str, Any]) -> tuple:
    """What tells one row from another."""
    return tuple(row[name] for name in KEY)


def main(argv: Sequence[str] | None = None, only: Sequence[str] | None = None) -> int:
    """Measure what is not in the file yet."""
    parser = argparse.ArgumentParser(description="Measure WinCLIP's prompts, good parts and eyes, product by product.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to merge into")
    parser.add_argument("--size", type=int, default=96, metavar="PIXELS", help="(default: %(default)s)")
    given = parser.parse_args(argv)
    what = "WinCLIP at tiny on products of the factory, loose: AUROC by prompts and by good parts, and scores by words"
    try:
        merge(given.out, [], key, what)  # whether it can be written, before anything is measured
    except (ValueError, OSError) as error:
        parser.error(str(error))
    held, where = {key(row) for row in read(given.out)}, runtime.device(None)
    loaded: dict[str, OpenCLIP] = {}
    for cell, how, normal in cells(given.size, only):
        if cell in held:
            continue
        start, (_, network, category, variant, size) = time.monotonic(), cell
        if network not in loaded:
            loaded[network] = zoo.load(network, "tiny", str(where))
        values = how(loaded[network], factory.test_set(category, variant, normal=normal, size=size))
        row = dict(zip(KEY, cell, strict=True)) | {"values": values, "seconds": round(time.monotonic() - start, 1)}
        merge(given.out, [row | provenance(where)], key, what)
        sys.stderr.write(f"{', '.join(map(str, cell[:4]))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
