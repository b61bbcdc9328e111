"""Both sides of the training benchmark learn the same thing from the same kind of views, or their times say nothing."""

import math

import pytest
import torch
from torch import Tensor, nn

from benchmarks import best, training
from benchmarks._lightly import EXAMPLES, loader
from benchmarks.training import rows
from gadkit import methods
from gadkit.factory.pool import unlabelled
from gadkit.losses import mae_loss
from gadkit.nn import ViT, patchify

every_method = pytest.mark.parametrize("name", EXAMPLES)


def build(name: str) -> nn.Module:
    """A small one of a method."""
    return methods.build(name, encoder=ViT(32, 8, 32, 2, 2)).train()


@pytest.fixture(scope="module")
def pool() -> Tensor:
    """Photographs of the factory, uint8, (96, 3, 96, 96)."""
    return unlabelled(96).images


def our_loss(method: nn.Module, views: list[Tensor]) -> Tensor:
    """The loss, with the masks of a masked autoencoder drawn as lightly draws them: one number too many an image."""
    if len(views) > 1:
        return method.loss(views)
    noise = torch.rand(len(views[0]), method.encoder.side**2 + 1)[:, 1:]
    prediction, mask = method(views[0], noise)
    return mae_loss(prediction, patchify(views[0], method.patch), mask, method.norm_pix)


@every_method
def test_both_sides_have_the_same_losses_for_three_steps(name: str, pool: Tensor) -> None:
    method = build(name)
    example = EXAMPLES[name](method).train()
    views, losses = method.views({"images": pool[:16]}), []
    for side, loss in ((method, lambda v: our_loss(method, v)), (example, example)):
        optimiser = torch.optim.SGD([p for p in side.parameters() if p.requires_grad], lr=0.1)
        losses.append([])
        for step in range(3):
            torch.manual_seed(step)
            value = loss(views)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            side.after_step(*([0.0] if side is method else []))
            losses[-1].append(value.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert abs(losses[0][2] - losses[0][0]) > 1e-3  # so the steps were compared, too


@every_method
def test_both_sides_make_views_alike(name: str, pool: Tensor) -> None:
    method = build(name)
    ours = method.views({"images": pool})
    (theirs,) = loader(pool, EXAMPLES[name](method), len(pool), workers=0)
    assert [v.shape for v in ours] == [v.shape for v in theirs]
    for one, two in zip(ours, theirs, strict=True):
        assert abs(one.mean() - two.mean()) < 0.3  # of 96 images whose brightness is shaken
        for spread in (torch.std, lambda v: v.diff(dim=3).abs().mean(), lambda v: v.std(1).mean()):  # edges, colours
            assert spread(one).item() == pytest.approx(spread(two).item(), rel=0.3)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # torch's worker processes
def test_rows_hold_throughputs_and_their_ratio() -> None:
    settings = {"batch": 8, "steps": 2, "rounds": 1}
    table = {what: value for what, value, _ in rows(("mae",), **settings, workers=(0, 1))}
    assert all(math.isfinite(value) and value > 0 for value in table.values())
    for part in ("whole loop", "views only"):
        sides = {side: table[f"mae, {part}, lightly, {side} workers"] for side in ("no", "1")}
        fastest = max(sides, key=sides.get)
        ratio = table[f"mae, {part}, gadkit / lightly, {fastest} workers"]
        assert ratio == pytest.approx(table[f"mae, {part}, gadkit"] / sides[fastest])
    ratio = table["mae, network only, gadkit / lightly"]
    assert ratio == pytest.approx(table["mae, network only, gadkit"] / table["mae, network only, lightly"])


@pytest.mark.parametrize("name", ["simclr", "dino"])
def test_the_other_methods_are_measured_as_well(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plans, fit = [], training.fit
    monkeypatch.setattr(training, "fit", lambda m, loss, plan, **rest: plans.append(plan) or fit(m, loss, plan, **rest))
    table = {what: value for what, value, _ in rows((name,), batch=8, steps=1, rounds=1, workers=(0,))}
    assert len(table) == 9
    assert {plan.collapse for plan in plans} == {build(name).collapse(8)}, "that of the batch in force"
    assert all(math.isfinite(value) and value > 0 for value in table.values())


def test_without_lightly_there_is_nothing_to_compare_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.training.find_spec", lambda name: None)
    ((what, value, unit),) = rows()
    assert (what, unit) == ("lightly", "not installed")
    assert math.isnan(value)


def test_the_fewest_seconds_count_and_the_first_round_does_not() -> None:
    ticks = iter([0.0, 1.0, 0.0, 2.0, 0.0, 9.0, 0.0, 5.0, 0.0, 7.0, 0.0, 6.0])
    order = []  # of two sides, in three rounds, each with a start and an end
    sides = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    assert best(sides, rounds=2, clock=lambda: next(ticks)) == {"a": 7, "b": 5}
    assert order == ["a", "b"] * 3
    with pytest.raises(ValueError, match="rounds: expected at least 1, got 0"):
        best(sides, rounds=0)
