"""One protocol for every representation: the same images, the same heads, the same seeds.

    for name, value in evaluate(backbone):
        ...

Each evaluator encodes one set of images through a frozen backbone and yields (name, value) pairs, once a seed.

Book: selfsup/representations, selfsup/comparison
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gadkit.checks import checked
from gadkit.evaluation import sets
from gadkit.evaluation.downstream import (
    Boxes,
    class_ious,
    clip_features,
    fit_boxes,
    fit_segmenter,
    mean_average_precision,
    regions,
    segment,
)
from gadkit.evaluation.features import Features
from gadkit.evaluation.probes import accuracy, fit_linear, knn_accuracy, label_efficiency, linear_probe
from gadkit.evaluation.representation import alignment, effective_rank, uniformity
from gadkit.evaluation.sets import SPLITS
from gadkit.protocols import Backbone

Values = Iterator[tuple[str, float]]


@dataclass(frozen=True)
class Sizes:
    """How many images to encode; a pair is (to learn from, to test on).  Numbers are only comparable at equal sizes."""

    side: int = 96  # of the factory's images, in pixels
    products: tuple[int, int] = (50, 6)  # a category, two photographs each
    defects: tuple[int, int] = (6, 3)  # a category
    plates: tuple[int, int] = (240, 80)
    clips: tuple[int, int] = (96, 48)  # of 4 frames each


def parts(features: Features, seed: int, sizes: Sizes) -> Values:
    """27 categories, on products that the probe has not seen: neighbours, a linear layer, and that with few labels."""
    learn, test = _parts(seed, sizes)
    x, y = (features(s.name, s.images, blocks=True).pooled for s in (learn, test))
    head = features.once("parts", lambda: fit_linear(x, learn.labels, len(learn.classes)))
    everything = accuracy(head.logits(y), test.labels)
    yield "knn", knn_accuracy(x, learn.labels, y, test.labels)
    yield "linear", everything
    for share, value in label_efficiency(x, learn.labels, y, test.labels, (0.01, 0.1), seed).items():
        yield f"labels/{share:.0%}", value
    yield "labels/100%", everything


def _parts(seed: int, sizes: Sizes) -> tuple[sets.Labelled, sets.Labelled]:
    return sets.parts(None, sizes.products[0], sizes.side), sets.parts(seed, sizes.products[1], sizes.side)


def blocks(features: Features, seed: int, sizes: Sizes) -> Values:
    """The same question to the mean patch token after every block, from 0 on."""
    learn, test = _parts(seed, sizes)
    pairs = zip(*(features(s.name, s.images, blocks=True).blocks for s in (learn, test)), strict=True)
    for i, (x, y) in enumerate(pairs):
        head = features.once(("block", i), lambda x=x: fit_linear(x, learn.labels, len(learn.classes)))
        yield f"{i}/knn", knn_accuracy(x, learn.labels, y, test.labels)
        yield f"{i}/linear", accuracy(head.logits(y), test.labels)


def health(features: Features, seed: int, sizes: Sizes) -> Values:
    """Rank, alignment of two photographs of a product, uniformity; on half of the products, drawn by the seed.

    The halves are of the same products, so the spread over seeds is less than new products would give: it compares with
    that of no other evaluator.
    """
    learn, _ = _parts(seed, sizes)
    x = features(learn.name, learn.images, blocks=True).pooled.unflatten(0, (-1, 2))  # (products, 2, d)
    x = x[torch.randperm(len(x), generator=sets.generator(f"health/{seed}"))[: len(x) // 2]]
    yield "effective_rank", effective_rank(x.flatten(0, 1))
    yield "alignment", alignment(x[:, 0], x[:, 1])
    yield "uniformity", uniformity(x.flatten(0, 1))


def segmentation(features: Features, seed: int, sizes: Sizes) -> Values:
    """Background, part and defect from single patch tokens."""
    learn, test = (sets.defects(seed, split, n, sizes.side) for split, n in zip(SPLITS, sizes.defects, strict=True))
    x, y = (features(s.name, s.images, patches=True) for s in (learn, test))
    head = fit_segmenter(x.patches, x.grid, learn.masks, 3)
    found = segment(head, y.patches, y.grid, test.masks.shape[1:])
    ious = class_ious(found, test.masks, 3)
    yield "miou", float(ious.mean())
    for name, value in zip(("background", "part", "defect"), ious.tolist(), strict=True):
        yield f"iou/{name}", value


def detection(features: Features, seed: int, sizes: Sizes) -> Values:
    """Parts on a plate: which, and where."""
    learn, test = (sets.plates(seed, split, n, sizes.side) for split, n in zip(SPLITS, sizes.plates, strict=True))
    x, y = (features(s.name, s.images, patches=True) for s in (learn, test))
    known, truth = ([Boxes(*row) for row in zip(s.boxes, s.labels, strict=True)] for s in (learn, test))
    head = fit_boxes(x.patches, x.grid, known, (sizes.side,) * 2, len(learn.classes))
    yield "ap50", mean_average_precision(head.find(y.patches), truth, len(test.classes))


def actions(features: Features, seed: int, sizes: Sizes) -> Values:
    """Eight motions, from the last block of four frames: their mean and differences, and what the mean alone does."""
    learn, test = (sets.clips(seed, split, n) for split, n in zip(SPLITS, sizes.clips, strict=True))
    seen = (features(s.name, s.frames.flatten(0, 1), patches=True) for s in (learn, test))
    x, y = (regions(one.patches, one.grid).unflatten(0, (-1, sets.FRAMES)) for one in seen)  # (n, t, d)
    yield "linear", linear_probe(clip_features(x), learn.labels, clip_features(y), test.labels)
    yield "still", linear_probe(x.mean(1), learn.labels, y.mean(1), test.labels)


def digits(features: Features, seed: int, sizes: Sizes) -> Values:
    """scikit-learn's handwritten digits."""
    data = sets.digits()
    yield from _probes(features(data.name, data.images).pooled, data.labels, *sets.halves(data.labels, seed))


def photographs(features: Features, seed: int, sizes: Sizes) -> Values:
    """Which photograph a tile was cut from, learnt from its other half."""
    data = sets.photographs(sizes.side)
    yield from _probes(features(data.name, data.images).pooled, data.labels, *sets.sides(len(data.labels), seed))


def faces(features: Features, seed: int, sizes: Sizes) -> Values:
    """Faces in the wild against everything else."""
    data = sets.faces()
    yield from _probes(features(data.name, data.images).pooled, data.labels, *sets.halves(data.labels, seed))


def _probes(x: Tensor, labels: Tensor, learn: Tensor, test: Tensor) -> Values:
    rows = x[learn], labels[learn], x[test], labels[test]
    yield "knn", knn_accuracy(*rows)
    yield "linear", linear_probe(*rows)


EVALUATORS: dict[str, Callable[[Features, int, Sizes], Values]] = {
    f.__name__: f for f in (parts, blocks, health, segmentation, detection, actions, digits, photographs, faces)
}


@checked
def evaluate(
    backbone: Backbone,
    seeds: Sequence[int] = (0, 1, 2),
    only: Sequence[str] = tuple(EVALUATORS),
    sizes: Sizes = Sizes(),
) -> Iterator[tuple[str, float]]:
    """Yield ("evaluator/measure", value) for all evaluators, or for those named; every name comes once a seed.

    A seed stands for other products to be tested on, other labels to learn from and other splits; for `health` it is
    only another half of the same products.  Features are computed once.  Raises ValueError for an unknown evaluator or
    no seed.
    """
    if unknown := set(only) - set(EVALUATORS):
        raise ValueError(f"evaluators: expected names among {', '.join(EVALUATORS)}, got {', '.join(sorted(unknown))}")
    if not seeds:
        raise ValueError("seeds: expected at least one, got none")
    features = Features(backbone)
    for name in only:
        for seed in seeds:
            for key, value in EVALUATORS[name](features, seed, sizes):
                yield f"{name}/{key}", value
