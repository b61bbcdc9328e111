"""The figures on the card of the defect finder: where it finds defects of parts that it was not taught.

`python -m cards.defect_finder held-out` measures the shipped weights beside the same network untrained and a box in the
middle, and prints the card's table.  A test repeats the small fixed sample and holds the card to it.

Book: anomaly/saa
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit import factory, runtime, weights, zoo
from gadkit.anomaly.metrics import auroc
from gadkit.evaluation.results import markdown
from gadkit.objects import owl_vit
from gadkit.objects.protocols import Boxes, OpenVocabulary
from gadkit.objects.training.defect_finder import pieces
from gadkit.protocols import TestSet

TEXT = "defect on {}"
Find = Callable[[TestSet], list[Boxes]]


def by_text(finder: OpenVocabulary) -> Find:
    """The finder's answers to the general text about a defect, without a threshold; the part's name competes."""

    def find(data: TestSet) -> list[Boxes]:
        texts = [TEXT.format(data.object_name), data.object_name]
        found = finder.detect(data.images.to(finder.device), texts, 1e-6)
        return [Boxes(b.boxes[b.labels == 0].cpu(), b.scores[b.labels == 0].cpu(), b.labels[b.labels == 0].cpu()) for
                b in found]  # fmt: skip

    return find


def in_the_middle(data: TestSet) -> list[Boxes]:
    """A sceptic's finder: a quarter of every image, in its middle."""
    side = data.images.shape[-1]
    box = torch.tensor([[0.25, 0.25, 0.75, 0.75]]) * side
    return [Boxes(box, torch.tensor([0.5]), torch.tensor([0])) for _ in data.images]


def measure(find: Find, sets: Sequence[TestSet]) -> dict[str, float]:
    """Over all defective images: how often the best box has an IoU of 0.5, or of 0.1, with a piece of the defect.

    And how often its middle lies on the defect; over all images the AUROC of the best box's score.
    """
    overlaps, hits, ranks = [], [], []
    for data in sets:
        found = find(data)
        scores = torch.tensor([float(one.scores.max()) if len(one.scores) else 0.0 for one in found])
        ranks.append(auroc(scores, data.labels))
        for one, mask, bad in zip(found, data.masks, data.labels, strict=True):
            if bad and (true := pieces(mask)):
                overlaps.append(float(iou(one.boxes[:1], torch.tensor(true).float()).max()) if len(one.boxes) else 0.0)
                x, y = ((one.boxes[0, :2] + one.boxes[0, 2:]) / 2).long().tolist() if len(one.boxes) else (0, 0)
                hits.append(bool(mask[min(y, len(mask) - 1), min(x, len(mask[0]) - 1)]) and len(one.boxes) > 0)
    total = len(overlaps)
    return {
        "IoU 0.5": sum(v >= 0.5 for v in overlaps) / total,
        "IoU 0.1": sum(v >= 0.1 for v in overlaps) / total,
        "middle on it": sum(hits) / total,
        "image AUROC": sum(ranks) / len(ranks),
    }


def iou(a: Float[Tensor, "n 4"], b: Float[Tensor, "k 4"]) -> Float[Tensor, "n k"]:
    """Of every box with every other."""
    inner = (torch.minimum(a[:, None, 2:], b[:, 2:]) - torch.maximum(a[:, None, :2], b[:, :2])).clamp(min=0).prod(2)
    areas = [(box[:, 2:] - box[:, :2]).prod(1) for box in (a, b)]
    return inner / (areas[0][:, None] + areas[1] - inner)


def products_of(split: str, products: int = 1) -> list[TestSet]:
    """Products of each category."""
    return [
        factory.test_set(name, product, normal=10, per_defect=2)
        for name in factory.split(split)
        for product in range(products)
    ]


def spot_check() -> dict[str, float]:
    """The small fixed sample: the best box on one product of every second development category."""
    sets = [factory.test_set(name, normal=4, per_defect=2) for name in factory.split("development")[::2]]
    found = measure(by_text(zoo.load("defect-finder", "tiny")), sets)
    return {name: round(value, 3) for name, value in found.items()}


def main(split: str) -> None:
    """Measure on a split, and print the card's table and its small sample."""
    sets, where, file = products_of(split), runtime.device(None), weights.ASSETS / "defect-finder.safetensors"
    untrained = replace(zoo.find("defect-finder", "tiny"), options={"random": True})
    finders = {"the shipped weights": zoo.load("defect-finder", "tiny", str(where))}
    finders["random weights"] = owl_vit.load(untrained, where, file)
    rows: Mapping[str, Find] = {label: by_text(finder) for label, finder in finders.items()}
    rows = {label: measure(find, sets) for label, find in (rows | {"a box in the middle": in_the_middle}).items()}
    columns = ["best box for “defect on NOUN”", *next(iter(rows.values()))]
    table = markdown(columns, [[label, *(f"{value:.3f}" for value in found.values())] for label, found in rows.items()])
    sample = ", ".join(f"{name} {value}" for name, value in spot_check().items())
    sys.stdout.write(f"{table}\n\nThe small sample: {sample}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
