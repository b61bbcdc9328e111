"""Context in time: frames in the right order or out of it, films that run forwards or backwards.

Book: pretext/context
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from gadkit.checks import one_of
from gadkit.nn.vit import ViT
from gadkit.pretext.base import init_small
from gadkit.pretext.video import FrameReader, Frames, Video, mirrored, random_subset


class FrameOrder(Video):
    """Three frames of a clip: is their order one in which things can happen?  `collapse` is log 2.

    `question="order"` shuffles and learns (Misra et al. 2016): of five frames a < b < c < d < e the tuple (b, c, d) is
    right, (b, a, d) and (b, e, d) are wrong, and so are their reverses, since no order of tuples shows which way a clip
    runs.  Half of the tuples are right; the paper prefers a quarter, and clips that move much.
    "arrow" asks for just that: do the frames run forwards or backwards (after Wei et al. 2018, who use flow)?  On a
    clip that is its own reverse no answer is better than chance.
    Every frame of a clip is encoded once, for `tuples` questions.
    `even=False` leaves the shortcut open: light that drifts, as a lamp's that warms up, is a clock in the picture.
    """

    def __init__(
        self,
        encoder: ViT | None = None,
        question: str = "order",
        tuples: int = 8,
        hidden: int = 64,
        size: int = 56,
        even: bool = True,
    ) -> None:
        super().__init__(encoder, size, even)
        if tuples < 1:
            raise ValueError(f"tuples: expected at least 1 a clip, got {tuples}")
        self.question, self.tuples = one_of("question", question, ("order", "arrow")), tuples
        self.read = init_small(FrameReader(self.encoder.width, 3, hidden))
        self.head = init_small(nn.Linear(hidden, 1))

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Each clip's `frames` (b, t, 3, s, s), the tuples' frame numbers (b, q, 3), and 1 or 0: in order, or not."""
        frames = self.column(batch, "frames", 3)
        ask = shuffled if self.question == "order" else arrows
        rows, answer = (x.unflatten(0, (-1, self.tuples)) for x in ask(len(frames) * self.tuples, frames.shape[1]))
        frames = self.window(frames, self.corners(frames))
        return [self.prepare(mirrored(frames, random_subset(frames))), rows.to(frames.device), answer.to(frames)]

    def collapse(self, batch_size: int) -> float:
        """Log 2: both answers alike."""
        return math.log(2)

    def logits(self, frames: Frames, rows: Int[Tensor, "b q 3"]) -> Float[Tensor, "b q"]:
        """The logits of "in order"."""
        return self.head(self.read(self.encode(frames), rows).mean(2))[..., 0].float()

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """Cross-entropy of the two answers."""
        frames, rows, answer = views
        return F.binary_cross_entropy_with_logits(self.logits(frames, rows), answer)


def shuffled(count: int, frames: int) -> tuple[Int[Tensor, "b 3"], Int[Tensor, "b"]]:
    """Frame numbers of tuples in and out of order, and 1 for those in order, half of them.

    Right and wrong tuples begin and end with the same frames, so only the middle one differs.  Raises ValueError for
    less than five frames.
    """
    if frames < 5:
        raise ValueError(f"frames: expected clips of at least 5 frames, got {frames}")
    a, b, c, d, e = _ascending(count, frames, 5).unbind(1)
    answer, early, back = torch.rand(3, count) < 0.5
    tuples = torch.stack([b, torch.where(answer, c, torch.where(early, a, e)), d], 1)
    return torch.where(back[:, None], tuples.flip(1), tuples), answer.long()


def arrows(count: int, frames: int) -> tuple[Int[Tensor, "b 3"], Int[Tensor, "b"]]:
    """Frame numbers of three frames forwards (1) or backwards (0).  Raises ValueError for less than three frames."""
    if frames < 3:
        raise ValueError(f"frames: expected clips of at least 3 frames, got {frames}")
    tuples, answer = _ascending(count, frames, 3), torch.rand(count) < 0.5
    return torch.where(answer[:, None], tuples, tuples.flip(1)), answer.long()


def _ascending(count: int, frames: int, some: int) -> Int[Tensor, "b n"]:
    """Different frames in the order of time, all choices equally likely."""
    return torch.rand(count, frames).argsort(1)[:, :some].sort(1).values
