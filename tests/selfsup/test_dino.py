"""DINO: the centre, the masks, the additions of DINOv2, and the teacher as the product."""

from collections.abc import Callable

import pytest
import torch

from gadkit.losses import dino_loss, koleo, sinkhorn
from gadkit.selfsup import DINO


@pytest.fixture
def make(small: Callable) -> Callable:
    """A function that makes a small DINO."""
    return lambda **options: DINO(small(), prototypes=64, small=2, **options)


def test_the_centre_is_updated_after_its_use(make: Callable, photographs: torch.Tensor) -> None:
    method = make().train()
    method.centre = torch.randn(64)
    centre, views = method.centre.clone(), method.views(photographs[:8])
    loss = method.loss(views)
    teacher = [method.head(method.encoder(v)[:, 0]) for v in views[:2]]
    student = [method.student_head(method.student(v)[:, 0]) for v in views]
    assert torch.allclose(loss, dino_loss(teacher, student, centre), rtol=1e-4)
    assert torch.allclose(method.centre, 0.9 * centre + 0.1 * torch.cat(teacher).mean(0), atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 7, 200])
def test_masks_hide_a_share_of_half_the_images(make: Callable, count: int) -> None:
    hidden = make(ibot=1.0, koleo=0.1).mask(torch.zeros(count, 3, 32, 32)).sum(1)
    assert set(hidden.tolist()) <= {0, int(0.4 * 16)}
    assert (hidden > 0).sum() == max(1, count // 2)


@pytest.mark.parametrize("balance", ["centre", "sinkhorn"])
def test_the_additions_are_their_equations(make: Callable, balance: str, photographs: torch.Tensor) -> None:
    """iBOT over whole images with what is visible left out, and both large views before the centre moves."""
    method = make(ibot=1.0, koleo=0.1, balance=balance).train()
    centre, patch_centre = torch.randn(2, 64) / 10
    method.centre, method.patch_centre = centre.clone(), patch_centre.clone()
    views = method.views(photographs[:8])
    masks = [method.mask(v) for v in views[:2]]
    queue = iter(masks)
    method.mask = lambda view: next(queue)
    loss = method.loss(views)

    def shares(logits: list[torch.Tensor], middle: torch.Tensor) -> list[torch.Tensor]:
        if balance == "sinkhorn":  # of both views together
            return list(sinkhorn(torch.cat(logits), 0.04).chunk(2))
        return [((one - middle) / 0.04).softmax(1) for one in logits]

    def cross(target: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        return -(target * (logits / 0.1).log_softmax(1)).sum(1).mean()

    with torch.no_grad():  # a head normalises class tokens and patches apart, because they come apart
        seen = [method.encoder(v) for v in views[:2]]
        targets = shares([method.head(t[:, 0]) for t in seen], centre)
        raw = [method.head(t[:, 1:][m]) for t, m in zip(seen, masks, strict=True)]
    hidden = shares(raw, patch_centre)
    tokens = [method._student(v, m) for v, m in zip(views, [*masks, None, None], strict=True)]
    logits = [method.student_head(t[:, 0]) for t in tokens]
    expected = torch.stack([cross(t, s) for i, t in enumerate(targets) for j, s in enumerate(logits) if i != j]).mean()
    painted = [method.student_head(t[:, 1:][m]) for t, m in zip(tokens, masks, strict=False)]
    patches = [cross(t, s) for t, s in zip(hidden, painted, strict=True)]
    expected = expected + sum(patches) / 2 + 0.1 * sum(koleo(t[:, 0]) for t in tokens[:2])
    assert torch.allclose(loss, expected, rtol=1e-4)
    moved = 0.1 if balance == "centre" else 0.0  # Sinkhorn needs no centre
    assert torch.allclose(method.patch_centre, (1 - moved) * patch_centre + moved * torch.cat(raw).mean(0), atol=1e-5)


def test_evaluation_leaves_the_centres_alone(make: Callable, photographs: torch.Tensor) -> None:
    method = make(ibot=1.0, koleo=0.1).eval()
    method.loss(method.views(photographs[:8]))
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
    with pytest.raises(ValueError, match="centre or sinkhorn, got 'whitening'"):
        make(balance="whitening")
