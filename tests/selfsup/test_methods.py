"""Every self-supervised method: it starts where theory says, learns, spares its teacher, and survives storage."""

import math

import pytest
import torch
from torch import nn

from gadkit.data.pool import unlabelled
from gadkit.losses import byol_loss, dino_loss, info_nce, nt_xent
from gadkit.nn import ViT, patchify
from gadkit.selfsup import BYOL, DINO, MAE, MoCoV3, SimCLR, SwAV
from gadkit.selfsup.mae import random_masking
from gadkit.train import Plan, learn

SMALL = {"image_size": 32, "width": 32, "depth": 2, "heads": 2}
METHODS = {
    "simclr": lambda encoder: SimCLR(encoder, batch=16),
    "mocov3": lambda encoder: MoCoV3(encoder, batch=16),
    "byol": BYOL,
    "swav": lambda encoder: SwAV(encoder, prototypes=16, small=2),
    "dino": lambda encoder: DINO(encoder, prototypes=64, small=2),
    "dinov2": lambda encoder: DINO(encoder, prototypes=64, small=2, ibot=1.0, koleo=0.1),
    "dino, sinkhorn": lambda encoder: DINO(encoder, prototypes=64, small=2, balance="sinkhorn"),
    "mae": lambda encoder: MAE(encoder, width=32, depth=1, heads=2),
}


def make(name: str, **options) -> nn.Module:
    torch.manual_seed(0)
    return METHODS[name](ViT(**SMALL, **options))


@pytest.fixture(scope="module")
def photographs() -> torch.Tensor:
    return unlabelled(64).images


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("dino", "dinov2")])
def test_its_loss_falls(name: str, photographs: torch.Tensor) -> None:
    """Not with a centre: until that has settled, student and teacher agree on one output for everything."""
    method = make(name)
    losses = []
    step = method.loss
    method.loss = lambda views: losses.append(step(views)) or losses[-1]
    learn(method, photographs, Plan(steps=24, lr=3e-3, warmup=2, batch=16))
    first, last = (torch.stack(part).mean().item() for part in (losses[:4], losses[-4:]))
    assert math.isfinite(last)
    assert last < first


@pytest.mark.parametrize("name", METHODS)
def test_its_state_comes_back(name: str, photographs: torch.Tensor) -> None:
    method, other = make(name), make(name)
    learn(method, photographs, Plan(steps=2, lr=1e-3, warmup=1, batch=16))
    kept = (
        {k: v for k, v in method.state_dict().items() if not k.startswith(method.transient)}
        if method.transient
        else (method.state_dict())
    )
    missing, unexpected = other.load_state_dict(kept, strict=False)
    assert not unexpected
    assert all(key.startswith(method.transient) for key in missing)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(method.eval().encoder(x), other.eval().encoder(x))


@pytest.mark.parametrize("name", ["mocov3", "byol", "dino", "dinov2"])
def test_no_gradient_reaches_the_teacher_and_it_follows(name: str, photographs: torch.Tensor) -> None:
    method = make(name)
    teacher = method.encoder if name.startswith("dino") else method.teacher
    before = [p.clone() for p in teacher.parameters()]
    method.train()
    method.loss(method.views(photographs[:16])).backward()
    assert all(p.grad is None for p in teacher.parameters())
    with torch.no_grad():
        for p in method.parameters():
            if p.grad is not None:
                p.sub_(p.grad)
    method.after_step(0.5)
    method.loss(method.views(photographs[:16]))  # MoCo v3's moves in here, before its keys
    assert any(not torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))


def constant(method: nn.Module) -> nn.Module:
    """The method with an encoder that answers the same to everything."""
    for p in method.encoder.parameters():
        nn.init.zeros_(p)
    nn.init.ones_(method.encoder.norm.bias)
    return method


@pytest.mark.parametrize("name", ["simclr", "mocov3"])
def test_a_collapsed_network_is_stuck_at_the_value_that_is_shown(name: str, photographs: torch.Tensor) -> None:
    method = constant(make(name)).eval()  # statistics at their start, so that equal stays equal
    if name == "mocov3":
        constant_teacher = constant(make(name))
        method.teacher = torch.nn.Sequential(constant_teacher.encoder, method.head)
    loss = method.loss(method.views(photographs[:16]))
    assert loss.item() == pytest.approx(method.collapse, rel=1e-3)


def test_simclr_is_its_equation(photographs: torch.Tensor) -> None:
    method = make("simclr").eval()
    views = method.views(photographs[:8])
    z = [method.head(method.encoder(v)[:, 0]) for v in views]
    assert torch.allclose(method.loss(views), nt_xent(*z, method.temperature))


def test_moco_moves_its_teacher_before_it_makes_the_keys(photographs: torch.Tensor) -> None:
    method = make("mocov3")
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(0.05 * torch.randn_like(p))
    views = method.views(photographs[:8])
    q = [method.predictor(method.head(method.encoder(v)[:, 0])) for v in views]
    loss = method.loss(views)
    moved = [method.teacher[1](method.teacher[0](v)[:, 0]) for v in views]  # the teacher as it is now
    expected = info_nce(q[0], moved[1], 0.2) + info_nce(q[1], moved[0], 0.2)
    assert torch.allclose(loss, expected, rtol=1e-4)
    assert not any(p.requires_grad for p in method.encoder.patch.parameters())


def test_byol_predicts_the_other_view(photographs: torch.Tensor) -> None:
    method = make("byol").eval()
    a, b = method.views(photographs[:8])
    p = [method.predictor(method.head(method.encoder(v)[:, 0])) for v in (a, b)]
    z = [method.teacher[1](method.teacher[0](v)[:, 0]) for v in (a, b)]
    assert torch.allclose(method.loss([a, b]), byol_loss(p[0], z[1]) + byol_loss(p[1], z[0]), rtol=1e-5)


def test_swav_keeps_prototypes_still_and_then_on_the_sphere(photographs: torch.Tensor) -> None:
    method = make("swav")
    method.frozen = 0.5
    before = method.prototypes.weight.clone()
    learn(method, photographs, Plan(steps=4, lr=1e-2, warmup=1, batch=16))
    assert torch.allclose(method.prototypes.weight.norm(dim=1), torch.ones(16), atol=1e-5)
    assert not torch.allclose(method.prototypes.weight, before, atol=1e-4)
    method = make("swav")
    method.frozen = 2.0
    learn(method, photographs, Plan(steps=4, lr=1e-2, warmup=1, batch=16))
    assert torch.allclose(method.prototypes.weight, before, atol=1e-6)


class TestDINO:
    """Centre, masks, and the teacher as the product."""

    def test_the_centre_is_updated_after_its_use(self, photographs: torch.Tensor) -> None:
        method = make("dino").train()
        method.centre = torch.randn(64)
        centre, views = method.centre.clone(), method.views(photographs[:8])
        loss = method.loss(views)
        teacher = [method.head(method.encoder(v)[:, 0]) for v in views[:2]]
        student = [method.student_head(method.student(v)[:, 0]) for v in views]
        assert torch.allclose(loss, dino_loss(teacher, student, centre), rtol=1e-4)
        assert torch.allclose(method.centre, 0.9 * centre + 0.1 * torch.cat(teacher).mean(0), atol=1e-5)

    def test_masks_hide_a_share_of_some_images(self) -> None:
        method = make("dinov2")
        mask = method.mask(torch.zeros(200, 3, 32, 32))
        counts = mask.sum(1)
        assert set(counts.tolist()) == {0, int(0.4 * 16)}
        assert 60 < (counts > 0).sum() < 140

    def test_the_student_does_not_see_what_is_masked(self) -> None:
        method = make("dinov2")
        view, mask = torch.randn(2, 3, 32, 32), torch.zeros(2, 16, dtype=torch.bool)
        mask[:, 3] = True
        other = view.clone()
        other[:, :, :8, 24:] = 0  # the fourth patch
        assert torch.allclose(method._student(view, mask), method._student(other, mask), atol=1e-6)

    def test_sinkhorn_balances_the_teacher(self, photographs: torch.Tensor) -> None:
        method = make("dino, sinkhorn")
        assert method.loss(method.views(photographs[:16])).isfinite()
        with pytest.raises(ValueError, match="centre or sinkhorn, got 'whitening'"):
            DINO(ViT(**SMALL), balance="whitening")


class TestMAE:
    """Masks and pictures."""

    @pytest.mark.parametrize(("patches", "kept"), [(196, 49), (49, 12), (64, 16)])
    def test_masking_agrees_with_transformers(self, patches: int, kept: int) -> None:
        from transformers import ViTMAEConfig
        from transformers.models.vit_mae.modeling_vit_mae import ViTMAEEmbeddings

        noise = torch.rand(3, patches)
        theirs = ViTMAEEmbeddings(ViTMAEConfig(mask_ratio=0.75, hidden_size=8))
        tokens = torch.randn(3, patches, 8)
        visible, mask, restore = theirs.random_masking(tokens, noise)
        keep, our_mask, our_restore = random_masking(3, patches, 0.75, noise)
        assert keep.shape == (3, kept)
        assert torch.equal(mask, our_mask)
        assert torch.equal(restore, our_restore)
        assert torch.equal(visible, torch.gather(tokens, 1, keep[..., None].expand(-1, -1, 8)))
        shuffle = noise.argsort(1)
        assert torch.equal(torch.gather(shuffle, 1, our_restore), torch.arange(patches).expand(3, -1))

    def test_hidden_patches_do_not_reach_the_encoder(self) -> None:
        method = make("mae")
        view, noise = torch.randn(2, 3, 32, 32), torch.rand(2, 16)
        hidden = random_masking(2, 16, 0.75, noise)[1].bool()
        other = view.clone()
        for i in range(2):
            for n in hidden[i].nonzero()[:, 0].tolist():
                y, x = divmod(n, 4)
                other[i, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = torch.randn(3, 8, 8)
        assert torch.allclose(method(view, noise)[0], method(other, noise)[0], atol=1e-6)

    def test_pictures_keep_what_was_visible(self) -> None:
        method, view, noise = make("mae"), torch.randn(2, 3, 32, 32), torch.rand(2, 16)
        visible = random_masking(2, 16, 0.75, noise)[1] == 0
        seen, painted, undone = (patchify(p, 8) for p in method.reconstruct(view, noise))
        truth = patchify(view, 8)
        for picture in (seen, painted, undone):
            assert torch.equal(picture[visible], truth[visible])
        assert (seen[~visible] == 0).all()
        spread = truth.std(2, keepdim=True)
        expected = painted * (spread**2 + 1e-6).sqrt() + truth.mean(2, keepdim=True)
        assert torch.allclose(undone[~visible], expected[~visible], atol=1e-5)

    def test_nothing_left_to_see_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="keeps some of 4 patches"):
            random_masking(1, 4, 0.9)
