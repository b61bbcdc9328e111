"""The one training loop: AdamW, warm-up and cosine, clipping, a running average of the weights, resumable checkpoints.

Whatever is random in a step must follow from the step's number, so a killed run that resumes takes the steps it would
have taken.  Started by `accelerate launch`, several processes share every batch: for the same views they have the loss
and the gradients of one process, and views drawn by several differ from one's only as those of two seeds do.

Book: anomaly/winclip, selfsup/simclr
"""

import copy
import io
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gadkit import distributed, runtime
from gadkit.nn.ema import ema_update
from gadkit.protocols import Method
from gadkit.runtime import progress

LOG = "log.jsonl"
said = logging.getLogger(__name__)  # for whoever has no terminal on which to see the bar


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
            * min(1, (step + 1) / max(1, self.warmup))
            * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * share)) / 2)
        )


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
    Raises FloatingPointError when the loss or the gradient is not finite, ValueError when the folder holds a run of
    another plan or of something else than `what`.
    """
    average = copy.deepcopy(model).eval().requires_grad_(False) if plan.average else model
    optimiser = torch.optim.AdamW(_groups(model, plan.weight_decay), lr=plan.lr, betas=plan.betas, fused=True)
    held = _Run(run, plan, what, model, average, optimiser)
    start, before, smooth = held.resume()
    held.forget(start)
    began = time.monotonic()
    bar = progress(range(start, plan.steps), "training", total=plan.steps - start)
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = plan.rate(step)
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
            bar.set_postfix_str(f"loss {smooth:.3f}, collapsed {plan.collapse:.3f}")
        done, seconds = step + 1, before + time.monotonic() - began
        if run and distributed.rank() == 0 and (done % plan.save_every == 0 or done == plan.steps):
            held.save(done, seconds, smooth)
        if run and watch and distributed.rank() == 0 and (done % watch_every == 0 or done == plan.steps):
            row = {"step": done, "seconds": round(seconds, 1), "loss": round(smooth, 4)} | watch(average, done)
            with open(run / LOG, "a", encoding="utf-8") as log:
                log.write(json.dumps(row) + "\n")
    return average, before + time.monotonic() - began


def learn(
    method: Method,
    data: Tensor | Mapping[str, Tensor],
    plan: Plan,
    run: Path | None = None,
    seed: int = 0,
    name: str = "",
) -> float:
    """Train a self-supervised `method` in place on `data` and return the seconds it took.

    `data` holds one row a sample: images, or whatever tensors the method's `views` asks for by name.  An epoch is a
    permutation of the rows; every process takes its share of a batch.  A folder `run` is for one `name` (of the class,
    if none is given), seed and number of rows.  Raises ValueError for less than one batch and for unequal columns.
    """
    whole = data if isinstance(data, Mapping) else {"": data}
    count, where = len(next(iter(whole.values()))), next(method.parameters()).device
    if any(len(column) != count for column in whole.values()):
        lengths = ", ".join(f"{name} {len(column)}" for name, column in whole.items())
        raise ValueError(f"data: expected columns of one length, got {lengths}")
    if not 0 < plan.batch <= count or plan.batch % distributed.world():
        raise ValueError(
            f"data: expected at least a batch of {plan.batch} rows, in equal shares for {distributed.world()} "
            f"processes, got {count} rows"
        )

    def loss(step: int) -> Float[Tensor, ""]:
        rows = batch_rows(count, plan.batch, step, seed)[distributed.rank() :: distributed.world()]
        torch.manual_seed((seed * 1_000_003 + step) * distributed.world() + distributed.rank())
        batch = {name: column[rows].to(where, non_blocking=True) for name, column in whole.items()}
        views = method.views(batch if isinstance(data, Mapping) else batch[""])  # in full precision
        with runtime.autocast(where):
            return method.loss(views)

    method.train()
    plan = replace(plan, collapse=method.collapse, average=0.0)
    what = f"{name or type(method).__name__}, seed {seed}, {count} rows"
    return fit(method, loss, plan, run, after=method.after_step, what=what)[1]


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


def _finite(loss: float, length: float, step: int) -> float:
    """The loss, if both are finite.  The gradient is everybody's, so no process goes on without the others."""
    if not math.isfinite(loss):
        raise FloatingPointError(f"loss: expected a finite number, got {loss} at step {step}")
    if not math.isfinite(length):
        raise FloatingPointError(f"gradient: expected one of finite length, got {length} at step {step}")
    return loss


@dataclass
class _Run:
    """What a folder knows of a training: the state of everything that moves, and whose it is."""

    folder: Path | None
    plan: Plan
    what: str
    model: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer

    def resume(self) -> tuple[int, float, float]:
        """Take up the first process's state: the steps it has done, their seconds, and the smoothed loss.

        Only that process need see the folder, and only it need have begun with the right weights.
        """
        content = self._content() if distributed.rank() == 0 else None
        content = distributed.from_first(content)
        if content is None:
            return 0, 0.0, math.nan
        where = next(self.model.parameters()).device
        try:
            state = torch.load(io.BytesIO(content), weights_only=True, map_location=where)
            found, own = state["of"], self._identity()
        except Exception as error:  # torn, empty, or another program's: torch raises what its readers happen to
            raise ValueError(
                f"{self.folder}: expected the checkpoint of a training by this package, got {type(error).__name__}: "
                "delete it or take another folder"
            ) from error
        if different := [key for key in own if found.get(key) != own[key]]:
            expected, came = ({key: held.get(key) for key in different} for held in (own, found))
            raise ValueError(
                f"{self.folder}: expected the checkpoint of this training, {expected}, got one of another, {came}: "
                "delete it or take another folder"
            )
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.plan.average:
            self.average.load_state_dict(state["average"])
        if state["step"]:
            said.info("%s: going on from step %d of %d", self.folder, state["step"], self.plan.steps)
        return state["step"], state["seconds"], state["smooth"]

    def _content(self) -> bytes | None:
        """The checkpoint's bytes; without one, for other processes, those that one of this moment would have."""
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
            if (file := self.folder / "checkpoint.pt").is_file():
                return file.read_bytes()
        if distributed.world() == 1:
            return None
        content = io.BytesIO()
        torch.save(self._state(0, 0.0, math.nan), content)
        return content.getvalue()

    def forget(self, start: int) -> None:
        """Take out of the log what was written after the checkpoint, and a last line that was cut short."""
        if distributed.rank() or not self.folder or not (log := self.folder / LOG).is_file():
            return
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= start]
        part = log.with_suffix(".part")
        part.write_text("".join(kept), encoding="utf-8")
        part.replace(log)

    def save(self, step: int, seconds: float, smooth: float) -> None:
        """Write the checkpoint, whole or not at all."""
        part = self.folder / "checkpoint.part"
        torch.save(self._state(step, seconds, smooth), part)
        part.replace(self.folder / "checkpoint.pt")
        said.info("step %d of %d, loss %.4f", step, self.plan.steps, smooth)

    def _state(self, step: int, seconds: float, smooth: float) -> dict[str, Any]:
        state = {"of": self._identity(), "step": step, "seconds": seconds, "smooth": smooth}
        state |= {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        return state | ({"average": self.average.state_dict()} if self.plan.average else {})

    def _identity(self) -> dict[str, Any]:
        """What a run may not change half-way: all but what is shown and how often it is saved."""
        plan = {key: value for key, value in asdict(self.plan).items() if key not in ("collapse", "save_every")}
        return {"what": self.what, **plan}
