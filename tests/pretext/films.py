"""Clips for the tasks on videos to work on, rendered once."""

from functools import cache

import torch
from torch import Tensor

from gadkit.factory.films import mechanics, motion, sound


@cache
def everything(count: int = 16) -> dict[str, Tensor]:
    """Clips of all actions: frames and flow."""
    return motion.clips(count, seed=5).columns()


@cache
def landing(count: int = 12) -> dict[str, Tensor]:
    """Clips of parts that land: frames and sound."""
    clips = motion.clips(count, seed=6, actions=mechanics.AUDIBLE)
    return {"frames": clips.frames, "sound": sound.spectrograms(clips)}


def learn(method, data: dict[str, Tensor], steps: int = 20, lr: float = 2e-3) -> tuple[float, float]:
    """Train on all of `data` at every step: (the first loss, the mean of the last five)."""
    torch.manual_seed(0)
    optimiser = torch.optim.AdamW(method.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = method.loss(method.views(data))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    return losses[0], sum(losses[-5:]) / 5
