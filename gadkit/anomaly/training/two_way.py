"""What AnomalyCLIP and UniADet's idea are taught by: normal or anomalous, for whole images and for every pixel.

The eyes are frozen and nothing is augmented, so every image is encoded once.

Source: Zhou et al., AnomalyCLIP, ICLR 2024, section 3.3 (the glocal loss) and the authors' `loss.py`.
Book: anomaly/anomalyclip
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from gadkit.checks import check_finite, checked, whole
from gadkit.factory.pairs import PairPool
from gadkit.runtime import progress
from gadkit.train import batch_rows

SEEDS = 32  # below are those of the pairs that the CLIPs have learnt from
CHUNK = 12  # pairs of one category and one defect
PIXELS = 4.0  # weight of the losses of pixels
Answer = tuple[Float[Tensor, "b 2"], Sequence[Float[Tensor, "b r c"]]]


@dataclass(frozen=True)
class Lessons:
    """Encoded images: `features` by name, whose first axis counts images, and what is true of them."""

    features: Mapping[str, Tensor]
    labels: Bool[Tensor, "n"]
    masks: Bool[Tensor, "n s s"]


@checked
def lessons(
    encode: Callable[[UInt8[Tensor, "b 3 h w"]], Mapping[str, Tensor]], pairs: int = 1200, seed: int = 0
) -> Lessons:
    """About so many parts with a defect and their sound twins, rendered, encoded and forgotten.

    Categories are the seen ones and parts that do not exist; no product of theirs was shown to the CLIPs.
    """
    pool, found, masks, labels = PairPool(SEEDS + seed, size=CHUNK), [], [], []
    for number in progress(range(-(-whole("pairs", pairs) // CHUNK)), "encoding"):
        held = pool.render(number)
        if not len(held.categories):
            continue
        found.append(encode(torch.cat([held.sound, held.defective])))
        masks += [torch.zeros_like(held.masks), held.masks]
        labels += [torch.zeros(len(held.masks), dtype=torch.bool), torch.ones(len(held.masks), dtype=torch.bool)]
    features = {name: torch.cat([some[name] for some in found]) for name in found[0]}
    return Lessons(features, torch.cat(labels), torch.cat(masks))


def focal(wrong: Float[Tensor, "b h w"], masks: Bool[Tensor, "b h w"]) -> Float[Tensor, ""]:
    """Focal loss, gamma 2, of the probability of "anomalous" in every pixel; with the authors' smoothing by 1e-5."""
    slip = 1e-5
    true = torch.where(masks, wrong, 1 - wrong)
    true = (1 - slip) * true + slip * (1 - true) + slip
    return -((1 - true).square() * true.log()).mean()


def dice(found: Float[Tensor, "b h w"], truth: Float[Tensor, "b h w"]) -> Float[Tensor, ""]:
    """One minus the mean overlap (Dice) of images; the smoothing of 1 lets empty masks be right."""
    both, each = (found * truth).sum((1, 2)), (found + truth).sum((1, 2))
    return 1 - ((2 * both + 1) / (each + 1)).mean()


@checked
def glocal(
    logits: Float[Tensor, "b 2"],
    maps: Sequence[Float[Tensor, "b r c"]],
    labels: Bool[Tensor, "b"],
    masks: Bool[Tensor, "b s s"],
) -> Float[Tensor, ""]:
    """Cross-entropy of images, and 4 times focal loss and two Dice losses of each layer's map of probabilities."""
    truth, total = masks.float(), F.cross_entropy(logits, labels.long())
    for grid in maps:
        wrong = F.interpolate(grid[:, None], masks.shape[1:], mode="bilinear", align_corners=False)[:, 0]
        total = total + PIXELS * (focal(wrong, masks) + dice(wrong, truth) + dice(1 - wrong, 1 - truth))
    return total


@checked
def teach(
    heads: Mapping[str, Tensor],
    answer: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Answer],
    held: Lessons,
    steps: int,
    batch: int = 16,
    lr: float = 1e-3,
    seed: int = 0,
    whole_set: Callable[[Mapping[str, Tensor]], Float[Tensor, "n 2"]] | None = None,
) -> dict[str, Tensor]:
    """Train heads by Adam (0.5, 0.999) and half a cosine; `answer(heads, features)` gives logits and layers' maps.

    `whole_set(heads)` gives the logits of all images, for whose loss it then stands.  Raises ValueError for fewer
    images than a batch, FloatingPointError when the loss is not finite.
    """
    whole("batch", batch, 1, len(held.labels))
    own = {name: value.clone().requires_grad_() for name, value in heads.items()}
    optimiser = torch.optim.Adam([*own.values()], lr=lr, betas=(0.5, 0.999))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
    for step in progress(range(steps), "training"):
        rows = batch_rows(len(held.labels), batch, step, seed)
        logits, maps = answer(own, {name: values[rows] for name, values in held.features.items()})
        loss = glocal(logits, maps, held.labels[rows], held.masks[rows])
        if whole_set:
            images = F.cross_entropy(whole_set(own), held.labels.long())
            loss = loss - F.cross_entropy(logits, held.labels[rows].long()) + images
        if not loss.isfinite():
            raise FloatingPointError(f"loss: expected a finite number, got {loss.item()} at step {step}")
        gradients = torch.autograd.grad(loss, [*own.values()])
        for value, gradient in zip(own.values(), gradients, strict=True):
            value.grad = gradient
        optimiser.step(), schedule.step()
    return {name: check_finite(value.detach(), name) for name, value in own.items()}


def logits_of(vectors: Float[Tensor, "*b d"], pair: Float[Tensor, "2 d"], temperature: float) -> Float[Tensor, "*b 2"]:
    """Cosines of unit vectors with two others of any length, over the temperature."""
    return vectors @ F.normalize(pair, dim=-1).T / temperature
