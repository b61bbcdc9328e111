"""The model card of InCTRL's heads: what they are, how they were made, and what they reach.

`python -m cards.inctrl` writes it anew from the weights' header, a small sample, and `book/results/inctrl.json`, which
`python -m experiments.inctrl` measures.

Book: anomaly/inctrl
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from gadkit import factory, weights, zoo
from gadkit.anomaly.detectors import InCTRL
from gadkit.anomaly.metrics import auroc
from gadkit.evaluation.results import markdown
from gadkit.files import replacing

CARD, RESULTS = weights.ASSETS / "inctrl.md", Path("book/results/inctrl.json")
ROWS = ("WinCLIP+", "without words", "and words: InCTRL")
TEXT = """# Model card: inctrl

The trained part of InCTRL on the eyes of [clip](clip.md): an adapter for image vectors, and two heads that
turn residuals against a few normal images into a score. A teaching model; measure it before you rely on it.
Licence: MIT.

## What it is

The published architecture, sized to `clip`: adapter {width} to {narrow} to {width}, reference head on {width} numbers
and holistic head on 14 x 14 residuals, each with 128 and 64 hidden units. {parameters:,} trained numbers, half
precision. The names of the tensors are those of the authors' code. It fits `clip` and no other network.

## What it was taught

{products} products of the factory's 27 seen categories, two of each, with 12 normal photographs and at most one of
each kind of defect: {images:,} images of 96 pixels. The eleven kinds of defect are the same in all splits, and
`clip` was trained on the seen categories as well. No product of it is shown anywhere else.

## Recipe

`gadkit train inctrl`: AdamW, learning rate 1e-3, {steps} steps of 8 normal and 8 anomalous queries with 2, 4 or 8
normal images each. There is a focal loss on the score and one on the reference head, both as published (probabilities
taken for logits). One run, seed {seed}. The number of steps and the form of the loss were settled on development.

## Measured

Image AUROC on the held-out categories, one product of each, loose, 16 normal and at most 2 images of each kind of
defect: mean ± standard deviation of five seeds. Each seed has heads and a draw of the shots of its own; the shipped
heads are those of seed 0. `python -m experiments.inctrl` measures this again.

{table}

A small sample, repeated by the tests: image AUROC {sample:.3f} with 4 normal images, over one product of each of three
development categories.

## Limits

- The map is made without the heads, so it does not change with them.
- They read distances of one network. Other weights of the same shape are answered with nonsense.
- How they fare on photographs was not measured.
"""


@torch.no_grad()
def spot_check() -> float:
    """Mean image AUROC of every second development category with 4 normal images."""
    found, clip, heads = [], zoo.load("clip"), zoo.load("inctrl")
    for category in factory.split("development")[::2]:
        data = factory.test_set(category, normal=10, per_defect=1)
        scores = InCTRL(clip, data.object_name, heads).fit(data.references).score(data.images).scores
        found.append(auroc(scores, data.labels))
    return round(mean(found), 3)


def table(rows: Sequence[Mapping[str, Any]], split: str = "held-out", clip: str = "clip") -> str:
    """Markdown: a line a step, a column a number of shots."""
    held = [row["values"]["image_auroc"] for row in rows if (row["clip"], row["split"]) == (clip, split)]
    lines = []
    for step in ROWS:
        means = [[mean(v) for v in zip(*(r[f"{step}, {k}"] for r in held), strict=True)] for k in (2, 4, 8)]
        name = step.rsplit(": ", maxsplit=1)[-1]
        lines.append([name, *(f"{mean(v):.3f} ± {stdev(v):.3f}" for v in means)])
    return markdown(["", "2 shots", "4 shots", "8 shots"], lines)


def text(sample: float, results: Path = RESULTS) -> str:
    """The whole card."""
    path = weights.ASSETS / "inctrl.safetensors"
    facts, held = json.loads(weights.header(path)["facts"]), weights.read(path)
    narrow, width = held["adapter.fc.0.weight"].shape
    learnt = sum(v.numel() for name, v in held.items() if "running" not in name)
    rows = json.loads(results.read_text(encoding="utf-8"))["rows"]
    return TEXT.format(width=width, narrow=narrow, parameters=learnt, table=table(rows), sample=sample, **facts)


def main() -> None:
    """Measure the sample and write the card."""
    with replacing(CARD) as part:
        part.write_text(text(spot_check()), encoding="utf-8")
    sys.stdout.write(f"{CARD}\n")


if __name__ == "__main__":
    main()
