"""How good segments are: panoptic quality, mean IoU and instance AP on the factory's scenes.

    >>> from gadkit.factory import scenes
    >>> some = scenes.render(2, split="development")
    >>> {name: round(value, 2) for name, value in quality([truth(some, i) for i in range(2)], some).items()}["PQ"]
    1.0

Source: Kirillov et al. 2019, Panoptic Segmentation (PQ, by torchmetrics); Lin et al. 2014, COCO (AP).
Book: objects/universal
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gadkit.checks import checked, whole
from gadkit.factory.scenes import Scenes
from gadkit.objects.protocols import Segments, Universal

TABLE, PART, NONE = range(3)  # the classes that all scenes share, and that of a pixel without a segment
SIDES = {"PQ": 0, "SQ": 1, "RQ": 2}


@checked
def truth(scenes: Scenes, i: int) -> Segments:
    """The panoptic segments that scene i has: the table, and a part each."""
    masks = torch.cat([(scenes.instances[i] == 0)[None], scenes.masks(i)])
    labels = torch.tensor([TABLE] + [PART] * (len(masks) - 1))
    some = masks.flatten(1).any(1)
    return Segments(masks[some], labels[some], torch.ones(int(some.sum())))


def labelled(segments: Segments) -> Int[Tensor, "h w 2"]:
    """Class and number of every pixel's segment; without one, its class is `NONE`.  Of two the first has it."""
    canvas = torch.zeros(*segments.masks.shape[1:], 2, dtype=torch.long)
    canvas[..., 0] = NONE
    for n in reversed(range(len(segments.labels))):
        canvas[segments.masks[n].cpu()] = torch.tensor([int(segments.labels[n]), n])
    return canvas


@checked
def quality(found: Sequence[Segments], scenes: Scenes) -> dict[str, float]:
    """Panoptic quality of one answer a scene: PQ, SQ and RQ over both classes, and PQ of parts and of the table alone.

    PQ is the sum of the IoUs of matched segments (IoU above 0.5) over matches plus half of all that have no match.
    Raises ValueError where the numbers of answers and scenes differ.
    """
    from torchmetrics.detection import PanopticQuality

    _paired(found, scenes)
    # NONE is a class of its own: torchmetrics excuses a missed part where the answer has a class that it does not know
    measure = PanopticQuality({PART}, {TABLE, NONE}, return_sq_and_rq=True, return_per_class=True)
    for i, segments in enumerate(found):
        measure.update(labelled(segments)[None], labelled(truth(scenes, i))[None])
    table = measure.compute()[:2]  # (2 classes, 3), parts first
    whole = {name: float(table[:, at].mean()) for name, at in SIDES.items()}
    return whole | {"PQ of parts": float(table[0, 0]), "PQ of the table": float(table[1, 0])}


@checked
def mean_iou(found: Sequence[Segments], scenes: Scenes) -> float:
    """Mean over the two classes of their IoU over the pixels of all scenes.  Raises ValueError as `quality` does."""
    _paired(found, scenes)
    mine = torch.stack([labelled(segments)[..., 0] for segments in found])
    true = (scenes.instances > 0).long()  # TABLE is 0, PART 1
    ious = [_iou(mine == label, true == label) for label in (TABLE, PART)]
    return sum(ious) / len(ious)


@checked
def mask_precision(found: Sequence[Segments], scenes: Scenes) -> dict[str, float]:
    """COCO's AP of the parts' masks: over IoUs from .50 to .95, and at .50.  Raises ValueError as `quality` does."""
    from torchmetrics.detection import MeanAveragePrecision

    _paired(found, scenes)
    measure = MeanAveragePrecision(iou_type="segm")
    for i, segments in enumerate(found):
        parts = segments.labels.cpu() == PART
        mine = {"masks": segments.masks.cpu()[parts], "scores": segments.scores.cpu()[parts].float()}
        masks = scenes.masks(i)
        zeros = [torch.zeros(len(m), dtype=torch.long) for m in (mine["masks"], masks)]
        measure.update([mine | {"labels": zeros[0]}], [{"masks": masks, "labels": zeros[1]}])
    table = measure.compute()
    return {"AP": float(table["map"]), "AP50": float(table["map_50"])}


def measure(model: Universal, scenes: Scenes) -> dict[str, float]:
    """All measures of a model on scenes, each by its own task."""
    answers = {task: model.segment(scenes.images, task) for task in ("panoptic", "semantic", "instance")}
    table = quality(answers["panoptic"], scenes) | {"mIoU": mean_iou(answers["semantic"], scenes)}
    return table | mask_precision(answers["instance"], scenes)


@checked
def interactive(
    predict: Callable[[int, int, Tensor, Tensor], Bool[Tensor, "h w"]], scenes: Scenes, clicks: int = 5, seed: int = 0
) -> list[float]:
    """Mean IoU over all parts of the scenes after 1, 2, ... clicks.

    `predict(scene, part, points, labels)` answers all clicks so far, (n, 2) points in pixels with labels (n,).  The
    first click is a random pixel of the part, each later one a random pixel of the larger error (missed or too much).
    Raises ValueError for no clicks, and for scenes without a part.
    """
    whole("clicks", clicks), whole("seed", seed, 0)
    if not any(scenes.things):
        raise ValueError(f"scenes: expected at least one part, got none in {len(scenes)} scenes")
    generator = torch.Generator().manual_seed(seed)
    sums, count = [0.0] * clicks, 0
    for i in range(len(scenes)):
        for k, mask in enumerate(scenes.masks(i)):
            count += 1
            points, labels = [click(mask, generator)], [1]
            for turn in range(clicks):
                mine = predict(i, k, torch.stack(points), torch.tensor(labels))
                sums[turn] += _iou(mine, mask)
                missed, extra = mask & ~mine, mine & ~mask
                if turn + 1 < clicks and (missed | extra).any():
                    more = bool(missed.sum() >= extra.sum())
                    points.append(click(missed if more else extra, generator)), labels.append(int(more))
    return [total / count for total in sums]


@checked
def click(mask: Bool[Tensor, "h w"], generator: torch.Generator) -> Tensor:
    """The middle (x, y) of a random pixel of a mask.  Raises ValueError for an empty one."""
    places = mask.nonzero()
    if not len(places):
        raise ValueError("mask: expected at least one pixel, got none")
    row, column = places[int(torch.randint(len(places), (1,), generator=generator))].tolist()
    return torch.tensor([column + 0.5, row + 0.5])


@checked
def stroke(mask: Bool[Tensor, "h w"], generator: torch.Generator, points: int = 16) -> Float[Tensor, "_ 2"]:
    """Points (x, y) along the straight line between two random pixels of a mask, as far as they lie on it.

    Raises ValueError as `click` does, and for fewer than two points.
    """
    whole("points", points, 2)
    ends = [click(mask, generator) for _ in range(2)]
    line = torch.lerp(*ends, torch.linspace(0, 1, points)[:, None])
    x, y = line.long().unbind(1)
    return line[mask[y, x]]


def _iou(a: Bool[Tensor, "..."], b: Bool[Tensor, "..."]) -> float:
    joined = int((a | b).sum())
    return 1.0 if not joined else float((a & b).sum()) / joined


def _paired(found: Sequence[Segments], scenes: Scenes) -> None:
    if len(found) != len(scenes):
        raise ValueError(f"found: expected an answer for each of {len(scenes)} scenes, got {len(found)}")
