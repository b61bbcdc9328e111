"""One event, two senses: which sound belongs to which sight, which flow to which film.

Book: pretext/crossmodal
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gadkit import distributed
from gadkit.checks import check_finite, describe, one_of, positive, whole
from gadkit.losses import clip_loss
from gadkit.nn.heads import BatchNorm, mlp
from gadkit.nn.vit import ViT
from gadkit.pretext.video import FrameReader, Frames, Video, convolutions, mirrored, random_subset
from gadkit.protocols import Recipe

Sounds = Float[Tensor, "b 1 bins columns"]
Flows = Float[Tensor, "b u 2 s s"]


class SightAndSound(Video):
    """Do picture and sound belong together (Arandjelovic and Zisserman 2017)?  `collapse` is log 2.

    `shown` frames of a clip and their sound become two vectors of length 1.  The answer's logit is linear in their
    cosine, after the same authors' AVE-Net (2018), which takes their distance.  `negatives` says which sounds do not
    belong: "clips", those of all other clips of the batch, which differ enough in what a part is made of;
    "delays", the same clip's sound of another moment (Korbar et al. 2018), which takes the moment of landing; "both",
    which count alike.  `level` takes each spectrogram's mean away and closes a shortcut: a recorder whose one automatic
    gain makes bright clips loud.  `level=False` leaves it open.
    """

    needs = ("frames", "sound")
    least = 2  # frames between two moments of a clip that count as different

    def __init__(
        self,
        encoder: ViT | None = None,
        shown: int = 6,
        negatives: str = "both",
        hidden: int = 64,
        size: int = 56,
        level: bool = True,
    ) -> None:
        super().__init__(encoder, size, even=False)
        if shown < 1:
            raise ValueError(f"shown: expected at least 1 frame, got {shown}")
        self.shown, self.level = shown, level
        self.negatives = one_of("negatives", negatives, ("clips", "delays", "both"))
        self.eyes, self.ears = FrameReader(self.encoder.width, shown, hidden), convolutions(1, hidden)
        # without them all vectors become one in the first steps, and so they stay
        self.spread = nn.ModuleList(BatchNorm(hidden, affine=False) for _ in range(2))
        self.scale, self.bias = nn.Parameter(torch.tensor(5.0)), nn.Parameter(torch.tensor(0.0))

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Film (b, shown, 3, s, s), its sound (b, 1, bins, columns), and the same clip's sound of another moment."""
        frames, sound = self.column(batch, "frames", 3), _spectrograms(batch)
        b, t = frames.shape[:2]
        each = sound.shape[3] // t  # columns a frame
        if t < self.shown + self.least or not each or b < 2:
            raise ValueError(
                f"clips: expected at least 2 of {self.shown + self.least} frames and a column of sound for each, "
                f"got {b} of {t} frames and {sound.shape[3]} columns"
            )
        starts = torch.arange(t - self.shown + 1)
        pairs = torch.cartesian_prod(starts, starts)
        pairs = pairs[(pairs[:, 0] - pairs[:, 1]).abs() >= self.least]
        now, then = pairs[torch.randint(len(pairs), (b,))].to(frames.device)[:, :, None].unbind(1)  # alike in law
        rows = torch.arange(b, device=frames.device)[:, None]
        film = frames[rows, now + torch.arange(self.shown, device=frames.device)]
        film = mirrored(self.window(film, self.corners(film)), random_subset(film))
        span = torch.arange(each * self.shown, device=frames.device)
        sounds = [sound.movedim(3, 1)[rows, start * each + span].movedim(1, 3) for start in (now, then)]
        return [self.prepare(film), *(scaled(x, self.level) for x in sounds)]

    def collapse(self, batch_size: int) -> float:
        """Log 2: both answers alike."""
        return math.log(2)

    def encode_film(self, film: Frames) -> Float[Tensor, "b h"]:
        """A unit vector a film."""
        return F.normalize(self.spread[0](self.eyes.whole(self.encode(film)).mean(1)).float(), dim=1)

    def encode_sound(self, sounds: Sounds) -> Float[Tensor, "b h"]:
        """A unit vector a sound."""
        return F.normalize(self.spread[1](self.ears(sounds)).float(), dim=1)

    def logits(self, cosine: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The logit of "they belong together"."""
        return self.scale * cosine + self.bias

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """Cross-entropy of the two answers, which count alike; the other clips are those of all processes."""
        film, own, other = views
        sight, (own, other) = self.encode_film(film), self.encode_sound(torch.cat([own, other])).chunk(2)
        sounds, rows = distributed.gather(own), torch.arange(len(own), device=own.device)
        logits = self.logits(sight @ sounds.T)  # (b, m)
        right = logits[rows, rows + len(rows) * distributed.rank()]
        wrong = []
        if self.negatives != "delays":
            wrong.append((F.softplus(logits).sum(1) - F.softplus(right)).mean() / (len(sounds) - 1))
        if self.negatives != "clips":
            wrong.append(F.softplus(self.logits((sight * other).sum(1))).mean())
        return (F.softplus(-right).mean() + sum(wrong) / len(wrong)) / 2


class RGBAndFlow(Video):
    """Two streams, what it looks like and how it moves: find each film's flow among the batch's, and back.

    Sayed et al. 2018 bring both vectors of a clip together and hold those of two clips apart; here all clips of a batch
    are held apart (Tian et al. 2020).
    `apart` cuts film and flow at places of their own.  `apart=False` opens a shortcut: the part's place in the picture
    is enough to find its flow, however it moves.
    """

    needs = ("frames", "flow")
    recipe = Recipe(lr=3e-3, batch=16)
    fast = 4.0  # pixels a frame that count as 1

    def __init__(
        self,
        encoder: ViT | None = None,
        shown: int = 8,
        out: int = 64,
        temperature: float = 0.2,
        size: int = 56,
        apart: bool = True,
    ) -> None:
        super().__init__(encoder, size, even=False)
        self.shown, self.temperature, self.apart = whole("shown", shown, 2), positive("temperature", temperature), apart
        self.eyes, self.motion = FrameReader(self.encoder.width, shown, out), convolutions(2 * (shown - 1), out)
        # normalised at their ends, or all films become one vector and all flows another
        self.heads = nn.ModuleList(mlp((out, 4 * out, out), last_norm=True) for _ in range(2))

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Film (b, shown, 3, s, s) and the flow between its frames (b, shown - 1, 2, s, s), cut apart or together."""
        frames, flow = self.column(batch, "frames", 3), self.column(batch, "flow", 2)
        b, t = frames.shape[:2]
        if t < self.shown or flow.shape[1] != t - 1:
            raise ValueError(
                f"clips: expected at least {self.shown} frames and a flow from each to the next, got {t} frames and "
                f"{flow.shape[1]} flows"
            )
        first = torch.randint(t - self.shown + 1, (b, 1)).to(frames.device)
        rows, mirror = torch.arange(b, device=frames.device)[:, None], random_subset(frames)
        steps = first + torch.arange(self.shown, device=frames.device)
        film, flow = (mirrored(x, mirror) for x in (frames[rows, steps], flow[rows, steps[:, :-1]]))
        here = self.corners(film)
        there = self.corners(flow) if self.apart else here
        return [self.prepare(self.window(film, here)), self.window(flow, there) / self.fast]

    def collapse(self, batch_size: int) -> float:
        """The logarithm of the number of clips: all are as near."""
        return math.log(batch_size)

    def project(self, film: Frames, flow: Flows) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        """Both streams in the space in which they meet."""
        seen, moved = self.eyes.whole(self.encode(film)).mean(1), self.motion(flow.flatten(1, 2))
        return self.heads[0](seen), self.heads[1](moved)

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """Cross-entropy of finding a film's flow and a flow's film."""
        return clip_loss(*self.project(*views), 1 / self.temperature)


def scaled(sounds: Sounds, level: bool) -> Sounds:
    """Log-mel spectrograms for the network; `level` takes away how loud each is as a whole."""
    return (sounds - sounds.mean((1, 2, 3), keepdim=True) if level else sounds + 12) / 3


def _spectrograms(batch: Mapping[str, Tensor]) -> Sounds:
    sound = batch.get("sound")
    if not isinstance(sound, Tensor) or sound.ndim != 4 or sound.shape[1] != 1 or not sound.is_floating_point():
        raise ValueError(f"sound: expected spectrograms of shape (b, 1, bins, columns), got {describe(sound)}")
    return check_finite(sound.float(), "sound")
