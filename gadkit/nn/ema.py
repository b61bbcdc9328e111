"""Teachers: copies that follow slowly and never learn by gradient.

Book: selfsup/mocov3
"""

import copy
import math
from typing import TypeVar

import torch
from torch import nn

from gadkit.checks import checked, share
from gadkit.nn.private import lerp_

M = TypeVar("M", bound=nn.Module)


@checked
def teacher_of(student: M) -> M:
    """A frozen copy."""
    return copy.deepcopy(student).requires_grad_(False)


@checked
@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher towards the student: theta <- m theta + (1 - m) theta_student; buffers are copied.

    Raises ValueError for a momentum outside [0, 1].
    """
    share("momentum", momentum, zero=True)
    lerp_([*teacher.parameters()], [*student.parameters()], 1 - momentum)
    for ours, theirs in zip(teacher.buffers(), student.buffers(), strict=True):
        ours.copy_(theirs)


@checked
def cosine_momentum(progress: float, base: float = 0.996) -> float:
    """BYOL's schedule, 1 - (1 - base) (cos(pi progress) + 1) / 2: from `base` towards 1, which only the end reaches.

    Raises ValueError for shares outside [0, 1].  Grill et al. 2020, section 3.3.
    """
    share("progress", progress, zero=True)
    share("base", base, zero=True)
    return 1 - (1 - base) * (math.cos(math.pi * progress) + 1) / 2
