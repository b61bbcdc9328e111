"""Do the readers need eyes that have learnt?  Two equal short trainings of each, one from scratch, both measured alike.

BLIP begins as the clip, or with convolutions that know nothing.  Florence-2 stands on the frozen EfficientNet-Lite0, or
all of its DaViT learns.  Nothing is measured on held-out categories.

`python -m experiments.reader_eyes blip florence2` writes `book/results/reader_eyes.json` row by row; a training that
was cut short goes on from its checkpoint, and a row that is there is not measured again.

Book: multimodal/blip, multimodal/florence2
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from cards import florence2 as card
from cards.readers import once, rows_of
from gadkit import runtime, zoo
from gadkit.backbones.tiny import REAL
from gadkit.checks import one_of
from gadkit.files import provenance, write_json
from gadkit.multimodal.florence import Florence2
from gadkit.multimodal.training import blip as blip_recipe
from gadkit.multimodal.training import florence2 as florence_recipe
from gadkit.multimodal.training import florence_lessons as taught

OUT, RUNS = Path("book/results/reader_eyes.json"), Path("runs/reader-eyes")
SMALL = {"image_size": 128, "width": 96, "layers": 2}  # of both Florence-2s, which see equally many pixels
CHUNK = 32  # rows whose loss is measured at once


@dataclass(frozen=True)
class Budget:
    """Of one training, and the photographs that it is measured on; BLIP learns from no scenes."""

    steps: int
    batch: int
    photographs: int
    measured: int
    scenes: int = 0


@dataclass(frozen=True)
class Reader:
    """The beginnings of a reader's eyes, and how it is trained and measured."""

    eyes: Mapping[str, str]
    budget: Budget
    train: Callable[[Path, str, Budget], Path]
    measure: Callable[[str, Path, int], Iterable[dict[str, Any]]]


def train_blip(folder: Path, start: str, b: Budget) -> Path:
    """The recipe of the shipped weights on fewer photographs."""
    return blip_recipe.train(folder, 0, b.steps, start, {"seen": b.photographs}, b.batch)


def measure_blip(who: str, file: Path, count: int) -> Iterable[dict[str, Any]]:
    """All that the card measures, on development."""
    return rows_of("blip", who, once(zoo.load("blip", "tiny", file=file)), "development", count)


def train_florence2(folder: Path, start: str, b: Budget) -> Path:
    """The recipe of the shipped weights on fewer scenes and photographs, for a smaller network that sees less."""
    made = replace(florence_recipe.STARTS[start], **SMALL)
    return florence_recipe.train(folder, 0, b.steps, start, {"seen": b.scenes}, b.photographs, b.batch, made)


def measure_florence2(who: str, file: Path, count: int) -> Iterable[dict[str, Any]]:
    """Boxes, captions and every task's loss, on development and on new products of the training's categories."""
    model = zoo.load("florence2", "tiny", file=file)
    for split in ("development", "seen"):
        shown, alone = card.rendered(split, "development", max(1, count * card.SCENES // card.PHOTOGRAPHS))
        asked = card.Model(model)
        values = card.detection(asked, shown) | card.captions(asked, alone) | losses(model, shown, alone)
        yield {"model": "florence2", "who": who, "split": split, "photographs": count, "values": card.rounded(values)}


@torch.no_grad()
def losses(model: Florence2, shown: card.scenes.Scenes, alone: card.descriptions.Described) -> dict[str, float]:
    """The mean loss of a token that is to be written, given all before it, by task."""
    lessons = [lesson for lesson in taught.of_scenes(shown) if lesson.image % len(taught.MIRRORS) == 0]
    lessons = [replace(lesson, image=lesson.image // len(taught.MIRRORS)) for lesson in lessons]
    lessons += taught.of_photographs(alone, len(shown))
    network, processor = model.model, model.processor
    prepared = torch.cat([florence_recipe.encode(network, processor, some.images) for some in (shown, alone)])
    held = taught.columns(processor, lessons, florence_recipe.READING, florence_recipe.WRITING)
    found, pad = {}, processor.tokenizer.pad_token_id
    for task, columns in held.items():
        total = 0.0
        for some in torch.arange(len(columns.images)).split(CHUNK):
            images, prompts, answers = (x[some].to(model.device) for x in vars(columns).values())
            loss = florence_recipe.answer_loss(network, processor, prepared[images], prompts, answers)
            total += float(loss) * int((answers != pad).sum())
        found[f"loss, {task}"] = total / int((columns.answers != pad).sum())
    return found


READERS = {
    "blip": Reader({"real eyes": "clip", "from scratch": ""}, Budget(600, 16, 1024, 300), train_blip, measure_blip),
    "florence2": Reader(
        {"real eyes": REAL.stem, "from scratch": ""},
        Budget(160, 32, 256, 64, 64),
        train_florence2,
        measure_florence2,
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Train and measure the rows that are not there yet; 0 when all are."""
    parser = argparse.ArgumentParser("experiments.reader_eyes", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(READERS)} (default: all)")
    parser.add_argument("--out", type=Path, default=OUT, help=f"default: {OUT}")
    parser.add_argument("--runs", type=Path, default=RUNS, help=f"for checkpoints and weights (default: {RUNS})")
    for name in (field.name for field in fields(Budget)):
        parser.add_argument(f"--{name}", type=int, help="of each training (default: the reader's own)")
    given = parser.parse_args(argv)
    for name in given.names:
        one_of("NAME", name, READERS)
    asked = {key: value for key, value in vars(given).items() if key in Budget.__annotations__ and value is not None}
    held = json.loads(given.out.read_text(encoding="utf-8"))["rows"] if given.out.exists() else []
    for name in given.names or READERS:
        reader = READERS[name]
        b = replace(reader.budget, **asked)
        spent = {"steps": b.steps, "batch": b.batch, "trained on": b.photographs}
        spent |= {"scenes": b.scenes} if reader.budget.scenes else {}
        for who, start in reader.eyes.items():
            mine = {"model": name, "who": who, "photographs": b.measured} | spent
            if any(mine.items() <= row.items() for row in held):
                continue
            file = reader.train(given.runs / f"{name}-{start or 'scratch'}-{b.steps}", start, b)
            rows = [row | spent for row in reader.measure(who, file, b.measured)]
            held += rows
            given.out.parent.mkdir(parents=True, exist_ok=True)
            write_json(given.out, provenance(runtime.device()) | {"rows": held})
            for row in rows:
                sys.stderr.write(f"{name}, {who}, {row['split']}: {row['values']}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
