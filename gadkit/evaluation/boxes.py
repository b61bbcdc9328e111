"""How good a detector of words is: average precision of every category, and a baseline that can't read.

Source: Everingham et al., PASCAL VOC, IJCV 2010 (average precision); Otsu 1979 (the baseline's threshold).
Book: objects/open-vocabulary
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from gadkit.checks import check_images, checked, share, whole
from gadkit.evaluation.downstream import Boxes as Counted
from gadkit.evaluation.downstream import mean_average_precision
from gadkit.objects.protocols import Boxes

Truth = tuple[Float[Tensor, "_ 4"], Int[Tensor, "_"]]  # boxes (left, top, right, bottom), and their labels
SMALLEST = 0.005  # share of the image: a smaller blob is dirt


@checked
def average_precisions(
    found: Sequence[Boxes], truth: Sequence[Truth], labels: Sequence[int], iou: float = 0.5
) -> dict[int, float]:
    """The area under precision against recall of each label that occurs, as COCO computes it; AP50 at the default.

    `found` and `truth` are answers and true boxes, an image each.  Raises ValueError for other numbers of images, for
    no true box with one of the labels, and an `iou` outside (0, 1].
    """
    share("iou", iou)
    if len(found) != len(truth):
        raise ValueError(f"boxes: expected as many images found as true, got {len(found)} and {len(truth)}")
    present = [label for label in labels if any((theirs == label).any() for _, theirs in truth)]
    if not present:
        raise ValueError(f"truth: expected a box with one of the labels {[*labels]}, got none")
    return {label: _precision(found, truth, label, iou) for label in present}


def _precision(found: Sequence[Boxes], truth: Sequence[Truth], label: int, iou: float) -> float:
    """Of one label, which counts as class 0."""
    answers, true = [], []
    for ours, (boxes, labels) in zip(found, truth, strict=True):
        mine, theirs = ours.labels == label, labels == label
        scores = ours.scores[mine].cpu()
        answers.append(Counted(ours.boxes[mine].cpu(), torch.zeros(len(scores), dtype=torch.long), scores))
        true.append(Counted(boxes[theirs].cpu(), torch.zeros(int(theirs.sum()), dtype=torch.long)))
    return mean_average_precision(answers, true, 1, iou)


@checked
def blobs(images: UInt8[Tensor, "b 3 h w"], labels: int) -> list[Boxes]:
    """The baseline that a sceptic would pick: boxes around connected regions, the largest first, each for every label.

    Grey values are split by Otsu's threshold; the part that holds less of the image's edge is what things are.  A
    box's score is its region's share of the image.  Raises ValueError for no label, and as `check_images` does.
    """
    whole("labels", labels)
    return [_blobs(image, labels) for image in check_images(images)]


def _blobs(image: UInt8[Tensor, "3 h w"], labels: int) -> Boxes:
    from skimage import measure

    things = foreground(image)
    regions = sorted(measure.regionprops(measure.label(things.numpy())), key=lambda region: -region.area)
    kept = [region for region in regions if region.area > SMALLEST * things.numel()]
    boxes = torch.tensor([[r.bbox[1], r.bbox[0], r.bbox[3], r.bbox[2]] for r in kept]).reshape(-1, 4).float()
    scores = torch.tensor([r.area / things.numel() for r in kept])
    every = torch.arange(labels).repeat_interleave(len(kept))
    order = scores.repeat(labels).argsort(descending=True, stable=True)
    return Boxes(boxes.repeat(labels, 1)[order], scores.repeat(labels)[order].float(), every[order])


def foreground(image: UInt8[Tensor, "3 h w"]) -> Bool[Tensor, "h w"]:
    """The side of Otsu's threshold that holds less of the image's edge."""
    from skimage import filters

    grey = image.float().mean(0).cpu()
    if grey.amin() == grey.amax():
        return torch.zeros_like(grey, dtype=torch.bool)
    bright = grey > filters.threshold_otsu(grey.numpy())
    edge = torch.cat([bright[0], bright[-1], bright[:, 0], bright[:, -1]]).float().mean()
    return ~bright if edge > 0.5 else bright
