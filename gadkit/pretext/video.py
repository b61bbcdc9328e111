"""The base of the tasks on videos: a window onto every clip, a vector a frame, and shortcuts to the answer.

As in `gadkit.pretext.shortcuts`, a solver that reads nothing but the leak proves by beating chance that it is there.

Book: pretext/context, pretext/crossmodal, pretext/generation
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gadkit.checks import check_finite, checked, describe
from gadkit.data.views import denormalise, normalise
from gadkit.method import columns
from gadkit.nn.vit import ViT
from gadkit.pretext.base import Pretext
from gadkit.pretext.shortcuts import standardise
from gadkit.protocols import Recipe

Frames = Float[Tensor, "b t 3 s s"]


class Video(Pretext):
    """An encoder that takes clips frame by frame; a task adds `views`, `loss` and `collapse`.

    `size` is the side in pixels of the window that is cut out of a clip, at one random place for all of its frames.
    `even` brings every frame to mean 0 and deviation 1 by itself, so that the drift of a lamp or a camera is no clue.
    """

    needs = ("frames",)
    recipe = Recipe(batch=16)

    def __init__(self, encoder: ViT | None = None, size: int = 56, even: bool = True) -> None:
        super().__init__(encoder, size)
        self.even = even

    def column(self, batch: Mapping[str, Tensor], name: str, channels: int) -> Float[Tensor, "b t c h w"]:
        """A column of a batch of clips as floats, bytes as [0, 1].

        Raises ValueError where it is missing, of another shape or smaller than the window.
        """
        (x,) = columns(batch, [name])
        if x.ndim != 5 or not len(x) or x.shape[2] != channels or min(x.shape[3:]) < self.size:
            raise ValueError(
                f"{name}: expected shape (b, t, {channels}, h, w) of at least {self.size} x {self.size} pixels, "
                f"got {describe(x)}"
            )
        if name == "frames" and x.dtype != torch.uint8:
            raise ValueError(f"frames: expected dtype uint8 with values 0 to 255, got {describe(x)}")
        return x.float() / 255 if x.dtype == torch.uint8 else check_finite(x.float(), name)

    def corners(self, x: Float[Tensor, "b t c h w"]) -> Int[Tensor, "b 2"]:
        """Random places for the windows: row and column of the upper left pixel."""
        room = torch.tensor([side - self.size + 1 for side in x.shape[3:]])
        return (torch.rand(len(x), 2) * room).long().to(x.device)

    def window(self, x: Float[Tensor, "b t c h w"], corners: Int[Tensor, "b 2"]) -> Float[Tensor, "b t c s s"]:
        """The same window of every frame of a clip."""
        side = torch.arange(self.size, device=x.device)
        rows, columns = corners[:, :1] + side, corners[:, 1:] + side  # (b, s)
        clip = torch.arange(len(x), device=x.device)[:, None, None]
        return x.permute(0, 3, 4, 1, 2)[clip, rows[:, :, None], columns[:, None]].permute(0, 3, 4, 1, 2)

    def prepare(self, frames: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b t 3 h w"]:
        """Frames in [0, 1] as the encoder is given them."""
        return standardise(normalise(frames)) if self.even else normalise(frames)

    def encode(self, frames: Frames) -> Float[Tensor, "b t n e"]:
        """The patch tokens of every frame: no frame sees another before the head does."""
        return self.patches(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])


class FrameReader(nn.Module):
    """Reads `count` frames in a row, patch by patch: tokens of one place add up, by a matrix for each turn in the row.

    Changes show where they happen; in a mean over the picture a small part that moves would be lost.  Each frame is
    encoded once, however many rows it stands in.
    """

    def __init__(self, width: int, count: int, hidden: int) -> None:
        super().__init__()
        self.count, self.turns = count, nn.Linear(width, count * hidden)

    def forward(self, tokens: Float[Tensor, "b t n e"], rows: Int[Tensor, "b q k"]) -> Float[Tensor, "b q n h"]:
        """The answer for q rows of k frames of each clip, which `rows` numbers."""
        x = self.turns(tokens).unflatten(3, (self.count, -1))  # (b, t, n, k, h)
        clip = torch.arange(len(rows), device=rows.device)[:, None]
        return F.gelu(sum(x[clip, rows[:, :, k], :, k] for k in range(self.count)))

    def whole(self, tokens: Float[Tensor, "b k n e"]) -> Float[Tensor, "b n h"]:
        """The answer for all frames of each clip, one row."""
        return self(tokens, torch.arange(self.count, device=tokens.device).expand(len(tokens), 1, -1))[:, 0]


@checked
def mirrored(x: Float[Tensor, "b t c h w"], which: Bool[Tensor, "b"]) -> Float[Tensor, "b t c h w"]:
    """Some clips with left and right exchanged; of optical flow, two channels, the first then changes its sign."""
    other = x.flip(4)
    if x.shape[2] == 2:
        other = other * torch.tensor([-1.0, 1.0], device=x.device)[:, None, None]
    return torch.where(which[:, None, None, None, None], other, x)


@checked
def random_subset(x: Tensor, share: float = 0.5) -> Bool[Tensor, "b"]:
    """A random share of a batch."""
    return (torch.rand(len(x)) < share).to(x.device)


@checked
def convolutions(channels: int, width: int, sizes: Sequence[int] = (16, 32, 48, 64)) -> nn.Sequential:
    """A small network for planes that are no photographs, such as sound and flow: (b, channels, h, w) to (b, width).

    Each layer halves the sides; the rest is pooled to a grid of 4 x 4, which keeps where and when.
    """
    layers: list[nn.Module] = []
    for before, after in zip([channels, *sizes], sizes, strict=False):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.GELU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * sizes[-1], width))


# ------------------------------------------------------------------------------------------------ living off leaks


@checked
def read_lamp(frames: Frames) -> Float[Tensor, "b"]:
    """How much brighter the last frame is than the first, and 0 below the noise: it needs no picture, only a clock."""
    light = frames.mean((2, 3, 4))
    return torch.where((light[:, -1] - light[:, 0]).abs() < 1e-4, 0.0, light[:, -1] - light[:, 0])


@checked
def read_gain(frames: Frames, sounds: Float[Tensor, "b 1 bins columns"]) -> Float[Tensor, "b b"]:
    """How well each picture's brightness (row) goes with each sound's loudness (column), by their ranks in the batch.

    0 is a perfect match, less is worse.
    """
    bright, loud = (x.flatten(1).mean(1).argsort().argsort().float() for x in (denormalise(frames), sounds))
    return -(bright[:, None] - loud).abs()


@checked
def read_place(frames: Frames, flow: Float[Tensor, "b u 2 s s"]) -> Float[Tensor, "b b"]:
    """How well the place of change in each clip (row) goes with the place of flow in each other (column).

    Minus the distance in pixels between their centres: a match by place, without kind or motion.
    """
    changes = frames.diff(dim=1).abs().mean((1, 2))
    return -torch.cdist(
        *(_centre(x) for x in ((changes - changes.mean((1, 2), keepdim=True)).clamp(min=0), _fast(flow)))
    )


def _fast(flow: Tensor) -> Float[Tensor, "b s s"]:
    return flow.square().sum(2).sqrt().mean(1)


def _centre(mass: Float[Tensor, "b s s"]) -> Float[Tensor, "b 2"]:
    side = torch.arange(mass.shape[-1], device=mass.device, dtype=mass.dtype)
    mass = mass / mass.sum((1, 2), keepdim=True).clamp(min=1e-6)
    return torch.stack([(mass.sum(axis) * side).sum(1) for axis in (1, 2)], 1)
