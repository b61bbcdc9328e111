"""Training the small SEEM: prompts of every kind alone and together, a second turn, and no prompt at all.

A prompt's loss falls on the query that answers it best so far, by its mask and by its match; the match learns to point
at this query.  Without a prompt, queries are matched one to one with all parts of a scene, and learn their names.

Source: Zou et al. 2023, Segment Everything Everywhere All at Once, section 3.2; the weights of the losses are ours.
Book: objects/seem
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from gadkit import runtime
from gadkit.objects import eyes, seem
from gadkit.objects.seem_network import NONE, Answer, Config, Encoded, Network, Prompts
from gadkit.objects.training import seem_prompts
from gadkit.objects.training.lessons import Lessons, lessons
from gadkit.objects.training.oneformer import SCENES
from gadkit.train import Plan, fit

STEPS = 4000
IMAGES, ROWS = 16, 3  # scenes a step, prompts a scene
MASKS, MATCH, IOU, NAME = 4.0, 0.5, 1.0, 0.3  # weights of the losses


def mask_loss(logits: Float[Tensor, "n h w"], target: Float[Tensor, "n h w"]) -> Float[Tensor, "n"]:
    """Binary cross-entropy plus dice of each mask, as Mask2Former weighs them: alike."""
    flat, true = logits.flatten(1), target.flatten(1)
    shares = flat.sigmoid()
    dice = 1 - (2 * (shares * true).sum(1) + 1) / (shares.sum(1) + true.sum(1) + 1)
    return F.binary_cross_entropy_with_logits(flat, true, reduction="none").mean(1) + dice


def _pairs(masks: Float[Tensor, "r q h w"], target: Float[Tensor, "r h w"]) -> Float[Tensor, "r q"]:
    """`mask_loss` of every query with its prompt's mask."""
    true = target[:, None].expand_as(masks)
    return mask_loss(masks.flatten(0, 1), true.flatten(0, 1)).unflatten(0, masks.shape[:2])


def prompted(answer: Answer, target: Float[Tensor, "r h w"]) -> Float[Tensor, ""]:
    """The loss of prompts whose masks are known, as shares of the cells."""
    costs = _pairs(answer.masks, target)
    choice = (costs - 0.3 * answer.match.log_softmax(1)).detach().argmin(1)  # (r,)
    rows = torch.arange(len(choice), device=choice.device)
    masks = [_one(masks[rows, choice], target) for masks in (answer.masks, *answer.earlier)]
    true = target[:, None] > 0.5
    mine = answer.masks.detach() > 0
    iou = (mine & true).sum((2, 3)) / (mine | true).sum((2, 3)).clamp(min=1)
    expected = F.binary_cross_entropy_with_logits(answer.iou, iou)
    return MASKS * torch.stack(masks).mean() + MATCH * F.cross_entropy(answer.match, choice) + IOU * expected


def _one(masks: Float[Tensor, "r h w"], target: Float[Tensor, "r h w"]) -> Float[Tensor, ""]:
    return mask_loss(masks, target).mean()


def unprompted(
    answer: Answer, targets: list[Float[Tensor, "_ h w"]], names: list[list[int]], words: Float[Tensor, "n c"]
) -> Float[Tensor, ""]:
    """The loss of scenes without a prompt: a query for each part, and its name among all of the batch."""
    losses, expected, named = [], torch.zeros_like(answer.iou), []
    for r, target in enumerate(targets):
        q, k = answer.masks.shape[1], len(target)
        costs = mask_loss(answer.masks[r].repeat_interleave(k, 0), target.repeat(q, 1, 1)).detach().view(q, k)
        queries, parts = map(torch.as_tensor, linear_sum_assignment(costs.cpu().numpy()))
        for masks in (answer.masks, *answer.earlier):
            losses.append(_one(masks[r, queries], target[parts]))
        mine, true = answer.masks[r, queries].detach() > 0, target[parts] > 0.5
        expected[r, queries] = (mine & true).sum((1, 2)) / (mine | true).sum((1, 2)).clamp(min=1)
        cosines = F.normalize(answer.concept[r, queries], dim=-1) @ words.T
        named.append(F.cross_entropy(10 * cosines, torch.tensor(names[r], device=cosines.device)[parts]))
    iou = F.binary_cross_entropy_with_logits(answer.iou, expected)
    return MASKS * torch.stack(losses).mean() + IOU * iou + NAME * torch.stack(named).mean()


def small(masks: Tensor) -> Float[Tensor, "n l l"]:
    """Masks as the shares of the cells that they cover."""
    return F.interpolate(masks[None].float(), (seem_prompts.MASK,) * 2, mode="area")[0]


def objective(network: Network, held: Lessons, seed: int, batch: int = IMAGES) -> Callable[[int], Tensor]:
    """The loss of a step, all randomness keyed by its number.

    Every second step is a second turn; the others ask for everything, too.
    """
    where = network.query.device

    def loss(step: int) -> Float[Tensor, ""]:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        asked = seem_prompts.draw(held, batch, ROWS, generator)
        image = network.encode([level.to(where) for level in held.draw(asked.scenes)])
        prompts = seem._on(asked.prompts, where)
        target = small(asked.masks).to(where)
        if step % 2:
            with torch.no_grad():
                first = network(image, prompts)
                best = first.masks[torch.arange(len(target)), first.match.argmax(1)]
            prompts = seem._on(seem_prompts.turn(asked, best.cpu(), generator), where)
            return prompted(network(image, prompts), target)
        every = everything(network, image, held, asked.scenes[: batch // 2])
        return prompted(network(image, prompts), target) + 0.5 * every

    return loss


def everything(network: Network, image: Encoded, held: Lessons, scenes: list[int]) -> Float[Tensor, ""]:
    """The loss of the batch's scenes without a prompt."""
    where, rows = network.query.device, [n for n, scene in enumerate(scenes) if held.things[scene]]
    at = torch.tensor(rows)
    nothing = Prompts(
        *(at, torch.zeros(len(at), 1, 2), torch.full((len(at), 1), NONE), at),
        *(torch.zeros(len(at), 1, dtype=torch.long), torch.full((len(at), 1, 1), float("nan"))),
    )
    things = [held.things[scenes[n]] for n in rows]
    nouns = sorted({thing.noun for some in things for thing in some})
    words = network.name(seem.text_ids(nouns, network.config.words).to(where))
    masks = [
        small(held.instances[scenes[n]] == torch.arange(1, 1 + len(some))[:, None, None]).to(where)
        for n, some in zip(rows, things, strict=True)
    ]
    names = [[nouns.index(thing.noun) for thing in some] for some in things]
    return unprompted(network(image, seem._on(nothing, where)), masks, names, words)


def train(
    out: Path,
    seed: int = 0,
    steps: int | None = None,
    scenes: int = SCENES,
    sight: str = eyes.NAMES[0],
    batch: int = IMAGES,
) -> Path:
    """Train, or go on, on so many scenes, `batch` a step, and write `out/seem.safetensors`; return the path.

    `sight` is one of `eyes.NAMES`.
    """
    held = lessons(scenes, seed, folder=out, sight=sight)
    runtime.seed_everything(seed)
    network = Network(Config()).to(runtime.device())
    steps = STEPS if steps is None else steps
    warmup = min(100, steps // 4)
    plan = Plan(steps=steps, lr=1e-3, warmup=warmup, weight_decay=0.05, average=0.998, save_every=500)
    what = f"seem, {Config()}, {scenes}" + ("" if sight == eyes.NAMES[0] else f", {sight}")
    average, _ = fit(network, objective(network, held, seed, batch), plan, out, what=what)
    seem.save(average, path := out / "seem.safetensors", sight)
    return path
