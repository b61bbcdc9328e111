"""The one training loop: AdamW, warm-up and cosine, clipping, a running average of the weights, resumable checkpoints.

Whatever is random in a step must follow from the step's number, so a killed run that resumes takes the steps it would
have taken.  Started by `accelerate launch`, several processes share every batch: for the same views they have the loss
and the gradients of one process, and views drawn by several differ from one's only as those of two seeds do.

Book: anomaly/winclip, selfsup/simclr
"""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gadkit import distributed, runtime
from gadkit.checks import checked, share, whole
from gadkit.method import columns
from gadkit.nn.ema import ema_update
from gadkit.protocols import Method
from gadkit.runs import Run
from gadkit.runtime import progress


@dataclass(frozen=True)
class Plan:
    """How long and how fast to learn.  Raises ValueError for numbers that no training can have."""

    steps: int = 1000
    lr: float = 1e-3
    warmup: int = 200
    floor: float = 0.02  # the last steps' learning rate, as a share of `lr`
    weight_decay: float = 0.1  # of what layers multiply by, see `_groups`
    weight_decay_end: float | None = None  # where half a cosine leads the decay; None: it stays
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    average: float = 0.998  # decay of the running average that is kept in the end; 0 keeps the last weights
    batch: int = 128  # images a step, over all processes
    save_every: int = 200
    collapse: float = math.nan  # the loss of a network that maps all inputs to one point, shown beside the loss

    def __post_init__(self) -> None:
        whole("steps", self.steps, 0)
        whole("warmup", self.warmup, 0)
        for name in ("batch", "save_every"):
            whole(name, getattr(self, name))
        share("floor", self.floor, zero=True)
        decays = [self.weight_decay, 0.0 if self.weight_decay_end is None else self.weight_decay_end]
        if not all(0 <= decay < math.inf for decay in decays) or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(
                f"weight_decay, betas: expected decays from 0 and shares in [0, 1), got {decays} and {self.betas}"
            )
        if not (0 <= self.lr < math.inf and self.clip > 0):
            raise ValueError(f"lr, clip: expected a rate from 0 and a positive length, got {self.lr} and {self.clip}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average: expected a share in [0, 1), got {self.average}")

    @classmethod
    def of(cls, method: Method, steps: int, batch: int | None = None) -> "Plan":
        """The plan of a method's recipe, over so many steps, with the learning rate in proportion to the batch."""
        recipe = method.recipe
        batch = recipe.batch if batch is None else batch
        return cls(
            steps=steps,
            lr=recipe.lr * batch / recipe.batch,
            warmup=max(1, int(steps * recipe.warmup)),
            weight_decay=recipe.weight_decay,
            weight_decay_end=recipe.weight_decay_end,
            betas=recipe.betas,
            clip=recipe.clip,
            batch=batch,
        )

    def rate(self, step: int) -> float:
        """The learning rate of a step: it rises in a line to `lr`, and half a cosine from there leads to the floor.

        The last step of the warm-up and the one after it have the whole of `lr`; the end, `steps`, has the floor.
        """
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        return self.lr * _cosine(1.0, float(self.floor), (step - self.warmup) / max(1, self.steps - self.warmup))

    def decay(self, step: int) -> float:
        """The weight decay of a step, which is not warmed up."""
        end = self.weight_decay if self.weight_decay_end is None else self.weight_decay_end
        return _cosine(self.weight_decay, end, step / max(1, self.steps))


@checked
def fit(
    model: nn.Module,
    loss: Callable[[int], Float[Tensor, ""]],
    plan: Plan,
    run: Path | None = None,
    watch: Callable[[nn.Module, int], dict[str, float]] | None = None,
    watch_every: int = 1000,
    after: Callable[[float], Sequence[nn.Parameter] | None] | None = None,
    what: str = "",
) -> tuple[nn.Module, float]:
    """Train `model` in place by `loss(step)`; return the running average of its weights and the seconds it took.

    Where the plan asks for no average, the model itself is returned.  With a folder `run`, progress is kept in
    `run/checkpoint.pt` and taken up from there; `watch` measures the average every `watch_every` steps into
    `run/log.jsonl`, in which a step stands once, however often the run was cut.  `after` follows each step with the
    share of them that is done, and may return parameters whose training begins anew: the optimiser forgets them.
    Raises FloatingPointError when the loss or the gradient is not finite, and OSError when the disk is full.  Raises
    ValueError when the folder holds a run of another plan or of something else than `what`, cannot be written to, or
    belongs to another run at this moment.
    """
    average = copy.deepcopy(model).eval().requires_grad_(False) if plan.average else model
    optimiser = torch.optim.AdamW(_groups(model), lr=plan.lr, betas=plan.betas, fused=True)
    with Run(run, plan, what, model, average, optimiser, watch, watch_every) as held:
        start, before, smooth = held.resume()
        began = time.monotonic()
        bar = progress(range(start, plan.steps), "training", total=plan.steps - start)
        for step in bar:
            for group in optimiser.param_groups:
                group["lr"] = plan.rate(step)
                group["weight_decay"] = plan.decay(step) if group["shrinks"] else 0.0
            value = loss(step)
            optimiser.zero_grad()
            value.backward()
            distributed.average_gradients(model)
            length = torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
            number = _finite(value.item(), length.item(), step)
            optimiser.step()
            anew = after((step + 1) / plan.steps) if after else None
            for parameter in anew or ():
                optimiser.state.pop(parameter, None)
            if plan.average:  # young averages forget faster; buffers are averages already
                ema_update(average, model, min(plan.average, (step + 1) / (step + 10)))
            smooth = number if math.isnan(smooth) else 0.98 * smooth + 0.02 * number
            if step % 10 == 0 and hasattr(bar, "set_postfix_str"):
                known = "" if math.isnan(plan.collapse) else f", collapsed {plan.collapse:.3f}"
                bar.set_postfix_str(f"loss {smooth:.3f}{known}")
            held.record(step + 1, before + time.monotonic() - began, smooth)
    return average, before + time.monotonic() - began


@checked
def learn(
    method: Method,
    data: Mapping[str, Tensor],
    plan: Plan,
    run: Path | None = None,
    seed: int = 0,
    name: str = "",
) -> float:
    """Train a `method` in place on `data` and return the seconds it took.

    `data` holds the columns that the method `needs`, one row a sample; others are left where they are.  An epoch is a
    permutation of the rows; every process takes its share of a batch.  A folder `run` is for one `name` (of the class,
    if none is given), seed and number of rows.  Raises ValueError for columns that are missing or not equally long, and
    for less than one batch.
    """
    held = dict(zip(method.needs, columns(data, method.needs), strict=True))
    count, where = len(held[method.needs[0]]), next(method.parameters()).device
    if any(len(column) != count for column in held.values()):
        lengths = ", ".join(f"{name} {len(column)}" for name, column in held.items())
        raise ValueError(f"data: expected columns of one length, got {lengths}")
    if not 0 < plan.batch <= count or plan.batch % distributed.world():
        raise ValueError(
            f"data: expected at least a batch of {plan.batch} rows, in equal shares for {distributed.world()} "
            f"processes, got {count} rows"
        )

    held = runtime.moved(held, where)

    def loss(step: int) -> Float[Tensor, ""]:
        rows = batch_rows(count, plan.batch, step, seed)[distributed.rank() :: distributed.world()]
        torch.manual_seed((seed * 1_000_003 + step) * distributed.world() + distributed.rank())
        batch = {name: column[rows.to(column.device)].to(where) for name, column in held.items()}
        views = method.views(batch)  # in full precision
        with runtime.autocast(where):
            return method.loss(views)

    method.train()
    plan = replace(plan, collapse=method.collapse(plan.batch), average=0.0)
    what = f"{name or type(method).__name__}, seed {seed}, {count} rows"
    return fit(method, loss, plan, run, after=method.after_step, what=what)[1]


@checked
def batch_rows(count: int, batch: int, step: int, seed: int = 0) -> Int[Tensor, "batch"]:
    """The rows of a step: epoch after epoch of fresh permutations, what does not fill a batch left out."""
    epoch, place = divmod(step, count // batch)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
    return order[place * batch : (place + 1) * batch]


def _cosine(start: float, end: float, share: float) -> float:
    """Half a cosine from start to end; it stays at the end."""
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, share))) / 2


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Linear, nn.Bilinear, nn.MultiheadAttention, *_CONVOLUTIONS)


def _groups(model: nn.Module) -> list[dict]:
    """Parameters that shrink, and those that do not: weights of linear layers, convolutions and attention shrink.

    Biases, norms, embeddings, learnt tokens and tables of positions do not.  A parameter that stands by itself in a
    module of another kind, such as prototypes or a projection, shrinks if it is a matrix of more than one row.
    """
    shrinking, other, known = [], [], set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in known:
                continue
            known.add(id(parameter))
            matrix = parameter.ndim >= 2 and "bias" not in name and "embedding" not in name
            alone = matrix and len(parameter) > 1 and not isinstance(module, nn.Embedding)
            (shrinking if alone or (matrix and isinstance(module, LAYERS)) else other).append(parameter)
    return [{"params": shrinking, "shrinks": True}, {"params": other, "shrinks": False}]


def _finite(loss: float, length: float, step: int) -> float:
    """The loss, if both are finite.  The gradient is that of all processes, so none goes on without the others."""
    if not math.isfinite(loss):
        raise FloatingPointError(f"loss: expected a finite number, got {loss} at step {step}")
    if not math.isfinite(length):
        raise FloatingPointError(f"gradient: expected one of finite length, got {length} at step {step}")
    return loss
