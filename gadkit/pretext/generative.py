"""Tasks that are answered in pixels: the colours of a photograph, the content of a hole, what lies under noise.

Since each of them predicts pixels, `predict` gives a picture in [0, 1] of what has been learnt.

Book: pretext/generation
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gadkit import distributed
from gadkit.checks import checked, one_of
from gadkit.data.views import denormalise, normalise
from gadkit.nn.heads import BatchNorm
from gadkit.nn.vit import ViT
from gadkit.pretext.adversarial import Decoder, add_gradient, adversarial, critic
from gadkit.pretext.base import Pretext, init_small, unexplained_variance, weighted_cross_entropy
from gadkit.pretext.colour import lab_to_rgb, nearest_colour, palette, rgb_to_lab
from gadkit.pretext.shortcuts import mosaic

Images = Float[Tensor, "b 3 s s"]
STEP = 20.0  # of the palette, in Lab


class Colourisation(Pretext):
    """Predict the colours of a grey photograph (Zhang et al. 2016): classes, the rare ones weighted up.

    Every `cell` x `cell` pixels get one colour of a palette in (a, b); with `answer="regression"` two numbers, whose
    mean squared error is content with a greyish average.  `source="mosaic"` opens the shortcut: the grey image is a
    sensor's raw one, in which colour shows as a checkerboard; "lightness" closes it.
    `collapse`: every colour alike likely, or the batch's mean colour everywhere.
    """

    rebalance = 0.5  # lambda of eq. 4
    sharpness = 0.38  # temperature of eq. 5

    def __init__(
        self,
        encoder: ViT | None = None,
        answer: str = "classes",
        source: str = "lightness",
        cell: int = 4,
        size: int = 64,
    ) -> None:
        super().__init__(encoder, size)
        patch = self.encoder.patch_size
        if patch % cell:
            raise ValueError(f"cell: expected a divisor of the patch, {patch}, got {cell}")
        self.answer = one_of("answer", answer, ("classes", "regression"))
        self.source = one_of("source", source, ("lightness", "mosaic"))
        self.cell = cell
        self.register_buffer("colours", palette(STEP))
        self.register_buffer("frequency", torch.full((len(self.colours),), 1 / len(self.colours)))
        self.outputs = len(self.colours) if answer == "classes" else 2
        self.head = init_small(nn.Linear(self.encoder.width, (patch // cell) ** 2 * self.outputs))

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """The grey images (three equal channels, normalised), and Lab (b, 3, rows, columns), one value a cell."""
        (images,) = self.columns(batch)
        photographs = self.photographs(images)
        lab = rgb_to_lab(photographs)
        grey = mosaic(photographs) if self.source == "mosaic" else lab[:, :1] / 100
        return [normalise(grey.expand(-1, 3, -1, -1)), F.avg_pool2d(lab, self.cell)]

    def collapse(self, batch_size: int) -> float:
        """Every colour alike likely, or the batch's mean colour everywhere."""
        return math.log(self.outputs) if self.answer == "classes" else 1.0

    def answers(self, grey: Images) -> Float[Tensor, "b o r c"]:
        """Logits of the palette, or a and b in steps of the palette, for every cell."""
        return self.pixels(self.head(self.patches(grey)), grey, self.cell)

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """Cross-entropy weighted against common colours, or the unexplained share of (a, b).

        Equations 2 to 4, but for two simplifications: a cell's target is its nearest colour alone (the paper spreads
        it over the five nearest), and the frequencies are not smoothed over the palette.
        """
        grey, ab = views[0], views[1][:, 1:]
        answers = self.answers(grey)
        if self.answer == "regression":
            return unexplained_variance(answers, ab / STEP)
        truth = nearest_colour(ab.movedim(1, -1).flatten(0, -2), self.colours)  # (b * r * c)
        if self.training:
            here = truth.bincount(minlength=self.outputs) / len(truth)
            self.frequency.lerp_(distributed.mean(here), 0.02)
        weight = 1 / ((1 - self.rebalance) * self.frequency + self.rebalance / self.outputs)
        return weighted_cross_entropy(answers.movedim(1, -1).flatten(0, -2), truth, weight)

    @torch.no_grad()
    def predict(self, views: list[Tensor]) -> Images:
        """The views in the colours that the network gives them, the mean of a sharpened distribution (eq. 5)."""
        grey = views[0]
        answers = self.answers(grey)
        if self.answer == "classes":
            share = (answers / self.sharpness).softmax(1)
            ab = torch.einsum("bqrc,qk->bkrc", share, self.colours)
        else:
            ab = answers * STEP
        ab = F.interpolate(ab, grey.shape[-2:], mode="bilinear", align_corners=False)
        return lab_to_rgb(torch.cat([denormalise(grey)[:, :1] * 100, ab], 1))


class Inpainting(Pretext):
    """Fill a hole from what surrounds it: the context encoder of Pathak et al. 2016.

    `hole`: "blocks", up to a quarter of the image in four squares at random places; "centre", the same square always,
    to whose rim a network can adapt; "specks", two pixels wide, which opens the shortcut: a blur fills them.
    `adversary` weighs a critic that scores the filled images (the paper: 0.001).  `collapse`: the hole's mean colour.
    """

    transient = ("critic.",)

    def __init__(
        self, encoder: ViT | None = None, hole: str = "blocks", adversary: float = 0.0, size: int = 64
    ) -> None:
        super().__init__(encoder, size)
        self.hole = one_of("hole", hole, ("blocks", "centre", "specks"))
        self.adversary = _weight(adversary)
        width, outputs = self.encoder.width, 3 * self.encoder.patch_size**2
        self.head = init_small(nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, outputs)))
        self.critic = critic() if adversary else None

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Photographs with a hole of the mean colour, the whole ones, and the hole (b, 1, s, s), True inside."""
        (images,) = self.columns(batch)
        whole = normalise(self.photographs(images))
        hole = holes(len(whole), self.size, self.hole, whole.device)
        return [whole.masked_fill(hole, 0.0), whole, hole]

    def collapse(self, batch_size: int) -> float:
        """1: the hole's mean colour everywhere."""
        return 1.0

    def fill(self, views: list[Tensor]) -> Images:
        """The network's content for the hole, and the photograph round it, normalised."""
        holed, whole, hole = views
        made = self.pixels(self.head(self.patches(holed)), holed)
        return torch.where(hole, made, whole)

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """The share of the hole's variance that is left unexplained; the critic adds gradient, not value."""
        filled, (_, whole, hole) = self.fill(views), views
        value = unexplained_variance(filled, whole, hole.expand_as(whole))
        if self.critic is None:
            return value
        judging, deceiving = adversarial(self.critic, whole, filled)
        return add_gradient(value, judging + self.adversary * deceiving)

    @torch.no_grad()
    def predict(self, views: list[Tensor]) -> Images:
        """The filled photographs."""
        return denormalise(self.fill(views)).clamp(0, 1)


class Autoencoder(Pretext):
    """Draw a photograph again from its `code` (so many numbers), or, with `code=None`, from every patch's own token.

    `noise` is the deviation of Gaussian noise on the input, in normalised units: the denoising autoencoder of Vincent
    et al. 2008.  Without noise and without a narrow code the shortcut is open: every patch need only copy itself.
    With an `adversary` a critic scores the copies and, where there is a code, images drawn from random codes: a small
    GAN (VAE-GAN of Larsen et al. 2016, its code standardised instead of variational).  `collapse`: one mean colour.
    """

    transient = ("critic.",)

    def __init__(
        self,
        encoder: ViT | None = None,
        code: int | None = 64,
        noise: float = 0.5,
        adversary: float = 0.0,
        size: int = 64,
    ) -> None:
        super().__init__(encoder, size)
        if not 0 <= noise < math.inf or (code is not None and code < 1):
            raise ValueError(f"autoencoder: expected noise >= 0 and a code of at least 1, got {noise} and {code}")
        self.code, self.noise, self.adversary = code, noise, _weight(adversary)
        if code is None:
            self.head = init_small(nn.Linear(self.encoder.width, 3 * self.encoder.patch_size**2))
        else:  # standardised, so that normal numbers are codes too
            self.squeeze = nn.Sequential(nn.Linear(self.encoder.width, code), BatchNorm(code, affine=False))
            self.decoder = Decoder(code, size)
        self.critic = critic() if adversary else None

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Noisy photographs and clean ones."""
        (images,) = self.columns(batch)
        clean = normalise(self.photographs(images))
        return [clean + self.noise * torch.randn_like(clean), clean]

    def collapse(self, batch_size: int) -> float:
        """1: the batch's mean colour everywhere."""
        return 1.0

    def reconstruct(self, noisy: Images) -> Images:
        """The network's copies, normalised."""
        if self.code is None:
            return self.pixels(self.head(self.patches(noisy)), noisy)
        return self.decoder(self.squeeze(self.features(noisy)))

    def generate(self, count: int, generator: torch.Generator | None = None) -> Images:
        """Images drawn from `count` random codes, normalised.  Raises ValueError where there is no code."""
        if self.code is None:
            raise ValueError("generate: expected an autoencoder with a code, got one that copies patch by patch")
        where = self.decoder.spread.weight.device
        return self.decoder(torch.randn(count, self.code, generator=generator).to(where))

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """The share of the photographs' variance that is left unexplained; the critic adds gradient, not value."""
        noisy, clean = views
        made = self.reconstruct(noisy)
        value = unexplained_variance(made, clean)
        if self.critic is None:
            return value
        fake = made if self.code is None else torch.cat([made, self.generate(len(made))])
        judging, deceiving = adversarial(self.critic, clean, fake)
        return add_gradient(value, judging + self.adversary * deceiving)

    @torch.no_grad()
    def predict(self, views: list[Tensor]) -> Images:
        """The network's copies."""
        return denormalise(self.reconstruct(views[0])).clamp(0, 1)


def _weight(adversary: float) -> float:
    if not 0 <= adversary < math.inf:
        raise ValueError(f"adversary: expected a weight from 0, got {adversary}")
    return adversary


@checked
def holes(
    count: int, size: int, kind: str, device: torch.device | None = None, generator: torch.Generator | None = None
) -> Bool[Tensor, "b 1 s s"]:
    """Masks of the three kinds, True in the hole; each takes about a quarter of the image or less."""
    if kind == "centre":
        side = torch.arange(size, device=device)
        inside = (side >= size // 4) & (side < size // 4 + size // 2)
        return (inside[:, None] & inside).expand(count, 1, size, size)
    if kind == "specks":
        coarse = (torch.rand(count, 1, -(-size // 2), -(-size // 2), generator=generator) < 0.25).to(device)
        return coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., :size, :size]
    at = torch.randint(size - size // 4 + 1, (count, 4, 2, 1), generator=generator).to(device)
    side = torch.arange(size, device=device)
    inside = (side >= at) & (side < at + size // 4)  # (b, 4, 2, s): four squares, rows and columns
    return (inside[:, :, 0, :, None] & inside[:, :, 1, None, :]).any(1, keepdim=True)
