"""Small values by hand: teachers after a step, queues, collapse, and the shapes of heads."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from gadkit.nn.heads import BatchNorm
from gadkit.selfsup import BYOL, DINO, MoCoV3, SimCLR, SwAV


def widths(head: nn.Module) -> list[int]:
    """What goes into the linear layers of a head, and what comes out of the last."""
    linear = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    return [*(layer.in_features for layer in linear), linear[-1].out_features]


def test_heads_have_the_widths_that_are_asked_for(small: Callable) -> None:
    sizes = {"width": 24, "out": 12}
    assert widths(SimCLR(small(), **sizes).head) == [32, 24, 12]
    assert widths(SwAV(small(), **sizes).head) == [32, 24, 12]
    byol = BYOL(small(), **sizes)
    assert (widths(byol.head), widths(byol.predictor)) == ([32, 24, 12], [12, 24, 12])
    moco = MoCoV3(small(), **sizes)
    assert (widths(moco.head), widths(moco.predictor)) == ([32, 24, 24, 12], [12, 24, 12])


def test_what_is_normalised_over_the_batch(small: Callable) -> None:
    """The heads' outputs, by layers without a scale of their own; BYOL's predictor and SwAV's head end bare."""
    simclr, moco, byol, swav = SimCLR(small()), MoCoV3(small()), BYOL(small()), SwAV(small())
    for head in (simclr.head, moco.head, moco.predictor, byol.head):
        assert isinstance(head[-1], BatchNorm)
        assert not list(head[-1].parameters())
    assert isinstance(byol.predictor[-1], nn.Linear)
    assert isinstance(swav.head[-1], nn.Linear)
    hidden = [layer for layer in DINO(small()).student_head.modules() if isinstance(layer, BatchNorm)]
    assert len(hidden) == 2


def test_views_have_the_encoder_s_size_and_small_ones_half_of_its_patches(small: Callable) -> None:
    for side, size, half in ((32, 32, 16), (24, 24, 8), (40, 40, 16)):  # patches of 8 pixels
        method = SimCLR(small(image_size=side))
        assert (method.size, method.half) == (size, half)
    views = SwAV(small(), small=3).views({"images": torch.zeros(2, 3, 48, 48, dtype=torch.uint8)})
    assert [tuple(v.shape) for v in views] == [(2, 3, 32, 32)] * 2 + [(2, 3, 16, 16)] * 3


def test_the_class_token_stands_for_the_image(small: Callable) -> None:
    method, x = SimCLR(small(registers=2)).eval(), torch.randn(2, 3, 32, 32)
    assert torch.equal(method.represent(x), method.encoder(x)[:, 0])


@pytest.mark.parametrize("kind", [BYOL, MoCoV3])
def test_teachers_follow_at_their_momentum(small: Callable, kind: type) -> None:
    method = kind(small(), momentum=0.8)
    with torch.no_grad():
        method.encoder.norm.bias.fill_(1.0)
    for progress, expected in ((0.0, 0.2), (0.5, 0.9 * 0.2 + 0.1), (1.0, 0.9 * 0.2 + 0.1)):
        method.after_step(progress)
        assert torch.allclose(method.teacher[0].norm.bias, torch.tensor(expected))
    still = kind(small(), momentum=1.0)
    with torch.no_grad():
        still.encoder.norm.bias.fill_(1.0)
    still.after_step(0.0)
    assert not still.teacher[0].norm.bias.any()


@pytest.mark.parametrize("kind", [BYOL, MoCoV3, DINO])
def test_a_teacher_without_momentum_is_the_student(small: Callable, kind: type) -> None:
    method = kind(small(), momentum=0.0)
    student, teacher = (method.student, method.encoder) if kind is DINO else (method.encoder, method.teacher[0])
    with torch.no_grad():
        student.norm.bias.fill_(1.0)
    method.after_step(0.0)
    assert torch.equal(teacher.norm.bias, student.norm.bias)


def test_patches_are_fixed_unless_they_may_learn(small: Callable) -> None:
    assert not any(p.requires_grad for p in MoCoV3(small()).encoder.patch.parameters())
    assert all(p.requires_grad for p in MoCoV3(small(), fixed_patches=False).encoder.patch.parameters())
    assert isinstance(BYOL(small(), predictor=False).predictor, nn.Identity)


def test_collapse_by_hand(small: Callable) -> None:
    assert SimCLR(small()).collapse(8) == pytest.approx(math.log(15))
    assert MoCoV3(small(), temperature=0.5).collapse(8) == pytest.approx(2 * math.log(8))
    assert SwAV(small(), prototypes=40).collapse(8) == pytest.approx(math.log(40))
    assert BYOL(small()).collapse(8) == 0


def test_the_beginning_ends_at_its_share(small: Callable) -> None:
    method = SwAV(small(), frozen=0.25, queue=4, queue_from=0.5)
    assert (bool(method.still), bool(method.queue_on)) == (True, False)
    for progress, still, queue in ((0.24, True, False), (0.25, False, False), (0.49, False, False), (0.5, False, True)):
        method.after_step(progress)
        assert (bool(method.still), bool(method.queue_on)) == (still, queue)
    at_once = SwAV(small(), frozen=0.0, queue=4, queue_from=0.0)
    assert (bool(at_once.still), bool(at_once.queue_on)) == (False, True)


def test_a_queue_that_is_exactly_full_takes_part(small: Callable, photographs: torch.Tensor) -> None:
    method = SwAV(small(), prototypes=16, small=2, queue=8, queue_from=0.0).train()
    earlier, views = (method.views({"images": photographs[8 * i :][:8]}) for i in range(2))
    method.loss(earlier)
    assert (method.queue.shape, int(method.queued)) == ((2, 8, 64), 8)
    assert torch.allclose(method.queue.norm(dim=2), torch.ones(2, 8), atol=1e-5)
    before = method.queue.clone()
    full = method.loss(views)
    method.queue.copy_(before)
    method.queued.fill_(7)
    assert not torch.allclose(method.loss(views), full, rtol=1e-5)
    method.eval().loss(views)
    assert int(method.queued) == 15, "evaluation adds nothing"
    plain = SwAV(small(), prototypes=16, small=2).train()
    plain.loss(views)
    assert int(plain.queued) == 0, "without a queue nothing is counted"


@pytest.mark.parametrize("kind", [SimCLR, MoCoV3, BYOL, SwAV, DINO])
def test_two_views_of_the_same_images_differ(small: Callable, photographs: torch.Tensor, kind: type) -> None:
    views = kind(small()).views({"images": photographs[:2]})
    assert len(views) == (6 if kind in (SwAV, DINO) else 2)
    assert not torch.equal(views[0], views[1])
