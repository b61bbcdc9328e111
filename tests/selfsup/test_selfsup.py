"""Every self-supervised method: it starts where theory says, learns, spares its teacher, and survives storage."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gadkit.losses import byol_loss, info_nce, nt_xent, swav_loss
from gadkit.selfsup import BYOL, DINO, MAE, MoCoV3, SimCLR, SwAV
from gadkit.train import Plan, learn

METHODS = {
    "simclr": SimCLR,
    "mocov3": MoCoV3,
    "byol": BYOL,
    "swav": lambda encoder: SwAV(encoder, prototypes=16, small=2),
    "dino": lambda encoder: DINO(encoder, prototypes=64, small=2),
    "dinov2": lambda encoder: DINO(encoder, prototypes=64, small=2, ibot=1.0, koleo=0.1),
    "dinov2, sinkhorn": lambda encoder: DINO(encoder, prototypes=64, small=2, ibot=1.0, koleo=0.1, balance="sinkhorn"),
    "mae": lambda encoder: MAE(encoder, width=32, depth=1, heads=2),
}


@pytest.fixture
def make(small: Callable) -> Callable:
    """A function that makes a method with a small encoder, by its name."""
    return lambda name, **options: METHODS[name](small(**options))


def losses_of(method: nn.Module, photographs: torch.Tensor, plan: Plan) -> torch.Tensor:
    """The loss of every step."""
    losses, step = [], method.loss
    method.loss = lambda views: losses.append(step(views)) or losses[-1]
    learn(method, {"images": photographs}, plan)
    return torch.stack(losses).detach()


@pytest.mark.parametrize("name", METHODS)
def test_its_loss_falls(make: Callable, name: str, photographs: torch.Tensor) -> None:
    method = make(name).train()
    if getattr(method, "balance", None) == "centre":  # it starts far from where it belongs: the loss rises till it is
        with torch.no_grad():
            for _ in range(30):
                method.loss(method.views({"images": photographs[:16]}))
    losses = losses_of(method, photographs, Plan(steps=20, lr=3e-3, warmup=2, batch=16))
    assert losses.isfinite().all()
    assert losses[-4:].mean() < losses[:4].mean()


@pytest.mark.parametrize("name", METHODS)
def test_it_takes_encoders_of_other_sizes(make: Callable, name: str, photographs: torch.Tensor) -> None:
    sizes = {"image_size": 48, "patch_size": 16, "width": 24, "depth": 1, "heads": 3, "positions": "learnt"}
    method = make(name, **sizes, registers=2).train()  # three patches a side: small views hold one
    method.loss(method.views({"images": photographs[:16]})).backward()
    learner = method.student if isinstance(method, DINO) else method.encoder
    assert learner.registers.grad.abs().sum() > 0
    assert learner.blocks[0].qkv.weight.grad.isfinite().all()


@pytest.mark.parametrize("name", METHODS)
def test_its_state_comes_back(make: Callable, name: str, photographs: torch.Tensor) -> None:
    method, other = make(name), make(name)
    learn(method, {"images": photographs}, Plan(steps=2, lr=1e-3, warmup=1, batch=16))
    kept = {k: v for k, v in method.state_dict().items() if not k.startswith(method.transient)}
    missing, unexpected = other.load_state_dict(kept, strict=False)
    assert not unexpected
    assert all(key.startswith(method.transient) for key in missing)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(method.eval().encoder(x), other.eval().encoder(x))


@pytest.mark.parametrize("name", ["mocov3", "byol", "dino", "dinov2"])
def test_no_gradient_reaches_the_teacher_and_it_follows(make: Callable, name: str, photographs: torch.Tensor) -> None:
    method = make(name)
    teacher = method.encoder if name.startswith("dino") else method.teacher
    before = [p.clone() for p in teacher.parameters()]
    method.train()
    method.loss(method.views({"images": photographs[:16]})).backward()
    assert all(p.grad is None for p in teacher.parameters())
    with torch.no_grad():
        for p in method.parameters():
            if p.grad is not None:
                p.sub_(p.grad)
    method.after_step(0.5)
    assert any(not torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))


def forget(network: nn.Module) -> None:
    """Make a network answer the same to everything."""
    for parameter in network.parameters():
        nn.init.zeros_(parameter)


def collapsed(method: nn.Module) -> nn.Module:
    """A method whose encoder answers 1 to everything, with heads that prefer no cluster and paint in grey."""
    method.eval()  # statistics of batches at their start, so that equal stays equal
    for network in (method.encoder, getattr(method, "student", None), getattr(method, "teacher", [None])[0]):
        if network is not None:
            forget(network)
            nn.init.ones_(network.norm.bias)
    for part in ("head", "student_head") if isinstance(method, SwAV | DINO) else ():
        if hasattr(method, part):
            forget(getattr(method, part))
    if isinstance(method, MAE):
        forget(method.paint)
    if isinstance(method, BYOL):
        method.predictor = nn.Identity()  # which the teacher does not have
    return method


@pytest.mark.parametrize("name", METHODS)
def test_a_collapsed_network_costs_what_is_shown(make: Callable, name: str, photographs: torch.Tensor) -> None:
    method = collapsed(make(name))
    loss = method.loss(method.views({"images": photographs[:16]}))
    assert loss.item() == pytest.approx(method.collapse(16), rel=1e-3, abs=1e-5)


def test_simclr_is_its_equation(make: Callable, photographs: torch.Tensor) -> None:
    method = make("simclr").eval()
    views = method.views({"images": photographs[:8]})
    z = [method.head(method.encoder(v)[:, 0]) for v in views]
    assert torch.allclose(method.loss(views), nt_xent(*z, method.temperature))


def test_moco_asks_the_students_queries_of_a_teacher_that_has_followed(make: Callable, photographs) -> None:
    method = make("mocov3")
    old = [p.clone() for p in method.teacher.parameters()]
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(0.05 * torch.randn_like(p))
    method.after_step(0.0)
    now = [*method.encoder.parameters(), *method.head.parameters()]
    for a, b, c in zip(old, method.teacher.parameters(), now, strict=True):
        assert torch.allclose(b, 0.99 * a + 0.01 * c, atol=1e-6)
    views = method.views({"images": photographs[:8]})
    q = [method.predictor(method.head(method.encoder(v)[:, 0])) for v in views]
    k = [method.teacher[1](method.teacher[0](v)[:, 0]) for v in views]
    expected = info_nce(q[0], k[1], 0.2) + info_nce(q[1], k[0], 0.2)
    assert torch.allclose(method.loss(views), expected, rtol=1e-4)
    assert not any(p.requires_grad for p in method.encoder.patch.parameters())


def test_byol_predicts_the_other_view(make: Callable, photographs: torch.Tensor) -> None:
    method = make("byol").eval()
    a, b = method.views({"images": photographs[:8]})
    p = [method.predictor(method.head(method.encoder(v)[:, 0])) for v in (a, b)]
    z = [method.teacher[1](method.teacher[0](v)[:, 0]) for v in (a, b)]
    assert torch.allclose(method.loss([a, b]), byol_loss(p[0], z[1]) + byol_loss(p[1], z[0]), rtol=1e-5)


def test_byol_without_a_slow_teacher_has_none(make: Callable, photographs: torch.Tensor) -> None:
    method = BYOL(make("byol").encoder, momentum=0.0)
    learn(method, {"images": photographs}, Plan(steps=3, lr=1e-2, warmup=1, batch=16))
    for a, b in zip(method.teacher[0].parameters(), method.encoder.parameters(), strict=True):
        assert torch.equal(a, b)


def test_swavs_head_runs_over_all_crops(make: Callable, photographs: torch.Tensor) -> None:
    method = make("swav").train()
    views = method.views({"images": photographs[:8]})
    z = method.head(torch.cat([method.encoder(v)[:, 0] for v in views])).chunk(4)
    scores = [method.prototypes(one) for one in z]
    assert torch.allclose(method.loss(views), swav_loss(scores), rtol=1e-4)
    assert not torch.allclose(method.loss(views), swav_loss([method.scores(v) for v in views]), rtol=1e-4)


def test_swavs_queue_joins_in_when_it_is_full_and_its_time_has_come(make: Callable, photographs: torch.Tensor) -> None:
    method = SwAV(make("swav").encoder, prototypes=16, small=2, queue=12, queue_from=0.5).train()
    views = [method.views({"images": photographs[8 * i :][:8]}) for i in range(3)]
    z = [method.project(v).detach() for v in views]
    plain = [swav_loss([method.prototypes(one) for one in each]) for each in z]
    method.loss(views[0])
    assert torch.allclose(method.queue[1, :8], F.normalize(z[0][1], dim=1), atol=1e-5)
    method.queue_on.fill_(True)
    assert torch.allclose(method.loss(views[1]), plain[1], rtol=1e-4)  # 8 of 12 rows were there
    earlier = [method.prototypes(torch.cat([z[1][i], z[0][i][:4]])) for i in range(2)]
    scores = [method.prototypes(one) for one in z[2]]
    assert torch.allclose(method.loss(views[2]), swav_loss(scores, queue=earlier), rtol=1e-4)
    method.after_step(0.2)
    assert torch.allclose(method.loss(views[2]), plain[2], rtol=1e-4)
    method.after_step(0.6)
    assert not torch.allclose(method.loss(views[2]), plain[2], rtol=1e-4)
    assert not any(k.startswith(method.transient) for k in make("swav").state_dict() if "queue" not in k)


@pytest.mark.parametrize("name", ["mocov3", "byol"])
def test_the_first_view_is_blurred_always_and_the_second_seldom(make: Callable, name: str) -> None:
    first, second = make(name).view
    assert (first.blurred, first.solarised, second.blurred, second.solarised) == (1.0, 0.0, 0.1, 0.2)
    assert first.jitter == second.jitter == (0.4, 0.4, 0.2, 0.1)  # table 6
    assert first.size == second.size == 32


RECIPES = {  # betas, decay and its end, clipping: as in the official code
    MAE: ((0.9, 0.95), 0.05, None, math.inf),
    DINO: ((0.9, 0.999), 0.04, 0.4, 3.0),
    MoCoV3: ((0.9, 0.999), 0.1, None, math.inf),
}


@pytest.mark.parametrize("method", RECIPES)
def test_the_optimisers_constants_are_the_official_ones(method: type) -> None:
    recipe = method.recipe
    assert (recipe.betas, recipe.weight_decay, recipe.weight_decay_end, recipe.clip) == RECIPES[method]


@pytest.mark.parametrize(("name", "collapse"), [("simclr", math.log(95)), ("mocov3", 0.8 * math.log(48))])
def test_the_collapsed_loss_follows_the_batch(make: Callable, name: str, collapse: float) -> None:
    assert make(name).collapse(48) == pytest.approx(collapse)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("method", "options"),
    [
        (SimCLR, {"temperature": 0.0}),
        (MoCoV3, {"temperature": -0.2}),
        (MoCoV3, {"momentum": 1.1}),
        (BYOL, {"momentum": math.nan}),
        (SwAV, {"epsilon": 0.0}),
        (SwAV, {"queue": -1}),
        (DINO, {"student_temperature": math.nan}),
        (DINO, {"warmup_temperature": 0.0}),
        (DINO, {"frozen": 1.5}),
        (DINO, {"ibot": -1.0}),
    ],
)
def test_a_number_that_makes_no_sense_is_named(small: Callable, method: type, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}.*: expected"):
        method(small(), **options)


def test_swav_keeps_prototypes_still_and_then_on_the_sphere(make: Callable, photographs: torch.Tensor) -> None:
    method = make("swav")
    method.frozen = 0.5
    before = method.prototypes.weight.clone()
    learn(method, {"images": photographs}, Plan(steps=4, lr=1e-2, warmup=1, batch=16))
    assert torch.allclose(method.prototypes.weight.norm(dim=1), torch.ones(16), atol=1e-5)
    assert not torch.allclose(method.prototypes.weight, before, atol=1e-4)
    method = make("swav")
    method.frozen = 2.0
    learn(method, {"images": photographs}, Plan(steps=4, lr=1e-2, warmup=1, batch=16))
    assert torch.allclose(method.prototypes.weight, before, atol=1e-6)


def test_simclr_distorts_colours_in_full_unless_told(images: torch.Tensor) -> None:
    views = []
    for options in ({}, {"strength": 1.0}, {"strength": 1.5}):
        method = SimCLR(**options)
        torch.manual_seed(0)
        views.append(method.views({"images": images})[0])
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])
