"""Drawing prompts for SEEM's lessons: a part of a scene, and what somebody might give to mean it.

Book: objects/seem
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gadkit.factory.scenes.words import same_kind
from gadkit.objects.seem import SAMPLES, box_points, region_points, text_ids
from gadkit.objects.seem_network import BOX, NONE, OFF, ON, REGION, SCRIBBLE, Prompts
from gadkit.objects.training.lessons import Lessons

NAMELESS = 0.3  # share of the texts in which every noun is "part": what is said of parts that have no name yet
SPOKEN = 0.55  # share of the prompts that have a text, where there is one
VISUAL = (0.45, 0.15, 0.15, 0.10, 0.15)  # clicks, a box, a scribble, a region, nothing to be seen
MASK = 48  # side of the masks that are learnt from


@dataclass(frozen=True)
class Asked:
    """r prompts, the masks that they mean at full size, and the scenes that the images of the batch are."""

    prompts: Prompts
    masks: Bool[Tensor, "r s s"]
    scenes: list[int]


def draw(held: Lessons, images: int, rows: int, generator: torch.Generator) -> Asked:
    """Prompts for `rows` parts in each of `images` scenes.  A region's scene joins the batch."""
    chosen = torch.randint(len(held), (images,), generator=generator).tolist()
    scenes, texts, made = [*chosen], [], []
    for at, scene in enumerate(chosen):
        things = held.things[scene]
        for _ in range(rows if things else 0):
            part = int(torch.randint(len(things), (), generator=generator))
            mask = held.instances[scene] == part + 1
            text = _text(things, part, generator)
            kind = int(torch.multinomial(torch.tensor(VISUAL), 1, generator=generator))
            kind = 0 if kind == 4 and not text else kind
            source = _like(held, scene, part, chosen) if kind == 3 else None
            kind = 0 if kind == 3 and source is None else kind
            if source is not None:
                scenes.append(source[0])
            points, kinds = _visual(kind, mask, None if source is None else source[1], generator)
            made.append((at, points, kinds, at if source is None else len(scenes) - 1, mask))
            texts.append(text)
    at, points, kinds, sources, masks = zip(*made, strict=True)
    prompts = Prompts(
        torch.tensor(at), torch.stack(points), torch.stack(kinds), torch.tensor(sources), _ids(texts), _nothing(len(at))
    )
    return Asked(prompts, torch.stack(masks), scenes)


def _nothing(rows: int) -> Float[Tensor, "r l l"]:
    return torch.full((rows, MASK, MASK), float("nan"))


def _ids(texts: list[str]) -> Int[Tensor, "r t"]:
    return torch.cat([_row(text or "part") * bool(text) for text in texts])


@cache
def _row(text: str) -> Int[Tensor, "1 t"]:
    return text_ids([text], 24)


def _text(things, part: int, generator: torch.Generator) -> str:
    """One of the thing's expressions, at times with "part" for its noun and others', or ""."""
    words = things[part].expressions
    u = torch.rand(3, generator=generator).tolist()
    fitting = [one for one in words if len(one) < 56]  # longer ones may not fit into the context
    if not fitting or u[0] > SPOKEN:
        return ""
    text = fitting[int(u[1] * len(fitting))]
    if u[2] < NAMELESS:
        for noun in sorted({thing.noun for thing in things}, key=len, reverse=True):
            text = text.replace(noun, "part")
        return "" if text == "the part" else text
    return text


def _like(held: Lessons, scene: int, part: int, chosen: list[int]) -> tuple[int, Tensor] | None:
    """Another scene of the batch with a part of the same category, and its mask; None if this one is not alone."""
    kind = held.things[scene][part].category
    if sum(same_kind(thing.category, kind) for thing in held.things[scene]) > 1 or kind.startswith("random"):
        return None
    for other in chosen:
        for place, thing in enumerate(held.things[other]):
            if other != scene and thing.category == kind:
                return other, held.instances[other] == place + 1
    return None


def _visual(kind: int, mask: Bool[Tensor, "s s"], other: Tensor | None, generator) -> tuple[Tensor, Tensor]:
    """`SAMPLES` points with their kinds."""
    points, kinds = torch.zeros(SAMPLES, 2), torch.full((SAMPLES,), NONE)
    if kind == 0:
        on, off = 1 + int(3 * torch.rand((), generator=generator) ** 2), int(torch.rand((), generator=generator) * 1.5)
        points[:on], kinds[:on] = pick(mask[None].expand(on, -1, -1), generator), ON
        points[on : on + off] = pick(~mask[None].expand(off, -1, -1), generator)
        kinds[on : on + off] = OFF
    elif kind == 1:
        places = mask.nonzero().flip(1).float()
        corners = torch.stack([places.amin(0), places.amax(0) + 1]) / len(mask)
        corners = (corners + 0.02 * torch.randn(2, 2, generator=generator)).clamp(0, 1)
        points, kinds[:] = box_points(corners[None])[0], BOX
    elif kind == 2:
        ends = pick(mask[None].expand(2, -1, -1), generator)
        stroke = torch.lerp(ends[0], ends[1], torch.linspace(0, 1, SAMPLES)[:, None])
        cells = (stroke * len(mask)).long().clamp(max=len(mask) - 1)
        points, kinds = stroke, torch.where(mask[cells[:, 1], cells[:, 0]], SCRIBBLE, NONE)
        points[0], kinds[0] = ends[0], SCRIBBLE
    elif kind == 3:
        points, kinds[:] = region_points(other), REGION
    return points, kinds


def pick(masks: Bool[Tensor, "n s s"], generator: torch.Generator) -> Float[Tensor, "n 2"]:
    """A random point of each mask, as shares of the side; anywhere for an empty one."""
    side, places = masks.shape[-1], []
    for mask, u in zip(masks.flatten(1).numpy(), torch.rand(len(masks), generator=generator).tolist(), strict=True):
        some = np.flatnonzero(mask)
        places.append(some[int(u * len(some))] if len(some) else int(u * side**2))
    found = torch.tensor(places, dtype=torch.long)
    return (torch.stack([found % side, found // side], 1) + 0.5) / side


def turn(asked: Asked, logits: Float[Tensor, "r l l"], generator: torch.Generator) -> Prompts:
    """The next turn: a click on the larger error of an answer, and the answer itself as memory."""
    mine = torch.nn.functional.interpolate(logits[:, None], asked.masks.shape[1:], mode="bilinear")[:, 0] > 0
    missed, extra = asked.masks & ~mine, mine & ~asked.masks
    more = missed.flatten(1).sum(1) >= extra.flatten(1).sum(1)
    clicks = pick(torch.where(more[:, None, None], missed, extra), generator)
    p = asked.prompts
    points = torch.cat([p.points, clicks[:, None]], 1)
    kinds = torch.cat([p.kinds, torch.where(more, ON, OFF)[:, None]], 1)
    return replace(p, points=points, kinds=kinds, before=logits)
