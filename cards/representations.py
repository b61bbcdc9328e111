"""The model card of the shipped representations: what they are, how each was made, and a number that a test repeats.

`python -m cards.representations` writes it anew from the checkpoints' own headers.

Book: selfsup/comparison
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from gadkit import methods, weights, zoo
from gadkit.evaluation.features import encode
from gadkit.evaluation.probes import knn_accuracy
from gadkit.evaluation.results import markdown
from gadkit.evaluation.sets import parts
from gadkit.files import replacing

CARD = weights.ASSETS / "representations.md"
TEXT = """# Model card: the representations of Parts I and II

One checkpoint for each method of the book, `NAME.safetensors`, in half precision. They are teaching models: small,
trained for minutes, and made to be compared. Do not put them on a line that matters. Licence: MIT.

## What they are

The self-supervised methods and pretext tasks train the book's own vision transformer (`gadkit.nn.ViT`): 6 blocks,
128 wide, 8-pixel patches, 1.2 M parameters, on views of 64 pixels; it is used at 96. `vit`, `convnext` and `swin`
are timm's classes at about the same size, trained with labels. A checkpoint holds what its chapter needs beside the
encoder: heads, prototypes, a decoder; what only serves training is left out.

## What they saw

12,288 photographs of the procedural factory (or 6,144 films of eight frames, for the methods that learn from films):
its 27 seen categories and parts that do not exist, a quarter with a defect, seed 0 (`dino`: seed 2). No category of
the development or held-out splits. The self-supervised methods were given the images alone; `vit`, `convnext` and
`swin` their categories too; `free-labels` the factory's own geometry.

## Recipe

`gadkit train NAME --photographs 400000`: AdamW, weight decay 0.05 on matrices, a tenth of the steps to warm up, then
a cosine to 2 %, gradients clipped at 1, bfloat16 where the processor has it; batches of 128 photographs, or of 16
clips of 8 frames; the last weights. The learning rate belongs to the method, and some methods bring other decays and
clippings: their classes say so. How much another training seed changes is in the comparison chapter.

One run each, but for `dino`: of three runs (training seeds 0, 1 and 2) the third is shipped. It has the best nearest
neighbours between the six development categories, which the comparison never uses: 0.77, where the others have 0.50
and 0.66 (`python -m experiments.dino_runs`). On the sample below the three reach 0.19, 0.35 and 0.48.

The last column is a small fixed sample, repeated by the tests: nearest neighbours on 108 photographs of 27
categories, with 216 others to vote. The tables of the comparison chapter are the measurement.

{table}

Seconds are wall time on the device named, which other work shared.

## Limits

They know the factory and little else: what they make of real photographs is in the comparison chapter. Order within
a few hundredths means nothing.
"""


def shipped() -> list[str]:
    """The methods whose checkpoints lie in the package, in the order of the recipes."""
    return [*zoo.list(gives=zoo.METHOD)]


@torch.no_grad()
def spot_check(name: str, file: Path | None = None) -> float:
    """The accuracy of nearest neighbours on the card's small sample; `file` is read in place of the shipped weights."""
    known, asked = parts(products=4), parts(0, products=2)
    backbone = zoo.load(name, file=file)
    x, y = (encode(backbone, s.images).pooled for s in (known, asked))
    return knn_accuracy(x, known.labels, y, asked.labels, k=5)


def row(name: str) -> dict[str, str]:
    """A checkpoint's line in the table."""
    facts = zoo.facts(name)
    return {
        "name": f"`{name}`",
        "photographs": f"{facts['photographs']:,}",
        "steps": str(facts["steps"]),
        "learning rate": f"{methods.build(name).lr:g}",
        "seconds": f"{facts['seconds']:,.0f}",
        "device": facts["device"],
        "torch": facts.get("versions", facts)["torch"],  # checkpoints of version 0.1 have it at the top
        "sample": f"{spot_check(name):.3f}",
    }


def table(rows: Iterable[Mapping[str, str]]) -> str:
    """Lines of checkpoints, and one of random weights, as Markdown."""
    control = {"name": "*random*", "photographs": "0", "steps": "0", "sample": f"{spot_check('random'):.3f}"}
    held = [*rows, control]
    return markdown([*held[0]], [[row.get(name, "") for name in held[0]] for row in held])


def text() -> str:
    """The whole card."""
    return TEXT.format(table=table(map(row, shipped())))


if __name__ == "__main__":
    with replacing(CARD) as part:
        part.write_text(text(), encoding="utf-8")
    sys.stdout.write(f"{CARD}\n")
