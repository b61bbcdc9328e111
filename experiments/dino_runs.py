"""Trainings of DINO and DINOv2 that differ in their seed: the course of the loss, and which DINO is shipped.

    python -m experiments.train_all dino dinov2 --seeds 0 1 2 --photographs 400000 --out runs
    python -m experiments.dino_runs runs/dino* --out book/results/dino_runs.json

The choice is made on the development categories, which no table of the comparison uses: accuracy of nearest neighbours
on products of their own, the mean of three draws.  Beside it stand the overlap of the class token's attention with the
part, the best head's, what the teacher's targets tell about photographs, and the sample of the model card.

Book: selfsup/dino
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from cards.representations import spot_check
from gadkit import factory, runtime, weights, zoo
from gadkit.backbones import Encoder
from gadkit.data.views import normalise, resize
from gadkit.evaluation.features import encode
from gadkit.evaluation.probes import knn_accuracy
from gadkit.evaluation.representation import attention_maps
from gadkit.evaluation.results import merge, read
from gadkit.evaluation.sets import Labelled, seeds
from gadkit.factory.pool import unlabelled
from gadkit.files import provenance, writable
from gadkit.selfsup import DINO

ABOUT = "trainings of DINO and DINOv2: the loss, and k-NN and attention on development categories by draw"
CATEGORIES = factory.split("development")
LEARN, ASK, DRAWS = 50, 25, 3  # products of a category, two photographs each, and sets to be asked about
OTHER = 5  # a pool that no training was given
HELD = 0.6  # share of the attention that the patches of a map must hold, as in the paper's figure 4
STEP = re.compile(r"step (\d+) of \d+, loss (\d+\.\d+)")


def course(log: str) -> tuple[list[int], list[float]]:
    """The steps and the losses that a training's log tells.  Raises ValueError for a log that tells none."""
    if not (found := STEP.findall(log)):
        raise ValueError("log: expected lines like 'step 200 of 3125, loss 2.8727', got none")
    return [int(step) for step, _ in found], [float(loss) for _, loss in found]


def overlap(maps: Float[Tensor, "b heads r c"], truth: Bool[Tensor, "b n"]) -> Float[Tensor, "heads"]:
    """Intersection over union of the part's patches and those that hold `HELD` of a head's attention; mean of images.

    Caron et al. 2021, figure 4.
    """
    share = maps.flatten(2) / maps.sum((2, 3))[..., None]
    mass, order = share.sort(2, descending=True)
    kept = (mass.cumsum(2) - mass < HELD).gather(2, order.argsort(2))
    both, either = kept & truth[:, None], kept | truth[:, None]
    return (both.sum(2) / either.sum(2)).mean(0)


@cache
def draw(name: str, products: int, size: int = 96) -> tuple[Labelled, Bool[Tensor, "n s s"]]:
    """Sound parts of the development categories, two photographs of each product, and where the part is."""
    shots = []
    for category in CATEGORIES:
        shown = seeds(f"dino-choice/{name}/{category}/products", products).repeat_interleave(2)
        places = seeds(f"dino-choice/{name}/{category}", 2 * products)
        shots.append(factory.render(category, places, shown, size=size))
    labels = torch.arange(len(CATEGORIES)).repeat_interleave(2 * products)
    images = torch.cat([shot.images for shot in shots])
    return Labelled(f"dino-choice/{name}/{products}/{size}", images, labels, CATEGORIES), torch.cat(
        [shot.cover for shot in shots]
    )


@torch.no_grad()
def on_development(backbone: Encoder, learn: int = LEARN, ask: int = ASK) -> dict[str, list[float]]:
    """Accuracy of nearest neighbours, and the best head's overlap with the part, by draw."""
    known, _ = draw("train", learn)
    x = encode(backbone, known.images).pooled
    found: dict[str, list[float]] = {"knn": [], "attention": []}
    for i in range(DRAWS):
        asked, cover = draw(str(i), ask)
        y = encode(backbone, asked.images).pooled
        maps = attention_maps(backbone, asked.images)
        truth = F.adaptive_avg_pool2d(cover[:, None].float(), maps.shape[2:]).flatten(1) > 0.5
        part = truth.any(1) & (truth.float().mean(1) < 0.9)  # textures fill the picture
        found["knn"].append(round(knn_accuracy(x, known.labels, y, asked.labels), 5))
        found["attention"].append(round(float(overlap(maps[part], truth[part]).max()), 5))
    return found


@torch.no_grad()
def targets(method: DINO, count: int = 192) -> dict[str, float]:
    """Entropy of the teacher's targets on photographs of another pool, and what they tell about them, in nats."""
    tokens = method.encoder(normalise(resize(unlabelled(count, seed=OTHER).images, method.size)))[:, 0]
    p = ((method.head(tokens) - method.centre) / method.teacher_temperature).softmax(1)
    entropy, mixed = torch.special.entr(p).sum(1).mean(), torch.special.entr(p.mean(0)).sum()
    return {"entropy": round(float(entropy), 4), "tells": round(float(mixed - entropy), 4)}


def key(row: Mapping[str, Any]) -> tuple[str, int]:
    """A row is a training: a method and its seed."""
    return row["training"]["method"], row["training"]["seed"]


def measure(file: Path, training: Mapping[str, Any]) -> dict[str, Any]:
    """One training, by its checkpoint and its header's facts: what its log says, and what it reaches."""
    name = training["method"]
    steps, losses = course((file.parent / "log.txt").read_text(encoding="utf-8"))
    told = {"training": training, "steps": steps, "losses": losses, "sample": round(spot_check(name, file), 5)}
    if name == "dino":  # DINOv2's targets depend on the batch that Sinkhorn balances
        told["targets"] = targets(zoo.load(name, gives="method", file=file))
    return told | {"development": on_development(zoo.load(name, "tiny", file=file))} | provenance(runtime.device())


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the trainings that are not in the file; standard output names the one to ship."""
    parser = argparse.ArgumentParser(description="Compare DINO's trainings on the development categories.")
    parser.add_argument("runs", type=Path, nargs="+", metavar="DIR", help="trainings: a checkpoint and log.txt in each")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to merge into")
    given = parser.parse_args(argv)
    try:
        writable(given.out.parent, "--out")
        for run in given.runs:
            file = next(iter(run.glob("*.safetensors")), run / "dino.safetensors")
            training = weights.facts(file)
            if key({"training": training}) not in map(key, read(given.out)):
                merge(given.out, [measure(file, training)], key, ABOUT)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    ours = [row for row in read(given.out) if row["training"]["method"] == "dino"]
    best = max(ours, key=lambda row: mean(row["development"]["knn"]))
    sys.stdout.write(f"training seed {best['training']['seed']}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
