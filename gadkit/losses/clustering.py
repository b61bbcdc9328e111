"""Objectives that assign views to prototypes: SwAV, DINO, iBOT; and KoLeo, which spreads features out.

Book: selfsup/swav, selfsup/dino
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from gadkit.checks import checked, positive, share, whole
from gadkit.distributed import gather, mean, rank, world
from gadkit.losses.precision import precisely
from gadkit.losses.shapes import check_alike


@checked
@precisely
@torch.no_grad()
def sinkhorn(scores: Float[Tensor, "n k"], epsilon: float = 0.05, iterations: int = 3) -> Float[Tensor, "n k"]:
    """Soft assignments that use all prototypes equally: rows sum to 1, columns tend to n / k each.

    Columns and rows are scaled in turn, rows last, in the log domain, where nothing overflows.  Adding a constant to
    all scores changes nothing.  Raises ValueError for an `epsilon` that is not positive and for less than one
    iteration.  Caron et al. 2020, eq. 3 and 4, after Cuturi 2013.
    """
    positive("epsilon", epsilon)
    whole("iterations", iterations)
    log = gather(scores) / epsilon  # (m, k): all rows share the prototypes
    for _ in range(iterations):
        log = log - log.logsumexp(0, keepdim=True)
        log = log - log.logsumexp(1, keepdim=True)
    return log.exp()[len(scores) * rank() :][: len(scores)]


@checked
@precisely
def swav_loss(
    scores: Sequence[Float[Tensor, "n k"]],
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
    queue: Sequence[Float[Tensor, "m k"]] = (),
) -> Float[Tensor, ""]:
    """Predict each large view's assignment from every other view: cross-entropy with Sinkhorn's targets.

    `scores` are cosines with the prototypes, the two large views first.  `queue` holds scores of earlier images for
    each large view: they take part in the balancing, and nothing predicts them.  Uniform predictions give log k.
    Raises ValueError for less than two views, views of different shapes, and a temperature that is not positive.
    Caron et al. 2020, eq. 2 and 6, and section 4.1 for the queue.
    """
    positive("temperature", temperature)
    if len(scores) < 2:
        raise ValueError(f"scores: expected those of two large views at least, got {len(scores)}")
    check_alike("scores", **{f"view {i}": s for i, s in enumerate(scores)})
    if queue and len(queue) != 2:
        raise ValueError(f"queue: expected earlier scores for each of the two large views, got {len(queue)}")
    terms = []
    for i in range(2):
        known = torch.cat([scores[i].detach(), *(q.detach() for q in queue[i : i + 1])])
        target = sinkhorn(known, epsilon, iterations)[: len(scores[i])]
        terms += [_cross(target, s / temperature) for j, s in enumerate(scores) if j != i]
    return torch.stack(terms).mean()


def _cross(target: Float[Tensor, "*n k"], logits: Float[Tensor, "*n k"]) -> Float[Tensor, ""]:
    return -(target * F.log_softmax(logits, -1)).sum(-1).mean()


@checked
@precisely
def dino_loss(
    teacher: Sequence[Float[Tensor, "n k"]],
    student: Sequence[Float[Tensor, "n k"]],
    centre: Float[Tensor, "k"],
    teacher_temperature: float = 0.04,
    student_temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """Match the student's distribution on every view to the teacher's on the large ones, never on the same view.

    The teacher's logits are centred and sharpened, and carry no gradient.  Uniform outputs give log k.  Raises
    ValueError for views of different shapes, one view in all, and temperatures that are not positive.
    Caron et al. 2021, eq. 2 and 3 and algorithm 1.
    """
    positive("teacher_temperature", teacher_temperature)
    positive("student_temperature", student_temperature)
    views = {"teacher's": teacher, "student's": student}
    if teacher and student:
        check_alike("logits", **{f"the {side} view {i}": x for side, held in views.items() for i, x in enumerate(held)})
    targets = [F.softmax((t.detach() - centre) / teacher_temperature, 1) for t in teacher]
    terms = [_cross(t, s / student_temperature) for i, t in enumerate(targets) for j, s in enumerate(student) if i != j]
    if not terms:
        raise ValueError("views: expected a student's view that is not the teacher's own, got one view in all")
    return torch.stack(terms).mean()


@checked
@precisely
@torch.no_grad()
def next_centre(
    centre: Float[Tensor, "k"], teacher: Sequence[Float[Tensor, "n k"]], momentum: float = 0.9
) -> Float[Tensor, "k"]:
    """The running mean of the teacher's logits, over all large views and processes; to be taken after its use.

    Raises ValueError for a `momentum` outside [0, 1].  Caron et al. 2021, eq. 4.
    """
    share("momentum", momentum, zero=True)
    return centre * momentum + mean(torch.cat(list(teacher)).mean(0)) * (1 - momentum)


@checked
@precisely
def ibot_loss(
    teacher: Float[Tensor, "n p k"],
    student: Float[Tensor, "n p k"],
    mask: Bool[Tensor, "n p"],
    centre: Float[Tensor, "k"],
    teacher_temperature: float = 0.04,
    student_temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """Predict the teacher's distributions on the patches that were hidden from the student.

    The mean over an image's hidden patches, then over all images: one without hidden patches counts as 0, as in
    DINOv2's code.  Raises ValueError for shapes that do not fit and temperatures that are not positive.
    Zhou et al. 2022, eq. 2.
    """
    positive("teacher_temperature", teacher_temperature)
    positive("student_temperature", student_temperature)
    if mask.shape != student.shape[:2] or student.shape != teacher.shape or not len(mask):
        shapes = ", ".join(str(tuple(x.shape)) for x in (teacher, student, mask))
        raise ValueError(f"ibot: expected logits (n, p, k) of both and a mask (n, p), got {shapes}")
    targets = F.softmax((teacher.detach() - centre) / teacher_temperature, 2)
    each = -(targets * F.log_softmax(student / student_temperature, 2)).sum(2)  # (n, p)
    hidden = mask.sum(1)
    return ((each * mask).sum(1) / hidden.clamp(min=1)).mean()


@checked
@precisely
def koleo(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Minus the mean log distance of each unit vector to its nearest neighbour: large where two coincide.

    Rows that coincide exactly send back no gradient, where DINOv2's code sends one of about 5e6: nothing says in which
    direction they should part.  Raises ValueError for fewer than two rows in all.
    Sablayrolles et al. 2019, eq. 2; Oquab et al. 2024, section 4.
    """
    if len(z) * world() < 2:
        raise ValueError(f"koleo: expected at least 2 rows, for a nearest neighbour, got {len(z)}")
    u = F.normalize(z, dim=1)
    rows = gather(u)  # (m, d)
    own = torch.arange(len(z), device=z.device)[:, None] + len(z) * rank()
    nearest = (u.detach() @ rows.detach().T).scatter(1, own, -math.inf).argmax(1)
    return -((u - rows[nearest]).square().sum(1) + 1e-16).sqrt().add(1e-8).log().mean()
