"""From a mask transformer's queries to segments: one reading a task.

Each of q queries gives a mask and a distribution over k classes and "nothing", the last.

Source: Cheng et al. 2021, MaskFormer, section 3.4; Cheng et al. 2022, Mask2Former; Jain et al. 2023, OneFormer.
Book: objects/universal
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit.checks import check_finite, checked, one_of, share
from gadkit.objects.protocols import Segments

TASKS = ("semantic", "instance", "panoptic")
SURE, WHOLE = 0.5, 0.8  # least probability of a query's class, least share of its mask that other masks leave to it


@checked
def read(
    classes: Float[Tensor, "q _"],
    masks: Float[Tensor, "q h w"],
    things: Sequence[bool],
    task: str,
    threshold: float = SURE,
) -> Segments:
    """The segments of one image from the logits of its queries.

    `things` says of each class whether its members are told apart.  Semantic segments fill the image, one a class.
    Instances are things only, and may overlap.  Panoptic segments do not overlap; stuff of one class is one segment.
    Raises ValueError for another task.
    """
    one_of("task", task, TASKS), share("threshold", threshold, zero=True)
    check_finite(classes, "classes"), check_finite(masks, "masks")
    if len(things) != classes.shape[1] - 1:
        raise ValueError(f"things: expected one for each of {classes.shape[1] - 1} classes, got {len(things)}")
    chances, shares = classes.softmax(1), masks.sigmoid()
    if task == "semantic":
        return _semantic(chances[:, :-1], shares)
    scores, labels = chances.max(1)
    kept = (labels < len(things)) & (scores >= threshold)
    scores, labels, shares = scores[kept], labels[kept], shares[kept]
    is_thing = torch.tensor([*things, False], device=labels.device)[labels]
    if task == "instance":
        return _instance(scores[is_thing], labels[is_thing], shares[is_thing])
    return _panoptic(scores, labels, shares, is_thing)


def _semantic(chances: Float[Tensor, "q k"], shares: Float[Tensor, "q h w"]) -> Segments:
    """Every pixel to the class with the largest sum of query's class chance times mask share."""
    votes = torch.einsum("qk,qhw->khw", chances, shares)
    winner = votes.argmax(0)
    present = winner.unique()
    found = winner == present[:, None, None]
    score = (votes / votes.sum(0).clamp(min=1e-6))[present]  # (n, h, w)
    return Segments(found, present, (score * found).sum((1, 2)) / found.sum((1, 2)))


def _instance(scores: Float[Tensor, "n"], labels: Tensor, shares: Float[Tensor, "n h w"]) -> Segments:
    """Every query of a thing is an instance; its score is the class's chance times the mean share in its mask."""
    found = shares > 0.5
    some = found.flatten(1).any(1)
    found, shares, scores, labels = found[some], shares[some], scores[some], labels[some]
    scores = scores * (shares * found).sum((1, 2)) / found.sum((1, 2)).clamp(min=1)
    order = scores.argsort(descending=True, stable=True)
    return Segments(found[order], labels[order], scores[order])


def _panoptic(scores: Float[Tensor, "n"], labels: Tensor, shares: Float[Tensor, "n h w"], is_thing: Tensor) -> Segments:
    """Every pixel to the query with the largest score times share; a segment that lost much of its mask is dropped."""
    if not len(scores):
        return Segments(shares > 0.5, labels, scores)
    owner = (scores[:, None, None] * shares).argmax(0)
    whole = shares > 0.5
    mine = (owner == torch.arange(len(scores), device=owner.device)[:, None, None]) & whole
    left, full = mine.sum((1, 2)), whole.sum((1, 2))
    masks, kinds, sure = [], [], []
    for n in ((left > 0) & (left >= WHOLE * full)).nonzero()[:, 0].tolist():
        label = int(labels[n])
        if not is_thing[n] and label in kinds:
            at = kinds.index(label)
            masks[at], sure[at] = masks[at] | mine[n], torch.maximum(sure[at], scores[n])
        else:
            masks.append(mine[n]), kinds.append(label), sure.append(scores[n])
    if not masks:
        return Segments(whole[:0], labels[:0], scores[:0])
    return Segments(torch.stack(masks), torch.tensor(kinds, device=labels.device), torch.stack(sure))
