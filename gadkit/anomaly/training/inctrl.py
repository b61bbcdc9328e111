"""InCTRL's heads, learnt on seen categories of the factory: which residuals make an anomaly, whatever the product.

The eyes are frozen and nothing is augmented, so every image is compared once with every normal image of its product;
all that a step of training does is to draw which of these comparisons count.

Source: Zhu and Pang, InCTRL, CVPR 2024, section 3 and the authors' code (loss, optimiser, batches).
Book: anomaly/inctrl
"""

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit import factory, runtime, weights, zoo
from gadkit.anomaly.detectors.inctrl import InCTRL
from gadkit.anomaly.detectors.residual_heads import TERMS, ResidualHeads, untrained
from gadkit.backbones import OpenCLIP
from gadkit.checks import check_finite, checked, describe, whole
from gadkit.factory.catalogue import lookup
from gadkit.factory.seeds import FIRST_LESSON
from gadkit.factory.sets import LEAST_PIXELS
from gadkit.runtime import progress

LR, SHOTS = 1e-3, (2, 4, 8)  # as published, but that there a training has one number of shots
STEPS = 400  # published: 1000; on development 300, 1000 and 3000 came out alike
EACH = 8  # normal and, as many, anomalous images of a batch
PRODUCTS, NORMAL = 2, 12  # of each category, and normal photographs of each product


@dataclass(frozen=True)
class Product:
    """Images of one product, compared: the r normal ones come first, then the anomalous ones.

    `distances` of each patch from the nearest patch of each normal image, and image vectors as the tower gives them.
    `text` is the probability that words alone give to "anomalous".
    """

    category: str
    distances: Float[Tensor, "q r l n"]
    vectors: Float[Tensor, "q d"]
    text: Float[Tensor, "q"]

    @property
    def normal(self) -> int:
        """How many normal images there are."""
        return self.distances.shape[1]


def photographs(
    category: str, number: int, normal: int = NORMAL
) -> tuple[UInt8[Tensor, "r 3 s s"], UInt8[Tensor, "q 3 s s"]]:
    """Normal photographs of a product, and one of each kind of defect, where it can be seen."""
    first = FIRST_LESSON + (number * 64 + sorted(factory.CATEGORIES).index(category)) * 4096
    good = factory.render(category, first + torch.arange(normal), first).images
    bad = []
    for i, defect in enumerate(lookup(category).defects):
        seeds = first + 1024 + 16 * i + torch.arange(4)
        shots = factory.render(category, seeds, first, defect, torch.tensor([0.9, 0.5, 0.3, 0.7]).roll(number + i))
        seen = shots.masks.flatten(1).float().mean(1) >= LEAST_PIXELS
        bad.append(shots.images[seen][:1])
    return good, torch.cat(bad)


@torch.no_grad()
def compared(detector: InCTRL, category: str, good: UInt8[Tensor, "r 3 s s"], bad: UInt8[Tensor, "q 3 s s"]) -> Product:
    """Images of one product, each compared with every normal one by an InCTRL for it, whatever its heads."""
    detector = copy.copy(detector).fit(good[:1])  # for the words
    features = detector.encode(torch.cat([good, bad])).features
    layers = [features[f"patches/{i}"] for i in detector.layers]  # (q, n, e) each
    pairs = [apart(x, x[: len(good)]) for x in layers]
    cosines = F.normalize(features["vectors"].double(), dim=-1) @ detector.text_vectors_.double().T
    text = (cosines / detector.temperature).softmax(-1)[:, 1].float()
    return Product(category, torch.stack(pairs, 2), features["vectors"], text)


def apart(queries: Float[Tensor, "q n e"], normal: Float[Tensor, "r n e"]) -> Float[Tensor, "q r n"]:
    """Half of 1 - cos of each patch of a query from the nearest patch of each normal image."""
    near = [((1 - (queries @ image.T).amax(-1)) / 2).clamp(min=0) for image in normal]
    return torch.stack(near, 1)


def products(clip: OpenCLIP, categories: Sequence[str], count: int = PRODUCTS, normal: int = NORMAL) -> list[Product]:
    """`count` products of each category, rendered, compared and forgotten."""
    rows, columns = clip.grid
    heads, found = untrained(rows * columns, clip.embed_dim), []
    for category in progress(categories, "comparing"):
        detector = InCTRL(clip, lookup(category).nouns[0], heads)
        found += [compared(detector, category, *photographs(category, i, normal)) for i in range(count)]
    return found


@checked
def focal(inputs: Float[Tensor, "b"], labels: Float[Tensor, "b"], logits: bool = True) -> Float[Tensor, ""]:
    """Focal loss with gamma 2 and alpha 1.

    With `logits`, probabilities are taken for logits, as the published code does: then even the best answer for a
    normal image costs something, and nothing becomes infinite.
    """
    entropy = F.binary_cross_entropy_with_logits if logits else F.binary_cross_entropy
    each = entropy(inputs, labels, reduction="none")
    return ((1 - torch.exp(-each)).square() * each).mean()


def batch(held: Sequence[Product], rng: random.Random, each: int = EACH) -> tuple[Tensor, ...]:
    """Residuals (b, n), image vectors (b, d), prompts' vectors (b, k, d), words (b,) and labels (b,) of a step.

    One number of shots holds for the step.  A normal image is never among its own prompts.
    """
    shots, rows = rng.choice(SHOTS), []
    for i in range(2 * each):
        one, anomalous = rng.choice(held), i >= each
        query = rng.randrange(one.normal, len(one.vectors)) if anomalous else rng.randrange(one.normal)
        prompts = rng.sample([r for r in range(one.normal) if r != query], shots)
        residual = one.distances[query, prompts].amin(0).mean(0)  # (n,)
        rows.append((residual, one.vectors[query], one.vectors[prompts], one.text[query]))
    labels = (torch.arange(2 * each, device=rows[0][0].device) >= each).float()
    return *(torch.stack(parts) for parts in zip(*rows, strict=True)), labels


def learn(
    held: Sequence[Product],
    steps: int = STEPS,
    seed: int = 0,
    terms: Sequence[str] = TERMS,
    logits: bool = True,
    lr: float = LR,
) -> dict[str, Tensor]:
    """Train heads on products; `terms` are added to the residual map, as in `InCTRL`.

    Raises FloatingPointError when the loss is not finite.
    """
    patches, width = held[0].distances.shape[-1], held[0].vectors.shape[-1]
    net = ResidualHeads(patches, width).to(held[0].vectors.device)
    net.load_state_dict(untrained(patches, width, seed))
    optimiser, rng = torch.optim.AdamW(net.parameters(), lr=lr), random.Random(f"inctrl/{seed}")
    for step in progress(range(steps), "training"):
        residual, vectors, prompts, text, labels = batch(held, rng)
        words = text if "text" in terms else None
        found = net(residual, net.compare(vectors, prompts), words, "reference" in terms)
        loss = focal(found["score"], labels, logits) + focal(found["reference"], labels, logits)
        if not loss.isfinite():
            raise FloatingPointError(f"loss: expected a finite number, got {loss.item()} at step {step}")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return {name: check_finite(value.detach().clone(), name) for name, value in net.state_dict().items()}


def train(out: Path, seed: int = 0, steps: int | None = None, backbone: str = "clip") -> Path:
    """Train heads for a CLIP of the zoo and write `out/inctrl.safetensors`; the path.

    Raises ValueError for a backbone that is no CLIP.
    """
    count = STEPS if steps is None else whole("steps", steps, 0)
    clip = zoo.load(backbone, device=str(runtime.device()))
    if not isinstance(clip, OpenCLIP):
        raise ValueError(f"backbone: expected a CLIP, got {describe(clip)}")
    held = products(clip, factory.split("seen"))
    images = sum(len(one.vectors) for one in held)
    facts = {"backbone": backbone, "seed": seed, "steps": count, "products": len(held), "images": images}
    return weights.write_heads(learn(held, count, seed), "inctrl", out, facts)
