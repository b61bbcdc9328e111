"""What OneFormer and Mask2Former share in training: targets of a task, encoded scenes in place of the eyes, the loop.

Source: Jain et al. 2023, OneFormer, section 3 (tasks drawn evenly, all targets from the panoptic ones).
Book: objects/universal
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from gadkit import runtime
from gadkit.objects import eyes, universal
from gadkit.objects.segments import TASKS
from gadkit.objects.training.lessons import SIZE, Lessons
from gadkit.objects.training.matching import Matcher
from gadkit.train import Plan, fit

BATCH = 16
TABLE, PART = range(2)  # of universal.CLASSES
_TEXTS: dict[tuple[str, int, bool], Tensor] = {}


@dataclass
class Maps:
    """What a backbone of transformers returns, as far as these networks ask for it."""

    feature_maps: Sequence[Float[Tensor, "b _ _ _"]]


class Shown(nn.Module):
    """Stands in for the eyes while a network learns: it returns the maps that it was shown last."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = Maps(())

    def forward(self, pixels: Tensor) -> Maps:
        """The maps, whatever the pixels."""
        return self.maps


def targets(instances: UInt8[Tensor, "s s"], task: str) -> tuple[Float[Tensor, "n s s"], Int[Tensor, "n"]]:
    """The masks and classes that a task asks for: all derived from which part every pixel shows (0: the table)."""
    parts = instances == torch.arange(1, int(instances.max()) + 1, device=instances.device)[:, None, None]
    table, union = (instances == 0)[None], (instances > 0)[None]
    masks = {"semantic": [table, union], "instance": [parts], "panoptic": [table, parts]}[task]
    labels = [PART] * len(parts) if task == "instance" else [TABLE] + [PART] * (len(torch.cat(masks)) - 1)
    masks, labels = torch.cat(masks), torch.tensor(labels, dtype=torch.long, device=instances.device)
    some = masks.flatten(1).any(1)
    return masks[some].float(), labels[some]


def texts(task: str, labels: Int[Tensor, "n"]) -> Int[Tensor, "t c"]:
    """The tokens of the texts that describe an image's targets."""
    key = (task, int((labels == PART).sum()), bool((labels == TABLE).any()))
    if key not in _TEXTS:
        names = [universal.CLASSES[label] for label in labels.tolist()]
        _TEXTS[key] = universal.text_tokens(task, names)
    return _TEXTS[key]


def batch(held: Lessons, step: int, seed: int, tasks: Sequence[str], size: int = BATCH) -> tuple[list[Tensor], dict]:
    """The maps and the rest of the input of a step: `size` scenes, a task each."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    some = torch.randint(len(held), (size,), generator=generator).tolist()
    drawn = [tasks[i] for i in torch.randint(len(tasks), (size,), generator=generator).tolist()]
    shown = held.instances[some].to(held.maps[0].device)
    wanted = [targets(one, task) for one, task in zip(shown, drawn, strict=True)]
    rest = {"mask_labels": [masks for masks, _ in wanted], "class_labels": [labels for _, labels in wanted]}
    rest["tasks"] = drawn
    return held.draw(some), rest


def objective(
    network: nn.Module, held: Lessons, seed: int, tasks: Sequence[str], size: int = BATCH
) -> Callable[[int], Tensor]:
    """The loss of a step: the library's own, of masks, classes and, for OneFormer, queries against texts."""
    shown, where = network.get_submodule(universal.EYES.rstrip(".")), next(network.parameters()).device
    told = network.config.model_type == "oneformer"

    def loss(step: int) -> Float[Tensor, ""]:
        maps, rest = batch(held, step, seed, tasks, size)
        shown.maps, drawn = Maps([level.to(where) for level in maps]), rest.pop("tasks")
        rest = {name: [one.to(where) for one in some] for name, some in rest.items()}
        if told:
            both = zip(drawn, rest["class_labels"], strict=True)
            rest["text_inputs"] = torch.stack([texts(task, labels) for task, labels in both]).to(where)
            rest["task_inputs"] = torch.cat([universal.task_tokens(task) for task in drawn]).to(where)
        torch.manual_seed(seed * 1_000_003 + step)  # the library draws the loss's points from the global generator
        return network(torch.zeros(size, 3, SIZE, SIZE, device=where), **rest).loss.squeeze()

    return loss


def learn(
    kind: str,
    held: Lessons,
    run: Path,
    seed: int,
    steps: int,
    tasks: Sequence[str] = TASKS,
    sight: str = eyes.NAMES[0],
    size: int = BATCH,
) -> nn.Module:
    """Train a tiny network of a kind on the tasks, `size` scenes a step; its average weights, with its eyes put back.

    `sight` names the eyes that encoded the scenes.
    """
    where = runtime.device()
    network = universal.build(kind, training=True, seed=seed, sight=sight)
    parent, name = universal.EYES.rstrip(".").rsplit(".", 1)
    frozen = network.get_submodule(universal.EYES.rstrip("."))
    setattr(network.get_submodule(parent), name, Shown())
    old = network.criterion.matcher
    network.criterion.matcher = Matcher(old.cost_class, old.cost_mask, old.cost_dice, old.num_points)
    runtime.seed_everything(seed)
    network.train().requires_grad_(True).to(where)
    warmup = min(100, steps // 4)
    plan = Plan(steps=steps, lr=1e-3, warmup=warmup, weight_decay=0.05, average=0.998, save_every=500)
    what = f"{kind}, {tasks}, {len(held)}" + ("" if sight == eyes.NAMES[0] else f", {sight}")
    average, _ = fit(network, objective(network, held, seed, tasks, size), plan, run, what=what)
    setattr(average.get_submodule(parent), name, frozen.to(where))
    return average.eval()
