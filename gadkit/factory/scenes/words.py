"""What can be said of the parts of a scene: a plain colour, and expressions that are true of one part only.

Book: intro/factory
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from gadkit.factory.catalogue import lookup
from gadkit.factory.scenes.compose import Composed
from gadkit.factory.scenes.orders import Orders

COLOURS = ("black", "white", "grey", "red", "orange", "brown", "yellow", "green", "blue", "purple", "pink")
PLAIN = 0.5  # share of a part's visible pixels that its colour has to have
APART = 0.15  # of the side: how far apart two centres are before one counts as left of or above the other
LARGER = 1.3  # ratio of two visible areas before one counts as larger


@dataclass(frozen=True)
class Thing:
    """A part in a scene.

    `box` is (left, top, right, bottom) of the visible part in pixels, right and bottom beyond the last one.
    `visible` is the share of the part inside the frame that nothing covers.  `colour` and `defect` may be "".
    `over` are the places of the things that it lies on.  Each of `expressions` is true of this thing alone.
    """

    category: str
    noun: str
    colour: str
    box: tuple[float, float, float, float]
    visible: float
    defect: str
    over: tuple[int, ...]
    expressions: tuple[str, ...]


def colours(images: UInt8[Tensor, "b 3 h w"]) -> Int[Tensor, "b h w"]:
    """The plain colour of every pixel, as a place in `COLOURS`."""
    r, g, b = rgb = (images.float() / 255).unbind(1)
    value, low = torch.stack(rgb).amax(0), torch.stack(rgb).amin(0)
    chroma = (value - low).clamp(min=1e-6)
    hue = torch.where(value == r, (g - b) / chroma, torch.where(value == g, 2 + (b - r) / chroma, 4 + (r - g) / chroma))
    hue, saturation = (hue % 6) / 6, (value - low) / value.clamp(min=1e-6)
    edges = torch.tensor([0.03, 0.11, 0.19, 0.45, 0.70, 0.83, 0.94], device=images.device)
    names = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "red")
    warm = torch.tensor([COLOURS.index(name) for name in names], device=images.device)
    named = warm[torch.bucketize(hue, edges)]
    brown = ((named == COLOURS.index("orange")) | (named == COLOURS.index("yellow"))) & (value < 0.6)
    named = torch.where(brown, COLOURS.index("brown"), named)
    neutral = torch.where(value > 0.8, COLOURS.index("white"), COLOURS.index("grey"))
    named = torch.where(saturation < 0.2, neutral, named)
    return torch.where(value < 0.22, COLOURS.index("black"), named)


def same_kind(first: str, second: str) -> bool:
    """Whether two categories share a word, so that this word alone does not tell their parts apart."""
    return bool({*lookup(first).nouns} & {*lookup(second).nouns})


def describe(order: Orders, done: Composed) -> list[tuple[Thing, ...]]:
    """The things of every scene, a tuple a scene, bottom to top."""
    kept, over, areas, most = done.kept, done.over, done.areas, done.kept.shape[1]
    masks = done.instances[:, None] == torch.arange(1, most + 1, dtype=torch.uint8)[:, None, None]  # (b, k, s, s)
    pixels = colours(done.images)
    counts = torch.stack([(masks & (pixels == c)[:, None]).flatten(2).sum(2) for c in range(len(COLOURS))], 2)
    boxes, visible, plain = _boxes(masks).tolist(), masks.flatten(2).sum(2), counts.argmax(2)
    shares = counts.amax(2) / visible.clamp(min=1)
    return [
        _scene(
            [
                Thing(
                    order.kinds[i][k],
                    order.nouns[i][k],
                    COLOURS[plain[i, place]] if shares[i, place] >= PLAIN else "",
                    tuple(boxes[i][place]),
                    float(visible[i, place] / areas[i, k]),
                    order.defects[i][k],
                    tuple(n for n, other in enumerate(here) if over[i, k, other]),
                    (),
                )
                for place, k in enumerate(here)
            ],
            visible[i].tolist(),
            masks.shape[-1],
        )
        for i, here in enumerate(row.nonzero()[:, 0].tolist() for row in kept)
    ]


def _boxes(masks: Bool[Tensor, "b k s s"]) -> Float[Tensor, "b k 4"]:
    """The boxes of masks; of an empty one anything."""
    side = masks.shape[-1]
    columns, rows = masks.any(2), masks.any(3)

    def ends(line: Bool[Tensor, "b k s"]) -> tuple[Tensor, Tensor]:
        line = line.int()
        return line.argmax(2), side - line.flip(2).argmax(2)

    (left, right), (top, bottom) = ends(columns), ends(rows)
    return torch.stack([left, top, right, bottom], 2).float()


def _scene(things: list[Thing], areas: list[int], side: int) -> tuple[Thing, ...]:
    """The same things with their expressions."""
    said = [expressions(things, areas, side, place) for place in range(len(things))]
    return tuple(Thing(**{**vars(t), "expressions": words}) for t, words in zip(things, said, strict=True))


def expressions(things: list[Thing], areas: list[int], side: int, place: int) -> tuple[str, ...]:
    """What is true of the thing at `place` and of no other: by name, colour, size, position and what it lies on."""
    me = things[place]
    alike = [n for n, t in enumerate(things) if same_kind(t.category, me.category)]
    rivals = [n for n in alike if n != place]
    unique = [n for n, t in enumerate(things) if sum(same_kind(t.category, o.category) for o in things) == 1]
    centre = [((t.box[0] + t.box[2]) / 2, (t.box[1] + t.box[3]) / 2) for t in things]
    gap, found = APART * side, []
    if not rivals:
        found.append(f"the {me.noun}")
    if me.colour and all(things[n].colour not in ("", me.colour) for n in rivals):
        found.append(f"the {me.colour} {me.noun}")
    if rivals:
        if all(areas[place] > LARGER * areas[n] for n in rivals):
            found.append(f"the largest {me.noun}")
        if all(LARGER * areas[place] < areas[n] for n in rivals):
            found.append(f"the smallest {me.noun}")
        for word, axis, sign in SIDES:
            if all(sign * (centre[n][axis] - centre[place][axis]) > gap for n in rivals):
                found.append(f"the {word} {me.noun}")
    for n in unique:
        if n == place:
            continue
        found += _beside(things, centre, gap, place, rivals, n)
    return tuple(found)


SIDES = (("leftmost", 0, 1), ("rightmost", 0, -1), ("topmost", 1, 1), ("bottommost", 1, -1))
RELATIONS = (("left of", 0, 1), ("right of", 0, -1), ("above", 1, 1), ("below", 1, -1))


def _beside(things, centre, gap, place, rivals, anchor) -> list[str]:
    """Relations to a part that its noun alone tells from all others."""
    me, it = things[place], things[anchor].noun
    colours_alike = [n for n in rivals if things[n].colour in ("", me.colour)]
    found = []
    for word, axis, sign in RELATIONS:

        def far(n: int, axis=axis, sign=sign) -> float:
            return sign * (centre[anchor][axis] - centre[n][axis])

        if far(place) > gap:
            if all(far(n) <= 0 for n in rivals):
                found.append(f"the {me.noun} {word} the {it}")
            elif me.colour and all(far(n) <= 0 for n in colours_alike):
                found.append(f"the {me.colour} {me.noun} {word} the {it}")
    if anchor in me.over and not any(anchor in things[n].over for n in rivals):
        found.append(f"the {me.noun} on the {it}")
    return found
