"""The objective of a detector that answers with a set of boxes: which box answers for which object, and how well.

A network gives n boxes with a logit for each of q queries.  Every true box is matched with one of them, so that the
sum of costs is least; matched boxes are pulled to theirs, and all logits learn whether they were matched.

Source: Carion et al., DETR, ECCV 2020 (matching); Lin et al., RetinaNet, ICCV 2017 (focal loss); Rezatofighi et al.,
CVPR 2019 (generalized IoU).
Book: objects/open-vocabulary
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.checks import checked, describe
from gadkit.losses.precision import precisely
from gadkit.losses.shapes import check_alike


@dataclass(frozen=True)
class Costs:
    """What a class, a distance and an overlap count for, in the matching and in the loss alike."""

    label: float = 2.0
    distance: float = 5.0
    overlap: float = 2.0


@checked
def corners(boxes: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """Boxes (centre x, centre y, width, height) as (left, top, right, bottom)."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], -1)


@checked
def centres(boxes: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
    """Boxes (left, top, right, bottom) as (centre x, centre y, width, height)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


@checked
def check_boxes(boxes: Float[Tensor, "k 4"], what: str = "boxes") -> Float[Tensor, "k 4"]:
    """Return `boxes` if each is (left, top, right, bottom) and has an area.  Raises ValueError for one upside down."""
    wrong = ~((boxes[:, 2:] > boxes[:, :2]).all(1) & boxes.isfinite().all(1))
    if wrong.any():
        first = boxes[wrong][0].tolist()
        raise ValueError(f"{what}: expected (left, top, right, bottom) with left < right and top < bottom, got {first}")
    return boxes


@checked
@precisely
def generalized_iou(a: Float[Tensor, "*b 4"], b: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b"]:
    """Overlap of boxes by pairs, from -1 to 1: IoU less the share of their hull that neither of them fills.

    Boxes are (left, top, right, bottom), those of an area of 0 included.  Raises ValueError for different shapes.
    """
    return _generalized(a, b)


def _generalized(a: Tensor, b: Tensor) -> Tensor:
    """The same for shapes that broadcast."""
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inner
    least = torch.finfo(a.dtype).tiny
    return inner / union.clamp(min=least) - (hull - union) / hull.clamp(min=least)


@checked
@precisely
def focal_loss(
    logits: Float[Tensor, "*b"], truth: Float[Tensor, "*b"], alpha: float = 0.25, gamma: float = 2.0
) -> Float[Tensor, "*b"]:
    """Binary cross-entropy of each logit, less for what is nearly right: times (1 - p)^gamma.

    `alpha` weighs the ones, 1 - `alpha` the zeros of `truth`.  Raises ValueError for different shapes.  Lin et al.
    2017, eq. 5.
    """
    check_alike("focal_loss", logits=logits, truth=truth)
    p = logits.sigmoid()
    right = p * truth + (1 - p) * (1 - truth)  # the probability that was given to what is true
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    return weight * (1 - right) ** gamma * F.binary_cross_entropy_with_logits(logits, truth, reduction="none")


@checked
@torch.no_grad()
@precisely
def match(
    logits: Float[Tensor, "n q"],
    boxes: Float[Tensor, "n 4"],
    labels: Int[Tensor, "k"],
    true: Float[Tensor, "k 4"],
    costs: Costs = Costs(),
) -> tuple[Int[Tensor, "m"], Int[Tensor, "m"]]:
    """Which of n answers belongs to which of k true boxes, at the least cost: m = min(n, k) pairs of numbers.

    Boxes are (centre x, centre y, width, height) in shares of the image.  The cost of a label is its focal loss as a
    one less that as a zero.
    """
    from scipy.optimize import linear_sum_assignment

    cost = _cost(logits[:, labels], boxes[:, None], true[None], costs)  # (n, k)
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    return torch.as_tensor(rows, device=boxes.device), torch.as_tensor(columns, device=boxes.device)


@checked
@precisely
def set_loss(
    logits: Float[Tensor, "b n q"],
    boxes: Float[Tensor, "b n 4"],
    labels: Sequence[Int[Tensor, "_"]],
    true: Sequence[Float[Tensor, "_ 4"]],
    costs: Costs = Costs(),
) -> Float[Tensor, ""]:
    """Focal loss of all logits, and L1 and 1 - generalized IoU of matched boxes, a sum over the number of true boxes.

    `labels` and `true` hold, an image each, the queries and boxes of what is there; boxes are (centre x, centre y,
    width, height) in shares of the image.  Raises ValueError for labels that are no queries, for another number of
    images, or of boxes than labels, and for a box without an area.
    """
    sizes = [(len(a), len(b)) for a, b in zip(labels, true, strict=False)]
    if len(labels) != len(logits) or len(true) != len(logits) or any(a != b for a, b in sizes):
        raise ValueError(
            f"set_loss: expected for each of {len(logits)} images as many labels as boxes, got {len(labels)} labels' "
            f"and {len(true)} boxes' lists of lengths {sizes}"
        )
    if bad := [one for some in labels for one in some.tolist() if not 0 <= one < logits.shape[2]]:
        raise ValueError(f"labels: expected queries from 0 to {logits.shape[2] - 1}, got {describe(bad[0])}")
    everyone = torch.cat([*true])  # (k, 4), image after image
    check_boxes(corners(everyone), "true")
    images, rows, columns = _matches(logits.detach(), boxes.detach(), labels, true, costs)
    words = torch.cat([*labels])[columns]
    truth = torch.zeros_like(logits)
    truth[images, rows, words] = 1
    own, goal = boxes[images, rows], everyone[columns]
    distance, overlap = (own - goal).abs().sum(), (1 - _generalized(corners(own), corners(goal))).sum()
    total = costs.label * focal_loss(logits, truth).sum() + costs.distance * distance + costs.overlap * overlap
    return total / max(1, len(everyone))


def _matches(logits: Tensor, boxes: Tensor, labels: Sequence[Tensor], true: Sequence[Tensor], costs: Costs) -> Tensor:
    """`match` of a whole batch: images, answers, and places among all true boxes, as (3, m) numbers.

    All costs are computed at once and leave the device once.
    """
    from scipy.optimize import linear_sum_assignment

    counts = [len(one) for one in true]
    at = torch.tensor([i for i, count in enumerate(counts) for _ in range(count)], dtype=torch.long).to(boxes.device)
    everyone = torch.cat([*true])
    picked = logits[at, :, torch.cat([*labels])]  # (k, n)
    table = _cost(picked, boxes[at], everyone[:, None], costs).cpu().numpy()
    found, start = [], 0
    for i, count in enumerate(counts):
        columns, rows = linear_sum_assignment(table[start : start + count])
        found += [(i, row, start + column) for row, column in zip(rows.tolist(), columns.tolist(), strict=True)]
        start += count
    return torch.tensor(found, dtype=torch.long).reshape(-1, 3).T.to(boxes.device)


def _cost(picked: Tensor, boxes: Tensor, true: Tensor, costs: Costs) -> Tensor:
    """What it costs that an answer is a box, of shapes that broadcast."""
    if not picked.numel():
        return picked
    wanted, unwanted = (focal_loss(picked, torch.full_like(picked, t)) for t in (1.0, 0.0))
    distance = (boxes - true).abs().sum(-1)
    overlap = _generalized(corners(boxes), corners(true))
    return costs.label * (wanted - unwanted) + costs.distance * distance - costs.overlap * overlap
