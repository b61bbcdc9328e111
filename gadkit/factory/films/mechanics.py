"""How parts move: eight kinds of motion before a high-speed camera, with gravity, a table and impacts.

Lengths count in image sides, y downwards, and time in frames; the camera sees `FIELD` metres at `RATE` frames a second,
so both are metres and seconds in disguise.  Angles turn x towards y: clockwise, as one sees it.

The four motions in `REVERSIBLE` follow laws that are the same backwards, and start anywhere on their way, so that
nothing shows which way their film runs.  A loss of energy is what gives time its arrow in the four others.

Book: pretext/context, pretext/crossmodal
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit.factory.draw import Draw, Number

FIELD, RATE = 0.125, 50  # metres from left to right, frames a second
GRAVITY = 9.81 / FIELD / RATE**2  # image sides a frame squared: 2 pixels of 64
TABLE = 0.9  # where parts touch it
FINE = 16  # steps a frame
IMPACTS = 4  # recorded at most
_GENTLE = 0.012  # impacts slower than this, 0.075 m/s, end in rest: below the click of a part that settles

Column = Float[Tensor, "n 1"]
Range = tuple[Number, Number]


@dataclass(frozen=True)
class Path:
    """Centre and angle of each body at every fine step, and its impacts: when, and how fast (infinity, 0 for none)."""

    x: Float[Tensor, "n steps"]
    y: Float[Tensor, "n steps"]
    angle: Float[Tensor, "n steps"]
    hits: Float[Tensor, "n k"] | None = None
    speeds: Float[Tensor, "n k"] | None = None


class Body:
    """The moving parts: random numbers with names, and how far each outline reaches down when it is turned.

    `reach` (n, a) holds, for a equally spaced angles of the full turn, how far below the centre the lowest point lies.
    """

    def __init__(self, draw: Draw, reach: Float[Tensor, "n a"], frames: int) -> None:
        self.draw, self.reach = draw, reach
        self.times = torch.arange((frames - 1) * FINE + 1, device=reach.device) / FINE  # (steps)
        self.middle = (frames - 1) / 2

    def any(self, name: str, low: Number, high: Number) -> Column:
        """Uniform on [low, high)."""
        return self.draw.uniform(name, low, high)[:, 0]

    def either_way(self, name: str, low: Number, high: Number) -> Column:
        """The same with a random sign."""
        return self.any(name, low, high) * (2 * self.draw.chance(f"{name} sign")[:, 0] - 1)

    def below(self, angle: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """How far down the outline reaches at any angle, interpolated."""
        count = self.reach.shape[1]
        at = torch.remainder(angle / math.tau, 1) * count
        low = at.floor()
        near, far = (self.reach.gather(1, torch.remainder(low + i, count).long()) for i in (0, 1))
        return torch.lerp(near, far, at - low)

    def at_rest(self) -> Column:
        """An angle at which it stays as it is: the nearest valley of its reach from any angle."""
        count = self.reach.shape[1]
        at = (self.any("angle", 0, 1) * count).long()
        step = torch.tensor([0, -1, 1], device=at.device)
        for _ in range(count // 2):
            near = torch.remainder(at + step, count)  # (n, 3): as it is, and turned either way
            at = near.gather(1, self.reach.gather(1, near).argmin(1, keepdim=True))
        return at * (math.tau / count)


ACTIONS: dict[str, Callable[[Body], Path]] = {}


def _action(move: Callable[[Body], Path]) -> Callable[[Body], Path]:
    ACTIONS[move.__name__] = move
    return move


@_action
def slide(body: Body) -> Path:
    """On a belt, at constant speed, without turning."""
    angle = body.at_rest().expand(-1, len(body.times))
    x = body.any("x", 0.38, 0.62) + body.either_way("speed", 0.03, 0.07) * (body.times - body.middle)
    return Path(x, TABLE - body.below(angle), angle)


@_action
def roll(body: Body) -> Path:
    """Along the table at a constant rate of turn, without slipping: a step to the side is reach times turn."""
    rate = body.either_way("rate", 0.15, 0.4)
    angle = body.any("angle", 0, math.tau) + rate * (body.times - body.middle)
    below = body.below(angle)
    ahead = torch.cumsum((below[:, 1:] + below[:, :-1]) / 2 * rate / FINE, 1)  # trapezia
    ahead = torch.cat([torch.zeros_like(rate), ahead], 1)
    return Path(body.any("x", 0.38, 0.62) + ahead - ahead.mean(1, keepdim=True), TABLE - below, angle)


@_action
def spin(body: Body) -> Path:
    """In place, on an axle, at a constant rate."""
    angle = body.any("angle", 0, math.tau) + body.either_way("rate", 0.15, 0.5) * (body.times - body.middle)
    return Path(*(body.any(axis, 0.32, 0.62).expand_as(angle) for axis in "xy"), angle)


@_action
def swing(body: Body) -> Path:
    """As a pendulum on a thread too thin to see: small-angle law, any phase."""
    length = body.any("length", 0.35, 0.6)
    phase = body.any("phase", 0, math.tau) + (GRAVITY / length).sqrt() * (body.times - body.middle)
    lean = body.any("amplitude", 0.4, 0.75) * phase.sin()
    x = body.any("x", 0.42, 0.58) + length * lean.sin()
    y = body.any("y", 0.5, 0.66) - length * (1 - lean.cos())
    return Path(x, y, body.any("angle", 0, math.tau) - lean)


@_action
def fall(body: Body) -> Path:
    """Let go, it drops without turning, lands, and hardly springs back."""
    return _flight(body, contact=(1.5, 5.0), before=(0.0, 1.5), springs=(0.1, 0.25))


@_action
def bounce(body: Body) -> Path:
    """Dropped, and springs back from the table with most of its speed, without turning."""
    return _flight(body, contact=(0.8, 3.2), before=(1.0, 3.5), springs=(0.65, 0.85), speed=(0.0, 0.04))


@_action
def tumble(body: Body) -> Path:
    """Thrown, it turns as it flies; the table catches its rim, so that it rolls on or turns back."""
    thrown = {"speed": (0.02, 0.06), "rate": (0.25, 0.6), "rough": True}
    return _flight(body, contact=(1.5, 4.5), before=(-0.7, 1.0), springs=(0.3, 0.55), **thrown)


@_action
def brake(body: Body) -> Path:
    """Slides to a halt: friction of 0.3 to 0.6 times its weight."""
    angle = body.at_rest().expand(-1, len(body.times))
    slow, halt = GRAVITY * body.any("friction", 0.3, 0.6), body.any("halt", 3.5, 6.0)
    left = (halt - body.times).clamp(min=0)  # until it stands
    side = body.either_way("side", 1, 1)
    x = body.any("x", 0.4, 0.6) + side * slow * (halt**2 / 4 - left**2 / 2)
    return Path(x, TABLE - body.below(angle), angle)


REVERSIBLE = ("slide", "roll", "spin", "swing")
AUDIBLE = ("fall", "bounce", "tumble")  # those that end in an impact


def _flight(
    body: Body,
    contact: Range,
    before: Range,
    springs: Range,
    speed: Range = (0.0, 0.0),
    rate: Range = (0.0, 0.0),
    rough: bool = False,
) -> Path:
    """Free fall between impacts, in fine steps that are exact for a parabola.

    `contact`: when it first touches the table, in frames; `before`: for how long it had then been falling when the
    film began, negative (by less than half of `contact`) for one that still rises; `springs`: the share of the speed
    that an impact gives back; `speed` to the side and `rate` of turn.  Where it is `rough`, an impact also takes the
    slip out of the rim that touches the table, as it does for a disc of even thickness: its momentum and its spin share
    what was slip 1 : 2.  A corner that turns into the table lifts the body.
    """
    dt, spring = 1 / FINE, body.any("spring", *springs)
    vx, turn = body.either_way("speed", *speed), body.either_way("rate", *rate)
    angle = body.any("angle", 0, math.tau) if rough else body.at_rest()
    vy, due = GRAVITY * body.any("before", *before), body.any("due", *contact)
    x = body.any("x", 0.38, 0.62) - vx * body.middle
    y = TABLE - body.below(angle + turn * due) - vy * due - GRAVITY * due**2 / 2
    y = torch.minimum(y, TABLE - body.below(angle))
    steps, hits, speeds = [(x, y, angle)], [], []
    for now in body.times[1:]:
        x, y, angle, vy = x + vx * dt, y + vy * dt + GRAVITY * dt**2 / 2, angle + turn * dt, vy + GRAVITY * dt
        below = body.below(angle)
        deep = y + below - TABLE
        touch = (deep > 0) & (vy > 0)
        hit = touch & (vy > _GENTLE)
        hits.append(torch.where(hit, now - deep / vy, math.inf))
        speeds.append(torch.where(hit, vy, 0.0))
        if rough:
            slip = torch.where(touch, vx - turn * below, 0.0)
            vx, turn = vx - slip / 3, turn + 2 / 3 * slip / below
        y = torch.minimum(y, TABLE - below)
        vy = torch.where(hit, -spring * vy, torch.where(touch, 0.0, vy))
        steps.append((x, y, angle))
    order = torch.cat(hits, 1).sort(1)
    first = order.indices[:, :IMPACTS]
    return Path(
        *(torch.cat(column, 1) for column in zip(*steps, strict=True)),
        order.values[:, :IMPACTS],
        torch.cat(speeds, 1).gather(1, first),
    )
