"""Downstream tasks on a frozen representation: segmentation, detection, action recognition, with the lightest heads.

Every head is linear in the features and is solved to its optimum, so what the tables compare is the features.

Book: selfsup/representations
"""

import contextlib
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.checks import checked, share, whole
from gadkit.evaluation.probes import Linear, fit_linear

IOU = 0.5  # how much a box must overlap with the truth to count, for AP50 ...
SAME = 0.5  # ... and with a better box of its class to be dropped as a repetition
STRENGTH, RIDGE = 1.0, 1.0  # of the detector's two layers: patches overlap a part in few ways, so they are reined in


# ---------------------------------------------------------------------------------------------------- segmentation


def _check_grid(patches: Float[Tensor, "b n e"], grid: tuple[int, int]) -> None:
    if not patches.numel() or grid[0] < 1 or grid[0] * grid[1] != patches.shape[1]:
        raise ValueError(f"patches: expected some images of a grid of {grid}, got {tuple(patches.shape)}")


def _check_classes(labels: Int[Tensor, "*s"], classes: int, what: str) -> None:
    whole("classes", classes)
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        ends = f"{int(labels.min())} to {int(labels.max())}"
        raise ValueError(f"{what}: expected classes from 0 to {classes - 1}, got {ends}")


@checked
def fit_segmenter(
    patches: Float[Tensor, "b n e"], grid: tuple[int, int], masks: Int[Tensor, "b h w"], classes: int
) -> Linear:
    """A linear layer from a patch token to the shares of the classes among the patch's pixels: convex, no label lost.

    Raises ValueError as `fit_linear` does.
    """
    _check_grid(patches, grid), _check_classes(masks, classes, "masks")
    planes = F.one_hot(masks, classes).movedim(3, 1).float()  # (b, k, h, w)
    shares = F.adaptive_avg_pool2d(planes, grid).flatten(2).transpose(1, 2)  # (b, n, k)
    return fit_linear(patches.flatten(0, 1), shares.flatten(0, 1), classes)


@checked
def segment(
    head: Linear, patches: Float[Tensor, "b n e"], grid: tuple[int, int], size: tuple[int, int]
) -> Int[Tensor, "b h w"]:
    """The class of every pixel: logits of patches, bilinear between their centres.

    Raises ValueError for another number of patches than the grid has, or a size below one pixel.
    """
    _check_grid(patches, grid)
    whole("height", size[0]), whole("width", size[1])
    logits = head.logits(patches.cpu()).transpose(1, 2).unflatten(2, grid)  # (b, k, r, c)
    return F.interpolate(logits, size, mode="bilinear", align_corners=False).argmax(1)


@checked
def class_ious(found: Int[Tensor, "*s"], truth: Int[Tensor, "*s"], classes: int) -> Float[Tensor, "k"]:
    """Intersection over union of each class, all pixels of all images together; NaN where neither side has a pixel.

    Raises ValueError for shapes that differ, no pixel, or numbers that are no classes.
    """
    if not truth.numel():
        raise ValueError(f"truth: expected at least one pixel, got shape {tuple(truth.shape)}")
    _check_classes(found, classes, "found"), _check_classes(truth, classes, "truth")
    pairs = torch.bincount((truth * classes + found).flatten(), minlength=classes * classes)
    confusion = pairs.view(classes, classes).double()  # (truth, found)
    both = confusion.diagonal()
    return both / (confusion.sum(0) + confusion.sum(1) - both)


@checked
def mean_iou(found: Int[Tensor, "*s"], truth: Int[Tensor, "*s"], classes: int) -> float:
    """The mean of `class_ious` over the classes that occur."""
    return float(class_ious(found, truth, classes).nanmean())


# ------------------------------------------------------------------------------------------------------- detection


@dataclass(frozen=True)
class Boxes:
    """Boxes of an image: (left, top, right, bottom) in pixels, a class and, where they were found, a score for each."""

    boxes: Float[Tensor, "n 4"]
    labels: Int[Tensor, "n"]
    scores: Float[Tensor, "n"] | None = None


@dataclass(frozen=True)
class BoxHead:
    """Two linear layers on patch tokens: what lies there, and how far its four sides are (in logs of patches).

    The last class of `kinds` is "nothing".
    """

    kinds: Linear
    reach: Float[Tensor, "_ 4"]
    grid: tuple[int, int]
    size: tuple[int, int]

    def find(self, patches: Float[Tensor, "b n e"], least: float = 0.01) -> list[Boxes]:
        """Boxes of every image, best first, after non-maximum suppression; `least` is the score of the faintest."""
        x = patches.cpu()
        share = self.kinds.logits(x).softmax(-1)[..., :-1]  # (b, n, k)
        z = F.pad((x - self.kinds.centre) / self.kinds.spread, (0, 1), value=1.0)
        boxes = _boxes((z @ self.reach).clamp(-5, 5), self.grid, self.size)  # (b, n, 4)
        return [_suppress(b, s, least) for b, s in zip(boxes, share, strict=True)]


@checked
def fit_boxes(
    patches: Float[Tensor, "b n e"], grid: tuple[int, int], truth: Sequence[Boxes], size: tuple[int, int], classes: int
) -> BoxHead:
    """Learn to classify patches by the part that is centred near them, and to say where that part's sides are.

    A patch belongs to a box if its centre lies in the box's central half (of width and height), or is the nearest to
    the box's centre; the classifier is a logistic and the reach a ridge regression.  The idea of a box from every
    location is FCOS's: Tian et al. 2019, section 3.1.  Raises ValueError for another number of images on either side,
    another number of patches than the grid has, labels that are no classes, or no box at all.
    """
    _check_grid(patches, grid)
    if len(truth) != len(patches) or not any(len(boxes.labels) for boxes in truth):
        raise ValueError(f"truth: expected boxes of {len(patches)} images, some with any, got {len(truth)} images")
    for boxes in truth:
        _check_classes(boxes.labels, classes, "truth")
    kinds, reach = zip(*(_targets(boxes, grid, size, classes) for boxes in truth), strict=True)
    kind, reach = torch.cat(kinds), torch.cat(reach)  # (b n), (b n, 4)
    x = patches.cpu().flatten(0, 1)
    head = fit_linear(x, kind, classes + 1, STRENGTH)
    some = kind < classes
    z = F.pad((x[some] - head.centre) / head.spread, (0, 1), value=1.0).double()  # (m, e + 1)
    penalty = RIDGE * torch.eye(z.shape[1], dtype=z.dtype)
    penalty[-1, -1] = 0  # the offset is free
    solution = torch.linalg.lstsq(z.T @ z + penalty, z.T @ reach[some].double()).solution
    return BoxHead(head, solution.float(), grid, size)


def _centres(grid: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Patch centres (n, 2) as x, y in pixels, and a patch's width and height (2,)."""
    step = torch.tensor([size[1] / grid[1], size[0] / grid[0]])
    y, x = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    return (torch.stack([x, y], -1).flatten(0, 1) + 0.5) * step, step


def _targets(truth: Boxes, grid: tuple[int, int], size: tuple[int, int], classes: int) -> tuple[Tensor, Tensor]:
    """For each patch the class it belongs to (`classes` for none) and the logs of its distances to the box's sides."""
    centres, step = _centres(grid, size)
    if not len(truth.labels):
        return torch.full((len(centres),), classes), torch.zeros(len(centres), 4)
    low, high = truth.boxes[:, None, :2], truth.boxes[:, None, 2:]  # (m, 1, 2)
    off = (centres - (low + high) / 2).abs()  # (m, n, 2)
    inside = (off <= (high - low) / 4).all(-1)
    inside |= F.one_hot(off.sum(-1).argmin(1), len(centres)).bool()  # a small box owns one patch at least
    owner = inside.int().argmax(0)  # (n,)
    kind = torch.where(inside.any(0), truth.labels[owner], classes)
    gaps = torch.cat([centres - low[owner, 0], high[owner, 0] - centres], 1) / step.repeat(2)  # (n, 4)
    return kind, gaps.clamp(min=0.1).log()


def _boxes(reach: Float[Tensor, "b n 4"], grid: tuple[int, int], size: tuple[int, int]) -> Float[Tensor, "b n 4"]:
    centres, step = _centres(grid, size)
    gaps = reach.exp() * step.repeat(2)
    boxes = torch.cat([centres - gaps[..., :2], centres + gaps[..., 2:]], -1)
    return boxes.clamp(min=0).minimum(torch.tensor([size[1], size[0]] * 2).to(boxes))


def _suppress(boxes: Float[Tensor, "n 4"], share: Float[Tensor, "n k"], least: float) -> Boxes:
    from torchvision.ops import batched_nms

    scores, labels = share.max(1)
    some = (scores >= least).nonzero()[:, 0]
    keep = some[batched_nms(boxes[some], scores[some], labels[some], SAME)]
    return Boxes(boxes[keep], labels[keep], scores[keep])


@checked
def mean_average_precision(found: Sequence[Boxes], truth: Sequence[Boxes], classes: int, iou: float = IOU) -> float:
    """Mean over classes of the area under precision against recall, as COCO computes it (AP50 at the default IoU).

    Of each class, best score first, a box counts as right if it overlaps by `iou` with a true one that is not taken
    yet.  Precision is made to fall with recall, and read at 101 recalls.  Classes that don't occur are left out.
    Raises ValueError for another number of images on either side, boxes without scores, an `iou` outside (0, 1], or no
    true box at all.
    """
    share("iou", iou), whole("classes", classes)
    if any(boxes.scores is None for boxes in found):
        raise ValueError("found: expected boxes with scores, got some without")
    if len(found) != len(truth):
        raise ValueError(f"boxes: expected as many images found as true, got {len(found)} and {len(truth)}")
    present = [c for c in range(classes) if any((t.labels == c).any() for t in truth)]
    if not present:
        raise ValueError("boxes: expected at least one true box, got none")
    return _coco(found, truth, present, iou)


def _coco(found: Sequence[Boxes], truth: Sequence[Boxes], present: Sequence[int], iou: float) -> float:
    """Average precision by COCO's own evaluation, however many boxes an image has."""
    import numpy as np
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
        reference = COCO()
        reference.dataset = {
            "images": [{"id": i} for i in range(len(truth))],
            "categories": [{"id": c} for c in present],
            "annotations": list(_annotations(truth)),
        }
        reference.createIndex()
        if not (answers := list(_annotations(found))):
            return 0.0  # which loadRes does not take
        evaluation = COCOeval(reference, reference.loadRes(answers), "bbox")
        evaluation.params.iouThrs = np.array([iou])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, math.inf]], ["all"]
        evaluation.params.maxDets = [max(len(f.boxes) for f in found)]
        evaluation.evaluate()
        evaluation.accumulate()
    return float(evaluation.eval["precision"].mean())  # (1, recalls, classes, 1, 1)


def _annotations(side: Sequence[Boxes]) -> Iterator[dict[str, Any]]:
    """Boxes as COCO's records: corner, width and height; numbers from 1, for 0 means none."""
    number = 0
    for image, boxes in enumerate(side):
        wide = torch.cat([boxes.boxes[:, :2], boxes.boxes[:, 2:] - boxes.boxes[:, :2]], 1).double().tolist()
        scores = [1.0] * len(wide) if boxes.scores is None else boxes.scores.double().tolist()
        for box, kind, score in zip(wide, boxes.labels.tolist(), scores, strict=True):
            number += 1
            row = {"id": number, "image_id": image, "category_id": kind, "bbox": box, "score": score}
            yield row | {"area": box[2] * box[3], "iscrowd": 0}


# --------------------------------------------------------------------------------------------------------- actions


@checked
def regions(patches: Float[Tensor, "b n e"], grid: tuple[int, int], side: int = 3) -> Float[Tensor, "b f"]:
    """An image as the mean patch tokens of side x side regions, joined, f = side^2 e: it keeps what is where.

    Raises ValueError for another number of patches than the grid has, or less than one region a side.
    """
    _check_grid(patches, grid)
    whole("side", side)
    return F.adaptive_avg_pool2d(patches.transpose(1, 2).unflatten(2, grid), side).flatten(1)


@checked
def clip_features(frames: Float[Tensor, "n t d"]) -> Float[Tensor, "n f"]:
    """A clip as the mean of its frames' features beside their t - 1 differences in order, and those without their sign.

    f = (2 t - 1) d.  The mean knows what is seen, the differences what changes, when and which way; played backwards
    they change order, and the signed ones their sign.  Raises ValueError for no clips, or clips of one frame.
    """
    if not len(frames) or frames.shape[1] < 2:
        raise ValueError(f"clips: expected some of at least 2 frames, got shape {tuple(frames.shape)}")
    change = frames.diff(dim=1).flatten(1)  # (n, (t - 1) d)
    return torch.cat([frames.mean(1), change, change.abs()], 1)
