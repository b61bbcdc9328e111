"""Training CLIP on pairs: our loop against open_clip's own `train_one_epoch`, with one network, batch and optimiser.

Both begin with the same weights and see the same images and captions.  With the frozen eyes, ours keeps their maps and
theirs computes them at every step, as its loop knows no frozen part; without eyes only the loops differ.

Book: multimodal/embeddings
"""

import copy
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from benchmarks import Timing, best
from gadkit import runtime
from gadkit.backbones.openclip import OpenCLIP
from gadkit.backbones.tiny import TinyConfig, build_tiny_clip, tokenizer
from gadkit.multimodal.captioned import Captioned, captioned
from gadkit.multimodal.training import pairs
from gadkit.train import Plan, fit

MODELS = {"eyes kept": pairs.EYED, "no eyes": TinyConfig()}
DECAY = 0.2


class Loader:
    """What open_clip's loop takes: batches of prepared images and token ids, one epoch again and again."""

    def __init__(self, images: Tensor, tokens: Tensor, batch: int) -> None:
        self.batches = [*zip(images.split(batch), tokens.split(batch), strict=True)]
        self.num_batches, self.num_samples = len(self.batches), len(images)
        self.dataloader = self

    def set_epoch(self, epoch: int) -> None:
        """Nothing is drawn anew."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches)


def rows(
    batch: int = 64,
    steps: int = 4,
    models: dict[str, TinyConfig] | None = None,
    rounds: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Timing]:
    """Pairs a second of both loops for each network, and the ratios; `steps` batches are an epoch."""
    shown, where = captioned({"seen": batch * steps}, wordings=1), runtime.device()
    precision = "bfloat16" if runtime.has_bf16(where) else "float32"
    setting = f"pairs/s, batch {batch}, {precision} on {where}, {torch.get_num_threads()} threads"
    for name, config in (MODELS if models is None else models).items():
        seconds = best({"gadkit": ours(config, shown, batch), "open_clip": theirs(config, shown, batch)}, rounds, clock)
        for side, took in seconds.items():
            yield f"{name}, {side}", batch * steps / took, setting
        yield f"{name}, gadkit / open_clip", seconds["open_clip"] / seconds["gadkit"], "times as fast"


def network(config: TinyConfig) -> nn.Module:
    """The same network for both sides."""
    runtime.seed_everything(0)
    return build_tiny_clip(config).to(runtime.device())


def ours(config: TinyConfig, shown: Captioned, batch: int) -> Callable[[], nn.Module]:
    """An epoch of our loop, which goes on from where the last one ended; images are prepared before."""
    method = pairs.Pairs(network(config), "softmax").train()
    data = pairs.prepare(method.clip, shown)
    data = replace(data, maps=data.maps.float())
    plan = Plan(steps=len(shown) // batch, batch=batch, warmup=1, weight_decay=DECAY)

    def loss(step: int) -> Tensor:
        some = slice(step % plan.steps * batch, (step % plan.steps + 1) * batch)
        return method(data.maps[some], data.tokens[some, 0])

    def epoch() -> nn.Module:
        fit(method, loss, plan)
        return method.clip

    return epoch


def theirs(config: TinyConfig, shown: Captioned, batch: int) -> Callable[[], nn.Module]:
    """An epoch of open_clip's loop."""
    from open_clip.loss import ClipLoss
    from open_clip_train.train import train_one_epoch

    clip = pairs.Pairs(network(config), "softmax").clip.train()
    clip.output_dict = True
    where = next(clip.parameters()).device
    ready = OpenCLIP(copy.deepcopy(clip), tokenizer())
    images = torch.cat([ready.preprocess(some) for some in shown.images.split(batch)])
    tokens = ready.tokenizer([text for texts in shown.captions for text in texts])
    learnt = [p for p in clip.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learnt, lr=1e-3, weight_decay=DECAY, fused=True)
    precision = "amp_bf16" if runtime.has_bf16(where) else "fp32"  # as ours
    options = {"device": str(where), "precision": precision, "distill": False, "accum_freq": 1, "skip_scheduler": True}
    options |= {"grad_clip_norm": 1.0, "horovod": False, "rank": 0, "local_rank": 0, "log_local": False}
    options |= {"log_every_n_steps": 10**9, "batch_size": batch, "world_size": 1, "wandb": False}
    loader = Loader(images, tokens, batch)

    def epoch() -> nn.Module:
        data = {"train": SimpleNamespace(dataloader=loader, set_epoch=loader.set_epoch)}
        train_one_epoch(clip, data, ClipLoss(), 0, optimiser, None, None, None, Namespace(**options))
        return clip

    return epoch
