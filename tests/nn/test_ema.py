"""Teachers: torch's own average, the closed form, and BYOL's schedule."""

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gadkit.nn import cosine_momentum, ema_update, mlp, teacher_of


def state(module: nn.Module) -> torch.Tensor:
    """All parameters in a row."""
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def shake(module: nn.Module) -> None:
    """What an optimiser might do."""
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p))


def test_the_average_is_torchs() -> None:
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    student = mlp([6, 5, 4])
    teacher = teacher_of(student)
    reference = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=False)
    reference.update_parameters(student)  # the first call copies
    for _ in range(5):
        shake(student)
        ema_update(teacher, student, 0.9)
        reference.update_parameters(student)
    torch.testing.assert_close(state(teacher), state(reference.module), rtol=1e-6, atol=1e-7)


@given(momentum=st.floats(0, 1), steps=st.integers(1, 20))
def test_a_constant_student_is_approached_geometrically(momentum: float, steps: int) -> None:
    student = nn.Linear(3, 3).double()
    teacher = teacher_of(student)
    shake(student)
    start = state(teacher).clone()
    for _ in range(steps):
        ema_update(teacher, student, momentum)
    expected = momentum**steps * start + (1 - momentum**steps) * state(student)
    torch.testing.assert_close(state(teacher), expected, rtol=1e-9, atol=1e-12)


def test_the_average_of_a_constant_is_the_constant() -> None:
    student = nn.Linear(3, 3)
    teacher = teacher_of(student)
    ema_update(teacher, student, 0.996)
    assert torch.equal(state(teacher), state(student))


def test_the_ends_stand_still_and_copy() -> None:
    student = nn.Linear(3, 3)
    teacher = teacher_of(student)
    start = state(teacher).clone()
    shake(student)
    ema_update(teacher, student, 1.0)
    assert torch.equal(state(teacher), start)
    ema_update(teacher, student, 0.0)
    assert torch.equal(state(teacher), state(student))


def test_a_teacher_is_a_frozen_copy_that_takes_over_buffers() -> None:
    student = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    teacher, before = teacher_of(student), copy.deepcopy(student.state_dict())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.parameters())
    student(torch.randn(8, 4) + 3)
    shake(student)
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    ema_update(teacher, student, 0.5)
    assert torch.equal(teacher[1].running_mean, student[1].running_mean)
    assert teacher[1].num_batches_tracked == 1


def test_the_schedule_is_lightlys_and_stays_below_1_to_the_end() -> None:
    from lightly.utils.scheduler import cosine_schedule

    steps = 1000
    ours = [cosine_momentum(step / (steps - 1)) for step in range(steps)]
    assert ours == pytest.approx([cosine_schedule(step, steps, 0.996, 1.0) for step in range(steps)], abs=1e-12)
    assert ours[0] == 0.996
    assert all(a < b for a, b in pairwise(ours))
    assert cosine_momentum(1 - 1e-6) < 1


@given(base=st.floats(0.5, 0.999), progress=st.floats(0, 0.999))
def test_the_schedule_rises_from_its_base_and_reaches_1_at_the_end_only(base: float, progress: float) -> None:
    assert cosine_momentum(0.0, base) == pytest.approx(base)
    assert base - 1e-12 <= cosine_momentum(progress, base) < 1
    assert cosine_momentum(progress, base) <= cosine_momentum(progress + 1e-3, base) + 1e-12
    assert cosine_momentum(1.0, base) == 1


@pytest.mark.parametrize("momentum", [-0.1, 1.1])
def test_a_momentum_outside_0_to_1_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match=r"momentum: expected a share in \[0, 1\]"):
        ema_update(nn.Linear(1, 1), nn.Linear(1, 1), momentum)
