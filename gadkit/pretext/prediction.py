"""Generation in time: the next frame from those before it.

Book: pretext/generation
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gadkit.checks import one_of
from gadkit.data.views import denormalise
from gadkit.nn.vit import Block, ViT
from gadkit.pretext.base import init_small, unexplained_variance
from gadkit.pretext.video import FrameReader, Frames, Video, mirrored, random_subset


class NextFrame(Video):
    """Draw each frame of a clip from the `shown` frames before it (Mathieu et al. 2016, with a transformer).

    `target="change"` asks for what the next frame adds to the last one; "frame" asks for the whole of it, which opens
    the shortcut: most of a film stands still, so to copy the last frame is to explain nearly all of the next.
    `collapse`: no change at all, or one mean colour everywhere.
    """

    def __init__(self, encoder: ViT | None = None, shown: int = 3, target: str = "change", size: int = 56) -> None:
        super().__init__(encoder, size, even=False)
        if shown < 1:
            raise ValueError(f"shown: expected at least 1 frame, got {shown}")
        self.shown, self.target = shown, one_of("target", target, ("change", "frame"))
        width = self.encoder.width
        self.read = init_small(FrameReader(width, shown, width))
        self.mix = init_small(Block(width, self.encoder.blocks[0].heads))  # things move from place to place
        self.draw = init_small(nn.Linear(width, 3 * self.encoder.patch_size**2))
        nn.init.trunc_normal_(self.draw.weight, std=0.002)  # changes are small: to begin with, nothing moves

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Each clip's `frames` (b, t, 3, s, s), normalised."""
        frames = self.column(batch, "frames", 3)
        if frames.shape[1] <= self.shown:
            raise ValueError(f"frames: expected clips of at least {self.shown + 1} frames, got {frames.shape[1]}")
        frames = self.window(frames, self.corners(frames))
        return [self.prepare(mirrored(frames, random_subset(frames)))]

    def collapse(self, batch_size: int) -> float:
        """1: no change at all, or one mean colour everywhere."""
        return 1.0

    def answer(self, frames: Frames) -> Float[Tensor, "b u 3 s s"]:
        """The targets, frames or their changes, of the u = t - shown frames that have enough before them."""
        tokens = self.encode(frames[:, :-1])  # (b, t - 1, n, w)
        count = tokens.shape[1] - self.shown + 1
        rows = torch.arange(count)[:, None] + torch.arange(self.shown)  # (u, shown)
        read = self.read(tokens, rows.to(tokens.device).expand(len(frames), -1, -1)).flatten(0, 1)
        drawn = self.pixels(self.draw(self.mix(read)), frames[:, 0])  # (b * u, 3, s, s)
        return drawn.unflatten(0, (len(frames), count))

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """The share of the variance of what is asked for that is left unexplained."""
        (frames,) = views
        before, after = frames[:, self.shown - 1 : -1], frames[:, self.shown :]
        return unexplained_variance(self.answer(frames), after - before if self.target == "change" else after)

    @torch.no_grad()
    def predict(self, views: list[Tensor]) -> Float[Tensor, "b u 3 s s"]:
        """The frames from number `shown` on, each as the network expects it, in [0, 1]."""
        (frames,) = views
        made = self.answer(frames)
        return denormalise(made + frames[:, self.shown - 1 : -1] if self.target == "change" else made).clamp(0, 1)
