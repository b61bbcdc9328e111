"""DINO: the centre, the masks, the additions of DINOv2, and the teacher as the product."""

import math
from collections.abc import Callable

import pytest
import torch

from gadkit.data.views import Views
from gadkit.losses import dino_loss, koleo, sinkhorn
from gadkit.selfsup import DINO


@pytest.fixture
def make(small: Callable) -> Callable:
    """A function that makes a small DINO."""
    return lambda **options: DINO(small(), prototypes=64, small=2, **options)


def test_the_centre_is_updated_after_its_use_and_heads_run_over_all_crops(make: Callable, photographs) -> None:
    method = make().train()
    method.centre = torch.randn(64)
    centre, views = method.centre.clone(), method.views({"images": photographs[:8]})
    loss = method.loss(views)
    teacher = method.head(torch.cat([method.encoder(v)[:, 0] for v in views[:2]])).chunk(2)
    student = method.student_head(torch.cat([method.student(v)[:, 0] for v in views])).chunk(4)
    assert torch.allclose(loss, dino_loss(teacher, student, centre), rtol=1e-4)
    apart = [method.student_head(method.student(v)[:, 0]) for v in views]  # each view by statistics of its own
    assert not torch.allclose(loss, dino_loss(teacher, apart, centre), rtol=1e-4)
    assert torch.allclose(method.centre, 0.9 * centre + 0.1 * torch.cat(teacher).mean(0), atol=1e-5)


def test_the_large_views_are_asymmetric_and_the_small_ones_are_not(make: Callable, monkeypatch) -> None:
    seen, call = [], Views.__call__
    monkeypatch.setattr(Views, "__call__", lambda self, *given: seen.append(self) or call(self, *given))
    make().views({"images": torch.zeros(1, 3, 48, 48, dtype=torch.uint8)})
    assert [(v.size, v.blurred, v.solarised, v.jitter[2]) for v in seen] == [
        (32, 1.0, 0.0, 0.2),
        (32, 0.1, 0.2, 0.2),
        (16, 0.5, 0.0, 0.2),  # all small ones at once
    ]


@pytest.mark.parametrize("count", [1, 2, 7, 200])
def test_masks_hide_shares_from_a_tenth_to_a_half_in_half_of_the_images(make: Callable, count: int) -> None:
    method = make(ibot=1.0, koleo=0.1)
    hidden = method.mask(torch.zeros(count, 3, 32, 32)).sum(1)
    some = max(1, count // 2)
    expected = [max(1, int((0.1 + 0.4 * (i + 0.5) / some) * 16)) for i in range(some)]
    assert hidden.sort().values.tolist() == [0] * (count - some) + expected
    with pytest.raises(ValueError, match="masked: expected two shares"):
        make(masked=(0.5, 0.1))


def test_the_teachers_temperature_rises_and_the_last_layer_waits(make: Callable, photographs: torch.Tensor) -> None:
    method = make(warmup_temperature=0.04, teacher_temperature=0.07, warmup=0.3, frozen=0.1).train()
    seen = {}
    for progress in (0.0, 0.15, 0.3, 0.9):
        method.progress.fill_(progress)
        seen[progress] = method.temperature()
    assert list(seen.values()) == pytest.approx([0.04, 0.055, 0.07, 0.07])
    for progress, learns in ((0.05, False), (0.2, True)):
        method.progress.fill_(progress)
        method.zero_grad()
        method.loss(method.views({"images": photographs[:8]})).backward()
        assert (method.student_head.direction.grad is not None) == learns
    method.after_step(0.75)
    assert method.progress == 0.75
    assert make().temperature() == 0.04


@pytest.mark.parametrize("balance", ["centre", "sinkhorn"])
def test_the_additions_are_their_equations(make: Callable, balance: str, photographs: torch.Tensor) -> None:
    """iBOT over all images of both views, and both large views before the centre moves."""
    method = make(ibot=1.0, koleo=0.1, balance=balance).train()
    centre, patch_centre = torch.randn(2, 64) / 10
    method.centre, method.patch_centre = centre.clone(), patch_centre.clone()
    views = method.views({"images": photographs[:8]})
    masks = [method.mask(v) for v in views[:2]]
    queue = iter(masks)
    method.mask = lambda view: next(queue)
    loss = method.loss(views)

    def shares(logits: torch.Tensor, middle: torch.Tensor) -> torch.Tensor:
        if balance == "sinkhorn":  # of both views together
            return sinkhorn(logits, 0.04)
        return ((logits - middle) / 0.04).softmax(1)

    def cross(target: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        return -(target * (logits / 0.1).log_softmax(1)).sum(1)

    hidden = torch.cat(masks)
    with torch.no_grad():  # a head normalises class tokens and patches apart, because they come apart
        seen = torch.cat([method.encoder(v) for v in views[:2]])
        targets = shares(method.head(seen[:, 0]), centre).chunk(2)
        raw = method.head(seen[:, 1:][hidden])
    tokens = [method._student(v, m) for v, m in zip(views, [*masks, None, None], strict=True)]
    logits = method.student_head(torch.cat([t[:, 0] for t in tokens])).chunk(4)
    pairs = [cross(t, s).mean() for i, t in enumerate(targets) for j, s in enumerate(logits) if i != j]
    painted = method.student_head(torch.cat(tokens[:2])[:, 1:][hidden])
    each = cross(shares(raw, patch_centre), painted) / hidden.sum(1)[hidden.nonzero()[:, 0]]
    expected = torch.stack(pairs).mean() + each.sum() / 16 + 0.1 * sum(koleo(t[:, 0]) for t in tokens[:2])
    assert torch.allclose(loss, expected, rtol=1e-4)
    moved = 0.1 if balance == "centre" else 0.0  # Sinkhorn needs no centre
    assert torch.allclose(method.patch_centre, (1 - moved) * patch_centre + moved * raw.mean(0), atol=1e-5)


def test_evaluation_leaves_the_centres_alone(make: Callable, photographs: torch.Tensor) -> None:
    method = make(ibot=1.0, koleo=0.1).eval()
    method.loss(method.views({"images": photographs[:8]}))
    assert not method.centre.any()
    assert not method.patch_centre.any()


def test_the_student_does_not_see_what_is_masked(make: Callable) -> None:
    method = make(ibot=1.0, koleo=0.1)
    view, mask = torch.randn(2, 3, 32, 32), torch.zeros(2, 16, dtype=torch.bool)
    mask[:, 3] = True
    other = view.clone()
    other[:, :, :8, 24:] = 0  # the fourth patch
    assert torch.allclose(method._student(view, mask), method._student(other, mask), atol=1e-6)


def test_another_balance_is_refused(make: Callable) -> None:
    with pytest.raises(ValueError, match="balance: expected one of centre, sinkhorn, got 'whitening'"):
        make(balance="whitening")


def test_collapse_by_hand(make: Callable) -> None:
    plain, more = make(), make(ibot=0.5, koleo=0.1)
    alike = -math.log(2e-8)  # KoLeo's, of class tokens that coincide
    assert plain.collapse(8) == pytest.approx(math.log(64))
    for batch, hidden in ((1, 1), (2, 1 / 2), (3, 1 / 3), (8, 1 / 2)):  # the share of images with hidden patches
        assert more.collapse(batch) == pytest.approx((1 + 0.5 * hidden) * math.log(64) + 0.2 * alike)


def test_the_teacher_follows_at_its_momentum(make: Callable) -> None:
    method = make(momentum=0.8)
    with torch.no_grad():
        method.student.norm.bias.fill_(1.0)
        method.student_head.direction.add_(1.0)
    before = method.head.direction.clone()
    method.after_step(0.0)
    assert torch.allclose(method.encoder.norm.bias, torch.tensor(0.2))
    assert torch.allclose(method.head.direction, before + 0.2, atol=1e-6)
    method.after_step(0.5)  # half a cosine from 0.8 to 1
    assert torch.allclose(method.encoder.norm.bias, torch.tensor(0.9 * 0.2 + 0.1))
    method.after_step(1.0)
    assert torch.allclose(method.encoder.norm.bias, torch.tensor(0.9 * 0.2 + 0.1))


def test_a_rise_over_no_time_is_over(make: Callable) -> None:
    assert make(warmup_temperature=0.02, warmup=0.0).temperature() == pytest.approx(0.04)
    method = make(warmup_temperature=0.06, warmup=1.0)
    method.progress.fill_(0.25)
    assert method.temperature() == pytest.approx(0.055), "it may fall, too"


@pytest.mark.parametrize("masked", [(0.0, 0.5), (0.5, 0.1), (0.5, 1.01)])
def test_shares_that_are_none_are_refused(make: Callable, masked: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="masked: expected two shares"):
        make(masked=masked)
    assert make(masked=(1.0, 1.0), ibot=1.0).mask(torch.zeros(2, 3, 32, 32)).sum(1).sort().values.tolist() == [0, 16]
    for weights in ({"koleo": -0.1}, {"ibot": -0.1}, {"koleo": math.inf}):
        with pytest.raises(ValueError, match="ibot, koleo: expected weights from 0"):
            make(**weights)


def test_masks_of_small_views(make: Callable) -> None:
    hidden = make(masked=(0.5, 0.5), ibot=1.0).mask(torch.zeros(4, 3, 16, 16))
    assert hidden.shape == (4, 4)
    assert hidden.sum(1).sort().values.tolist() == [0, 0, 2, 2]


def test_the_last_layer_learns_once_its_wait_is_over(make: Callable) -> None:
    for frozen, progress, learns in ((0.25, 0.24, False), (0.25, 0.25, True), (0.0, 0.0, True)):
        method = make(frozen=frozen)
        method.progress.fill_(progress)
        method._student_logits(torch.randn(4, 32)).sum().backward()
        assert (method.student_head.direction.grad is not None) == learns
