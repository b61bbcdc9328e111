"""The one training loop: AdamW, warm-up and cosine, clipping, a running average of the weights, resumable checkpoints.

Whatever is random in a step must follow from the step's number, so a killed run that resumes takes the steps it would
have taken.  Started by `accelerate launch`, several processes share every batch and take the same steps as one.

Book: anomaly/winclip, selfsup/simclr
"""

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gadkit import distributed, runtime
from gadkit.protocols import Method
from gadkit.runtime import progress


@dataclass(frozen=True)
class Plan:
    """How long and how fast to learn."""

    steps: int = 1000
    lr: float = 1e-3
    warmup: int = 200
    floor: float = 0.02  # the last steps' learning rate, as a share of `lr`
    weight_decay: float = 0.1  # on matrices only
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    average: float = 0.998  # decay of the running average that is kept in the end; 0 keeps the last weights
    batch: int = 128  # images a step, over all processes
    save_every: int = 200
    collapse: float = math.nan  # the loss of a network that tells nothing apart, shown beside the loss

    def rate(self, step: int) -> float:
        """The learning rate of a step: linear warm-up, then half a cosine."""
        share = min(1.0, step / max(1, self.steps))
        return (
            self.lr
            * min(1, (step + 1) / self.warmup)
            * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * share)) / 2)
        )


def fit(
    model: nn.Module,
    loss: Callable[[int], Float[Tensor, ""]],
    plan: Plan,
    run: Path | None = None,
    watch: Callable[[nn.Module, int], dict[str, float]] | None = None,
    watch_every: int = 1000,
    after: Callable[[float], None] | None = None,
) -> tuple[nn.Module, float]:
    """Train `model` in place by `loss(step)`; return the running average of its weights and the seconds it took.

    With a folder `run`, progress is kept in `run/checkpoint.pt` and taken up from there; `watch` measures the average
    every `watch_every` steps into `run/log.jsonl`; `after` follows each step with the share of them that is done.
    Raises FloatingPointError when the loss is not finite.
    """
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(_groups(model, plan.weight_decay), lr=plan.lr, betas=plan.betas, fused=True)
    start, before, smooth = _resume(run, model, average, optimiser)
    began = time.monotonic()
    bar = progress(range(start, plan.steps), "training", total=plan.steps - start)
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = plan.rate(step)
        value = loss(step)
        if not torch.isfinite(value):
            raise FloatingPointError(f"loss: expected a finite number, got {value.item()} at step {step}")
        optimiser.zero_grad()
        value.backward()
        distributed.average_gradients(model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
        optimiser.step()
        if after:
            after((step + 1) / plan.steps)
        keep = min(plan.average, (step + 1) / (step + 10))  # young averages forget faster
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
            for ours, theirs in zip(average.buffers(), model.buffers(), strict=True):
                ours.copy_(theirs)  # statistics and centres are averages already
        smooth = value.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * value.item()
        if step % 10 == 0 and hasattr(bar, "set_postfix_str"):
            bar.set_postfix_str(f"loss {smooth:.3f}, collapsed {plan.collapse:.3f}")
        done, seconds = step + 1, before + time.monotonic() - began
        if run and distributed.rank() == 0 and (done % plan.save_every == 0 or done == plan.steps):
            _save(run, model, average, optimiser, done, seconds, smooth)
        if run and watch and distributed.rank() == 0 and (done % watch_every == 0 or done == plan.steps):
            row = {"step": done, "seconds": round(seconds, 1), "loss": round(smooth, 4)} | watch(average, done)
            with open(run / "log.jsonl", "a") as log:
                log.write(json.dumps(row) + "\n")
    return average, before + time.monotonic() - began


def learn(
    method: Method, data: Tensor | Mapping[str, Tensor], plan: Plan, run: Path | None = None, seed: int = 0
) -> float:
    """Train a self-supervised `method` in place on `data` and return the seconds it took.

    `data` holds one row a sample: images, or whatever tensors the method's `views` asks for by name.  An epoch is a
    permutation of the rows; every process takes its share of a batch.  Raises ValueError for less than one batch.
    """
    whole = data if isinstance(data, Mapping) else {"": data}
    count, where = len(next(iter(whole.values()))), next(method.parameters()).device
    if not 0 < plan.batch <= count or plan.batch % distributed.world():
        raise ValueError(
            f"data: expected at least a batch of {plan.batch} rows, in equal shares for {distributed.world()} "
            f"processes, got {count} rows"
        )

    def loss(step: int) -> Float[Tensor, ""]:
        rows = batch_rows(count, plan.batch, step, seed)[distributed.rank() :: distributed.world()]
        torch.manual_seed((seed * 1_000_003 + step) * distributed.world() + distributed.rank())
        batch = {name: column[rows].to(where, non_blocking=True) for name, column in whole.items()}
        with runtime.autocast(where):
            return method.loss(method.views(batch if isinstance(data, Mapping) else batch[""]))

    method.train()
    plan = replace(plan, collapse=method.collapse, average=0.0)
    return fit(method, loss, plan, run, after=method.after_step)[1]


def batch_rows(count: int, batch: int, step: int, seed: int = 0) -> Int[Tensor, "batch"]:
    """The rows of a step: epoch after epoch of fresh permutations, what does not fill a batch left out."""
    epoch, place = divmod(step, count // batch)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
    return order[place * batch : (place + 1) * batch]


def _groups(model: nn.Module, decay: float) -> list[dict]:
    """Matrices shrink; gains, biases, embeddings and learnt tokens (of shape (1, n, width)) do not."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    shrinks = [p.ndim >= 2 and len(p) > 1 and "embedding" not in n and "bias" not in n for n, p in named]
    matrix = [p for (_, p), yes in zip(named, shrinks, strict=True) if yes]
    other = [p for (_, p), yes in zip(named, shrinks, strict=True) if not yes]
    return [{"params": matrix, "weight_decay": decay}, {"params": other, "weight_decay": 0.0}]


def _save(run: Path, model, average, optimiser, step: int, seconds: float, smooth: float) -> None:
    run.mkdir(parents=True, exist_ok=True)
    state = {"model": model.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict()}
    part = run / "checkpoint.part"
    torch.save(state | {"step": step, "seconds": seconds, "smooth": smooth}, part)
    part.replace(run / "checkpoint.pt")  # whole or not at all


def _resume(run: Path | None, model, average, optimiser) -> tuple[int, float, float]:
    file = run / "checkpoint.pt" if run else None
    if file is None or not file.is_file():
        return 0, 0.0, math.nan
    state = torch.load(file, weights_only=True, map_location=next(model.parameters()).device)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    return state["step"], state["seconds"], state["smooth"]
