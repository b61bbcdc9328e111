"""Training throughput against lightly's page-long examples of SimCLR, DINO and MAE.

Both sides train the same network from the same photographs in memory: same batch, same number, size and recipe of
views, same optimiser, precision and threads.  Ours is `gadkit.train.learn`, with all it does beside (clipping,
schedule, checks); theirs is the loop of the example, whose `DataLoader` is measured with and without worker processes,
and the faster one counts.  A second comparison has the views given, a third one leaves the network out, to show where a
difference comes from: lightly transforms one PIL image after the other, `gadkit.data.views` whole batches, and the
blocks of lightly's MAE decoder are timm's.

Book: anomaly/measuring
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec

import torch
from jaxtyping import UInt8
from torch import Tensor

from benchmarks import Timing, best
from gadkit import methods, runtime
from gadkit.factory.pool import unlabelled
from gadkit.selfsup.base import SelfSupervised
from gadkit.train import Plan, fit, learn

WORKERS = 8  # of the examples' loaders, at most


def rows(
    names: tuple[str, ...] = ("simclr", "dino", "mae"),
    batch: int = 64,
    steps: int = 6,
    rounds: int = 2,
    workers: tuple[int, ...] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Timing]:
    """Photographs a second of each method on both sides, and the ratios; `steps` batches are an epoch, which is timed.

    `workers` are the numbers of the loader's worker processes to try; by default none and one for each of torch's
    threads, so that neither side has more processors than the other.
    """
    if find_spec("lightly") is None:
        yield "lightly", math.nan, "not installed"
        return
    threads, where = torch.get_num_threads(), runtime.device()
    workers = tuple(sorted({0, min(WORKERS, threads) if threads > 1 else 0})) if workers is None else workers
    precision = "bfloat16" if runtime.has_bf16(where) else "float32"
    setting = f"images/s, batch {batch}, {precision} on {where}, {threads} threads"
    images = unlabelled(batch * steps).images
    for name in names:
        plan = Plan(steps=steps, batch=batch, warmup=1, weight_decay=0.05)
        for what, ours, theirs in _contests(name, images, plan, workers):
            seconds = best({**theirs, "gadkit": ours}, rounds, clock)
            for side, took in seconds.items():
                yield f"{name}, {what}, {side}", batch * steps / took, setting
            fastest = min(theirs, key=seconds.get)
            yield f"{name}, {what}, gadkit / {fastest}", seconds[fastest] / seconds["gadkit"], "times as fast"


Run = Callable[[], object]


def _contests(
    name: str, images: UInt8[Tensor, "n 3 h w"], plan: Plan, workers: tuple[int, ...]
) -> Iterator[tuple[str, Run, dict[str, Run]]]:
    """Each comparison by its name, with our run of an epoch and lightly's runs."""
    from benchmarks._lightly import EXAMPLES, loader, train

    where = runtime.device()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = methods.build(name).to(where).train()
        example = EXAMPLES[name](method).to(where).train()
    plan = replace(plan, collapse=method.collapse(plan.batch))
    shifts = {f"lightly, {n or 'no'} workers": loader(images, example, plan.batch, n) for n in workers}
    yield (
        "whole loop",
        lambda: learn(method, {"images": images}, plan),
        {side: lambda some=some: train(example, some, method, plan.weight_decay) for side, some in shifts.items()},
    )
    some = images[: plan.batch].to(where)
    views = method.views({"images": some})
    yield (
        "network only",
        lambda: fit(method, lambda _: _loss(method, views), plan, after=method.after_step),
        {"lightly": lambda: train(example, [views] * plan.steps, method, plan.weight_decay)},
    )
    batches = images.split(plan.batch)
    yield (
        "views only",
        lambda: [method.views({"images": part.to(where)}) for part in batches],
        {side: lambda some=some: sum(1 for _ in some) for side, some in shifts.items()},
    )


def _loss(method: SelfSupervised, views: list[Tensor]) -> Tensor:
    with runtime.autocast(views[0].device):
        return method.loss(views)
