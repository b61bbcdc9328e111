"""Objectives that assign views to prototypes: SwAV, DINO, iBOT; and KoLeo, which spreads features out.

Book: selfsup/swav, selfsup/dino
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from gadkit.distributed import gather, mean, rank, total, world
from gadkit.losses.precision import precisely


@precisely
@torch.no_grad()
def sinkhorn(scores: Float[Tensor, "n k"], epsilon: float = 0.05, iterations: int = 3) -> Float[Tensor, "n k"]:
    """Soft assignments that use all prototypes equally: rows sum to 1, columns tend to n / k each.

    Columns and rows are scaled in turn, rows last, in the log domain, where nothing overflows.  Adding a constant to
    all scores changes nothing.  Caron et al. 2020, eq. 3 and 4, after Cuturi 2013.
    """
    log = gather(scores) / epsilon  # (m, k): all rows share the prototypes
    for _ in range(iterations):
        log = log - log.logsumexp(0, keepdim=True)
        log = log - log.logsumexp(1, keepdim=True)
    return log.exp()[len(scores) * rank() :][: len(scores)]


@precisely
def swav_loss(
    scores: Sequence[Float[Tensor, "n k"]], temperature: float = 0.1, epsilon: float = 0.05, iterations: int = 3
) -> Float[Tensor, ""]:
    """Predict each large view's assignment from every other view: cross-entropy with Sinkhorn's targets.

    `scores` are cosines with the prototypes, the two large views first.  Uniform predictions give log k.
    Caron et al. 2020, eq. 2 and 6.
    """
    if len(scores) < 2:
        raise ValueError(f"scores: expected those of two large views at least, got {len(scores)}")
    terms = []
    for i in range(2):
        target = sinkhorn(scores[i].detach(), epsilon, iterations)
        terms += [_cross(target, s / temperature) for j, s in enumerate(scores) if j != i]
    return torch.stack(terms).mean()


def _cross(target: Float[Tensor, "*n k"], logits: Float[Tensor, "*n k"]) -> Float[Tensor, ""]:
    return -(target * F.log_softmax(logits, -1)).sum(-1).mean()


@precisely
def dino_loss(
    teacher: Sequence[Float[Tensor, "n k"]],
    student: Sequence[Float[Tensor, "n k"]],
    centre: Float[Tensor, "k"],
    teacher_temperature: float = 0.04,
    student_temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """Match the student's distribution on every view to the teacher's on the large ones, never on the same view.

    The teacher's logits are centred and sharpened, and carry no gradient.  Uniform outputs give log k.
    Caron et al. 2021, eq. 2 and 3 and algorithm 1.
    """
    targets = [F.softmax((t.detach() - centre) / teacher_temperature, 1) for t in teacher]
    terms = [_cross(t, s / student_temperature) for i, t in enumerate(targets) for j, s in enumerate(student) if i != j]
    if not terms:
        raise ValueError("views: expected a student's view that is not the teacher's own, got one view in all")
    return torch.stack(terms).mean()


@precisely
@torch.no_grad()
def next_centre(
    centre: Float[Tensor, "k"], teacher: Sequence[Float[Tensor, "n k"]], momentum: float = 0.9
) -> Float[Tensor, "k"]:
    """The running mean of the teacher's logits, over all large views and processes; to be taken after its use.

    Caron et al. 2021, eq. 4.
    """
    return centre * momentum + mean(torch.cat(list(teacher)).mean(0)) * (1 - momentum)


@precisely
def ibot_loss(
    teacher: Float[Tensor, "n p k"],
    student: Float[Tensor, "n p k"],
    mask: Bool[Tensor, "n p"],
    centre: Float[Tensor, "k"],
    teacher_temperature: float = 0.04,
    student_temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """Predict what the teacher sees in the patches that were hidden from the student; mean over them, image by image.

    An image without hidden patches does not count; the processes may have different numbers of them.  Raises
    ValueError for shapes that do not fit.  Zhou et al. 2022, eq. 2.
    """
    if mask.shape != student.shape[:2] or student.shape != teacher.shape:
        shapes = ", ".join(str(tuple(x.shape)) for x in (teacher, student, mask))
        raise ValueError(f"ibot: expected logits (n, p, k) of both and a mask (n, p), got {shapes}")
    targets = F.softmax((teacher.detach() - centre) / teacher_temperature, 2)
    each = -(targets * F.log_softmax(student / student_temperature, 2)).sum(2)  # (n, p)
    hidden = mask.sum(1)
    by_image = (each * mask).sum(1) / hidden.clamp(min=1)
    return by_image.sum() * world() / total((hidden > 0).sum()).clamp(min=1)


@precisely
def koleo(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Minus the mean log distance of each unit vector to its nearest neighbour: large where two coincide.

    Raises ValueError for fewer than two rows in all.  Sablayrolles et al. 2019, eq. 2; Oquab et al. 2024, section 4.
    """
    if len(z) * world() < 2:
        raise ValueError(f"koleo: expected at least 2 rows, for a nearest neighbour, got {len(z)}")
    u = F.normalize(z, dim=1)
    everybody = gather(u)  # (m, d)
    own = torch.arange(len(z), device=z.device)[:, None] + len(z) * rank()
    nearest = (u.detach() @ everybody.detach().T).scatter(1, own, -math.inf).argmax(1)
    return -((u - everybody[nearest]).square().sum(1) + 1e-16).sqrt().add(1e-8).log().mean()
