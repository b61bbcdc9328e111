"""The model card of the small Florence-2: how it was made, and what each of its tasks reaches beside sceptics.

`python -m cards.florence2` measures the shipped weights on all splits into `book/results/florence2.json`, and writes
the card from that file and the weights' header.  With `--card` only the card is written, with `--weights FILE` another
file is measured on the development split, and printed.

Book: multimodal/florence2
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cards.florence2_texts import TEXT
from gadkit import runtime, weights, zoo
from gadkit.evaluation.boxes import average_precisions, blobs
from gadkit.evaluation.captions import parse
from gadkit.evaluation.results import markdown
from gadkit.factory import descriptions, scenes
from gadkit.factory.catalogue import lookup
from gadkit.files import provenance, replacing, write_json
from gadkit.losses.masks import mask_iou
from gadkit.multimodal.florence import REGION, SEGMENT, Florence2, Named, load
from gadkit.multimodal.location import fill
from gadkit.multimodal.training.florence_lessons import described, noun
from gadkit.objects.protocols import Boxes
from gadkit.weights import Weights

RESULTS, CARD = Path("book/results/florence2.json"), weights.ASSETS / "florence2.md"
SCENES, PHOTOGRAPHS, SIZE = 60, 240, 128
SAMPLE = 12  # scenes of the small sample
TARGET = 0.4  # AP50 on held-out categories
CASES = {  # the split, and the seeds
    "categories of the training": ("seen", "test"),
    "development": ("development", "development"),
    "held-out": ("held-out", "test"),
}


@runtime_checkable
class Answers(Protocol):
    """What is measured: a Florence-2, or a sceptic."""

    def objects(self, images: UInt8[Tensor, "b 3 h w"]) -> list[Named]:
        """Boxes with names."""

    def outline(self, images: UInt8[Tensor, "b 3 h w"], texts: list[str]) -> list[Tensor]:
        """A mask for each expression."""

    def describe(self, images: UInt8[Tensor, "b 3 h w"], boxes: Float[Tensor, "b 4"]) -> list[str]:
        """A description of each box."""

    def caption(self, images: UInt8[Tensor, "b 3 h w"]) -> list[str]:
        """A caption of each image."""


class Model:
    """A Florence-2 with its answers as masks and texts."""

    def __init__(self, model: Florence2) -> None:
        self.model, self.objects, self.caption = model, model.objects, model.caption

    def outline(self, images: UInt8[Tensor, "b 3 h w"], texts: list[str]) -> list[Tensor]:
        """The mask inside the outlines of each answer."""
        found = self.model.run(SEGMENT, images, texts)
        height, width = images.shape[2:]
        pieces = [[piece for one in answer[SEGMENT]["polygons"] for piece in one] for answer in found]
        return [fill(some, (width, height)) for some in pieces]

    def describe(self, images: UInt8[Tensor, "b 3 h w"], boxes: Float[Tensor, "b 4"]) -> list[str]:
        """What the model says of each box."""
        size = (images.shape[3], images.shape[2])
        asked = [self.model.region(box, size) for box in boxes.tolist()]
        return [answer[REGION] for answer in self.model.run(REGION, images, asked)]


class Sceptic:
    """Blobs by a threshold, all called alike; the mean box of the training; the most frequent words of it."""

    def __init__(self) -> None:
        things = [thing for some in rendered("seen", "development", SCENES)[0].things for thing in some]
        self.name = Counter(map(noun, things)).most_common(1)[0][0]
        self.words = Counter(map(described, things)).most_common(1)[0][0]
        self.box = torch.tensor([thing.box for thing in things]).mean(0)
        self.said = Counter(f"a {fact.noun}" for fact in descriptions.render(PHOTOGRAPHS).facts).most_common(1)[0][0]

    def objects(self, images: UInt8[Tensor, "b 3 h w"]) -> list[Named]:
        """Otsu's connected regions."""
        return [Named(one.boxes, one.scores, (self.name,) * len(one.boxes)) for one in blobs(images, 1)]

    def outline(self, images: UInt8[Tensor, "b 3 h w"], texts: list[str]) -> list[Tensor]:
        """The mean box, filled."""
        left, top, right, bottom = self.box.tolist()
        mask = fill([[left, top, right, top, right, bottom, left, bottom]], (images.shape[3], images.shape[2]))
        return [mask] * len(images)

    def describe(self, images: UInt8[Tensor, "b 3 h w"], boxes: Float[Tensor, "b 4"]) -> list[str]:
        """The most frequent description."""
        return [self.words] * len(images)

    def caption(self, images: UInt8[Tensor, "b 3 h w"]) -> list[str]:
        """The most frequent noun; half of the photographs are sound, so any state will do."""
        return [f"{self.said} without defect"] * len(images)


@cache
def rendered(split: str, purpose: str, count: int) -> tuple[scenes.Scenes, descriptions.Described]:
    """What is measured on, rendered once."""
    photographs = count * PHOTOGRAPHS // SCENES
    return (
        scenes.render(count, 0, SIZE, split, purpose=purpose),
        descriptions.render(photographs, 0, split=split, purpose=purpose),
    )


def measure(model: Answers, case: str, count: int = SCENES) -> dict[str, float]:
    """Every task's measures in a case."""
    shown, alone = rendered(*CASES[case], count)
    return detection(model, shown) | outlines(model, shown) | regions(model, shown) | captions(model, alone)


def detection(model: Answers, shown: scenes.Scenes) -> dict[str, float]:
    """AP50 of boxes with their names, mean over categories, and of boxes alone."""
    names = [lookup(category).nouns[0] for category in shown.classes]
    found, true = model.objects(shown.images), []
    for things in shown.things:
        boxes = torch.tensor([thing.box for thing in things]).reshape(-1, 4)
        true.append((boxes, torch.tensor([names.index(noun(thing)) for thing in things], dtype=torch.long)))
    ours = [_boxes(one, [names.index(name) if name in names else len(names) for name in one.names]) for one in found]
    alone = [_boxes(one, [0] * len(one.names)) for one in found]
    everything = [(boxes, torch.zeros_like(labels)) for boxes, labels in true]
    return {
        "AP50": mean(average_precisions(ours, true, range(len(names))).values()),
        "AP50, boxes alone": average_precisions(alone, everything, [0])[0],
        "boxes an image": sum(len(one.names) for one in found) / len(found),
    }


def share_of(right: Sequence[bool]) -> float:
    """How many are True, as a share."""
    return sum(right) / len(right)


def _boxes(named: Named, labels: list[int]) -> Boxes:
    return Boxes(named.boxes, named.scores, torch.tensor(labels, dtype=torch.long))


def outlines(model: Answers, shown: scenes.Scenes) -> dict[str, float]:
    """Mean IoU of outlines with masks, an expression a thing."""
    places = [(i, k) for i, things in enumerate(shown.things) for k, thing in enumerate(things) if thing.expressions]
    asked = [shown.things[i][k].expressions[0] for i, k in places]
    masks = torch.stack([shown.masks(i)[k] for i, k in places])
    found = torch.stack(model.outline(shown.images[[i for i, _ in places]], asked))
    return {"mIoU": mask_iou(found, masks).mean().item()}


def regions(model: Answers, shown: scenes.Scenes) -> dict[str, float]:
    """Shares of regions with the right noun, and with the right words."""
    places = [(i, thing) for i, things in enumerate(shown.things) for thing in things]
    boxes = torch.tensor([thing.box for _, thing in places])
    said = model.describe(shown.images[[i for i, _ in places]], boxes)
    right = [parse(text).categories if text.strip() else () for text in said]
    nouns = [thing.category in some for some, (_, thing) in zip(right, places, strict=True)]
    words = [text == described(thing) for text, (_, thing) in zip(said, places, strict=True)]
    return {"region's noun": share_of(nouns), "region's words": share_of(words)}


def captions(model: Answers, alone: descriptions.Described) -> dict[str, float]:
    """Shares of captions with the right noun, with sound or damaged right, and with the kind of defect right."""
    said = [parse(text) if text.strip() else None for text in model.caption(alone.images)]
    pairs = list(zip(said, alone.facts, strict=True))
    states = [one is not None and one.state is not None and bool(one.state) == bool(fact.defect) for one, fact in pairs]
    flawed = [one is not None and one.state == fact.defect for one, fact in pairs if fact.defect]
    return {
        "caption's noun": share_of([one is not None and fact.category in one.categories for one, fact in pairs]),
        "caption's state": share_of(states),
        "kind of defect": share_of(flawed),
    }


def contestants() -> dict[str, Answers]:
    """The trained one, the same with random weights, and the sceptic."""
    trained, blank = (Model(zoo.load(name, "tiny")) for name in ("florence2", "florence2-random"))
    return {"trained": trained, "random weights": blank, "sceptic": Sceptic()}


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Four digits."""
    return {name: round(float(value), 4) for name, value in values.items()}


def table(rows: Sequence[Mapping[str, Any]], case: str) -> str:
    """Markdown: a line a measure, a column a contestant."""
    mine = {row["who"]: row["values"] for row in rows if row["case"] == case}
    names = next(iter(mine.values()))
    return markdown([case, *mine], [[name, *(f"{values[name]:.3f}" for values in mine.values())] for name in names])


def _trained(rows: Sequence[Mapping[str, Any]], case: str) -> Mapping[str, float]:
    return next(row["values"] for row in rows if (row["who"], row["case"]) == ("trained", case))


def text(results: Path = RESULTS) -> str:
    """The whole card."""
    held = json.loads(results.read_text(encoding="utf-8"))
    file = weights.ASSETS / "florence2.safetensors"
    facts = json.loads(weights.header(file)["facts"])
    known, _, unseen = (_trained(held["rows"], case) for case in CASES)
    numbers = {
        "seen": known["AP50"],
        "held_out": unseen["AP50"],
        "alone": unseen["AP50, boxes alone"],
        "verdict": "reached" if unseen["AP50"] >= TARGET else "not reached",
        "tables": "\n\n".join(table(held["rows"], case) for case in CASES),
        "sample": held["sample"],
        "parameters": sum(value.numel() for value in weights.read(file).values()),
        "megabytes": file.stat().st_size / 1e6,
    }
    return TEXT.format(**facts | numbers)


def spot_check() -> dict[str, float]:
    """The measures over a small sample of the training's categories."""
    return rounded(measure(Model(zoo.load("florence2", "tiny")), "categories of the training", SAMPLE))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, unless only the card is wanted, and write the card."""
    parser = argparse.ArgumentParser(prog="python -m cards.florence2")
    parser.add_argument("--card", action="store_true", help="write the card from the results that are there")
    parser.add_argument("--weights", type=Path, help="measure this file on the development split, and print")
    arguments = parser.parse_args(argv)
    if arguments.weights is not None:
        own = Weights("gadkit", "florence2", "MIT", None, "", "", "florence2")
        found = rounded(measure(Model(load(own, runtime.device(), arguments.weights)), "development"))
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    if not arguments.card:
        rows = [
            {"who": who, "case": case, "values": rounded(measure(model, case))}
            for who, model in contestants().items()
            for case in CASES
        ]
        held = {"rows": rows, "sample": spot_check(), "scenes": SCENES, "photographs": PHOTOGRAPHS}
        write_json(RESULTS, held | provenance(runtime.device()))
    with replacing(CARD) as part:
        part.write_text(text(), encoding="utf-8")
    sys.stdout.write(f"{CARD}\n")


if __name__ == "__main__":
    main()
