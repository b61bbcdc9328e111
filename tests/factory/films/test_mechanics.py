"""Parts move as mechanics wants: free fall, springs, no slip, no sinking into the table; some films have no arrow."""

import math

import pytest
import torch

from gadkit.factory.draw import Draw
from gadkit.factory.films import mechanics
from gadkit.factory.films.mechanics import ACTIONS, FINE, GRAVITY, REVERSIBLE, TABLE, Body

COUNT, RADIUS = 400, 0.18


def disc(first: int = 0, count: int = COUNT) -> Body:
    return Body(Draw(torch.arange(first, first + count)), torch.full((count, 64), RADIUS), 8)


def square(count: int = COUNT) -> Body:
    angle = torch.arange(64) * (math.tau / 64)
    return Body(Draw(torch.arange(count)), (0.12 * (angle.sin().abs() + angle.cos().abs())).expand(count, -1), 8)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("shape", [disc, square])
def test_no_part_sinks_into_the_table_or_leaves_the_picture_for_good(action: str, shape) -> None:
    body = shape()
    path = ACTIONS[action](body)
    assert path.x.shape == path.y.shape == path.angle.shape == (COUNT, 7 * FINE + 1)
    assert (path.y + body.below(path.angle)).max() < TABLE + 1e-4
    assert ((path.x.mean(1) > 0.1) & (path.x.mean(1) < 0.9)).all()
    assert path.y[:, -1].min() > -RADIUS
    assert path.x.diff(dim=0).abs().max() > 0.1  # not all alike


def test_gravity_is_that_of_the_earth() -> None:
    assert pytest.approx(9.81) == GRAVITY * mechanics.FIELD * mechanics.RATE**2


@pytest.mark.parametrize("action", mechanics.AUDIBLE)
def test_between_impacts_everything_falls_alike(action: str) -> None:
    path = ACTIONS[action](disc())
    bend = path.y.diff(n=2, dim=1) * FINE**2  # (n, steps - 2)
    flying = (bend - GRAVITY).abs() < 0.02 * GRAVITY
    landed = path.hits[:, :1] * FINE < torch.arange(2, bend.shape[1] + 2)
    assert (flying | landed).all()
    assert flying[:, :10].all()


def test_an_impact_gives_back_a_share_of_the_speed() -> None:
    body = disc()
    path, spring = mechanics.bounce(body), body.any("spring", 0.65, 0.85)
    row = torch.arange(COUNT)
    last_before = ((path.hits[:, 0] * FINE).floor().long()).clamp(max=7 * FINE - 4)
    velocity = path.y.diff(dim=1) * FINE
    after = velocity[row, last_before + 2] - GRAVITY * (last_before + 2.5 - path.hits[:, 0] * FINE) / FINE
    assert torch.allclose(-after / path.speeds[:, 0], spring[:, 0], atol=0.04)
    fallen = path.speeds[:, 0] ** 2 / (2 * GRAVITY)  # from the height at which its speed was 0
    began = path.y[:, 0] - (velocity[:, 0] - GRAVITY / FINE / 2) ** 2 / (2 * GRAVITY)
    assert torch.allclose(fallen, TABLE - RADIUS - began, atol=0.02)


def test_impacts_come_in_order_at_the_moment_of_contact() -> None:
    for action in mechanics.AUDIBLE:
        path = ACTIONS[action](disc())
        assert (path.hits[:, 0] < 5.1).all()  # every clip of a falling part has its impact
        assert (path.hits.diff(dim=1).nan_to_num(1.0, 1.0) > 0).all()
        assert torch.equal(path.speeds > 0, path.hits.isfinite())
        step = path.hits[:, 0] * FINE
        near = (TABLE - RADIUS - path.y).abs()[torch.arange(COUNT), step.round().long()]
        assert near.max() < 0.02


@pytest.mark.parametrize("shape", [disc, square])
def test_what_rolls_does_not_slip(shape) -> None:
    body = shape()
    path = mechanics.roll(body)
    middle = (path.angle[:, 1:] + path.angle[:, :-1]) / 2
    assert torch.allclose(path.x.diff(dim=1), body.below(middle) * path.angle.diff(dim=1), atol=2e-4)


def test_a_rim_that_has_caught_the_table_rolls() -> None:
    path = mechanics.tumble(disc())
    step, turn = path.x.diff(dim=1)[:, -1], path.angle.diff(dim=1)[:, -1]
    assert torch.allclose(step, turn * RADIUS, atol=1e-4)


def test_friction_stops_a_slide_and_a_square_lies_flat() -> None:
    path = mechanics.brake(square())
    speed = path.x.diff(dim=1).abs()
    assert (speed.diff(dim=1) < 1e-5).all()
    assert (speed[:, -1] == 0).all()
    assert (speed[:, 0] > 0).all()
    lean = torch.remainder(path.angle[:, 0] + math.pi / 4, math.pi / 2) - math.pi / 4
    assert lean.abs().max() < 1e-4


def test_a_pendulum_of_small_amplitude_keeps_its_energy_roughly() -> None:
    path = mechanics.swing(disc())
    speed = (path.x.diff(dim=1) ** 2 + path.y.diff(dim=1) ** 2) * FINE**2
    energy = speed / 2 - GRAVITY * (path.y[:, 1:] + path.y[:, :-1]) / 2
    swing = (speed / 2).amax(1) - (speed / 2).amin(1)
    assert ((energy.amax(1) - energy.amin(1)) < 0.35 * swing + 2e-4).all()


@pytest.mark.parametrize("action", ACTIONS)
def test_only_a_loss_of_energy_gives_time_an_arrow(action: str) -> None:
    """Speed, height and turn late in a clip against early: a difference of random sign where a film can be reversed."""
    path = ACTIONS[action](disc(1000, 2000))
    speed = (path.x.diff(dim=1) ** 2 + path.y.diff(dim=1) ** 2).sqrt() * FINE
    half = speed.shape[1] // 2
    signs = []
    for late, early in ((speed[:, half:], speed[:, :half]), (path.y[:, -half:], path.y[:, :half])):
        change = late.mean(1) - early.mean(1)
        signs.append(((change > 1e-5).float().mean() - (change < -1e-5).float().mean()).abs())
    if action in REVERSIBLE:
        assert max(signs) < 0.08
    else:
        assert max(signs) > 0.3
