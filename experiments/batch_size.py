"""What the size of a batch does to the softmax and to the sigmoid loss, and what better eyes or words are worth.

All that is frozen meets every photograph and every caption once: the eyes, and the packaged sentence encoder.  What
learns is a small head on the vectors of images, and a projection of those of sentences, so that a thousand steps take
seconds.  With the middle batch, the eyes are also tried with random weights, and a small text tower that learns from
nothing takes the place of the sentence encoder.

`python -m experiments.batch_size` writes `book/results/batch_size.json` row by row; rows that are there are not
measured again.  Nothing is measured on held-out categories.

Book: multimodal/contrastive
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from cards.contrastive import plain
from gadkit import runtime, zoo
from gadkit.backbones.sentences import Sentences
from gadkit.backbones.tiny import EYES, Eyes, TinyConfig, build_tiny_clip, tokenizer
from gadkit.evaluation.retrieval import recalls
from gadkit.factory import descriptions
from gadkit.files import provenance, write_json
from gadkit.multimodal.captioned import captioned
from gadkit.multimodal.training.pairs import LOSSES, MOST, Pairs
from gadkit.train import Plan, batch_rows, fit

OUT = Path("book/results/batch_size.json")
BATCHES, SEEDS = (16, 64, 256), 3
PAIRS = 16384  # seen in a training, whatever its batch
PHOTOGRAPHS, MEASURED, WORDINGS = 768, 128, 3
SPLITS = {"seen": "development", "development": "development"}  # what is measured, and the range of its seeds
SIGHT = {"real": EYES[0], "random": EYES[1]}
READERS = ("sentence encoder", "text tower")
TOWER = TinyConfig(image_size=32, layers=0, text_width=64, text_layers=2)  # its image side is not used
HIDDEN = 256


@dataclass(frozen=True)
class Data:
    """Frozen vectors of n photographs, what is read of t texts, and which text is true of which photograph."""

    images: Float[Tensor, "n d"]
    texts: Tensor
    right: Bool[Tensor, "n t"]


class Heads(nn.Module):
    """A head on vectors of `width` numbers, and a projection of sentence vectors or a text tower."""

    def __init__(self, width: int, reader: str, loss: str) -> None:
        super().__init__()
        self.pairs = Pairs(build_tiny_clip(TOWER), loss)
        self.pairs.clip.visual.requires_grad_(False)
        embed = TOWER.embed
        self.see = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, embed))
        self.read: Callable = self.pairs.encode_tokens
        if reader == READERS[0]:
            self.read = nn.Linear(sentences().embed_dim, embed, bias=False)

    def forward(self, images: Float[Tensor, "b d"], texts: Tensor) -> Float[Tensor, ""]:
        """The loss of a batch of pairs."""
        return self.pairs.compare(self.see(images), self.read(texts))

    @torch.no_grad()
    def measure(self, data: Data) -> dict[str, float]:
        """Recall@1 and @5, both ways."""
        cosines = F.normalize(self.see(data.images), dim=1) @ F.normalize(self.read(data.texts), dim=1).T
        return recalls(cosines, (1, 5), data.right)


@cache
def sentences() -> Sentences:
    """The packaged sentence encoder."""
    return zoo.load("minilm", "tiny", "cpu")


@cache
def eyes(name: str) -> Eyes:
    """The frozen eyes."""
    return Eyes(name)


@torch.no_grad()
def look(images: UInt8[Tensor, "n 3 s s"], name: str) -> Float[Tensor, "n d"]:
    """The mean and the largest value of every channel of the eyes' three maps."""
    found = []
    for some in images.split(64):
        maps = eyes(name)(some.float() / 127.5 - 1)
        found.append(torch.cat([f(m) for m in maps for f in (lambda x: x.mean((2, 3)), lambda x: x.amax((2, 3)))], 1))
    return torch.cat(found)


def read(texts: Sequence[str], reader: str) -> Float[Tensor, "n d"] | Int[Tensor, "n t"]:
    """Vectors of sentences, or token ids."""
    return sentences().encode_text(texts) if reader == READERS[0] else tokenizer()([*texts])


@cache
def shown(photographs: int) -> Any:
    """What is learnt from."""
    return captioned({"seen": photographs}, wordings=WORDINGS)


@cache
def encoded(photographs: int, sight: str, reader: str) -> tuple[Data, dict[str, Data]]:
    """What is learnt from, and what is measured on, by split; images by the statistics of the first."""
    some = shown(photographs)
    images = seen(photographs, sight)
    centre, spread = images["learnt"].mean(0), images["learnt"].std(0) + 1e-6
    images = {key: (x - centre) / spread for key, x in images.items()}
    texts = read([text for row in some.captions for text in row], reader)
    learnt = Data(images["learnt"], texts, torch.eye(len(some), dtype=torch.bool).repeat_interleave(WORDINGS, 1))
    held = {}
    for split in SPLITS:
        said = [plain(fact) for fact in gallery(split).facts]
        unique = [*dict.fromkeys(said)]
        right = torch.tensor([[text == own for text in unique] for own in said])
        held[split] = Data(images[split], read(unique, reader), right)
    return learnt, held


@cache
def gallery(split: str) -> descriptions.Described:
    """The photographs that are measured on."""
    return descriptions.render(MEASURED, split=split, purpose=SPLITS[split])


@cache
def seen(photographs: int, sight: str) -> dict[str, Float[Tensor, "n d"]]:
    """The eyes' vectors of all photographs."""
    images = {"learnt": shown(photographs).images} | {split: gallery(split).images for split in SPLITS}
    return {key: look(x, SIGHT[sight]) for key, x in images.items()}


def rows(batches: Sequence[int] = BATCHES, seeds: int = SEEDS) -> list[dict[str, Any]]:
    """What is trained: each loss with each batch, and with the middle one on random eyes and with a text tower."""
    middle = batches[len(batches) // 2]
    ways = [(batch, "real", READERS[0]) for batch in batches]
    ways += [(middle, "real", READERS[1]), (middle, "random", READERS[0])]
    return [
        {"loss": loss, "batch": batch, "eyes": sight, "words": reader, "seed": seed}
        for batch, sight, reader in ways
        for loss in LOSSES
        for seed in range(seeds)
    ]


def train(row: dict[str, Any], learnt: Data, pairs: int) -> tuple[Heads, float]:
    """The trained heads of a row, and the seconds."""
    steps, count = max(1, pairs // row["batch"]), len(learnt.images)
    batch = min(row["batch"], count)
    runtime.seed_everything(row["seed"])
    heads = Heads(learnt.images.shape[1], row["words"], row["loss"])
    texts = learnt.texts.unflatten(0, (count, WORDINGS))

    def loss(step: int) -> Float[Tensor, ""]:
        some = batch_rows(count, batch, step, row["seed"])
        generator = torch.Generator().manual_seed(row["seed"] * 1_000_003 + step)
        return heads(learnt.images[some], texts[some, torch.randint(WORDINGS, some.shape, generator=generator)])

    plan = Plan(steps=steps, lr=1e-3, warmup=steps // 10, weight_decay=0.1, batch=batch, average=0.0)
    return fit(heads.train(), loss, plan)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the rows that are not there yet; 0 when all are."""
    parser = argparse.ArgumentParser("experiments.batch_size", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help=f"default: {OUT}")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"pairs of a training (default: {PAIRS})")
    parser.add_argument("--photographs", type=int, default=PHOTOGRAPHS, help=f"(default: {PHOTOGRAPHS})")
    parser.add_argument("--batches", type=int, nargs="+", default=[*BATCHES], help="(default: 16 64 256)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of each training (default: {SEEDS})")
    given = parser.parse_args(argv)
    held = json.loads(given.out.read_text(encoding="utf-8"))["rows"] if given.out.exists() else []
    for row in rows(given.batches, given.seeds):
        row |= {"pairs": given.pairs, "photographs": given.photographs}
        if any(row.items() <= known.items() for known in held):
            continue
        learnt, measured = encoded(given.photographs, row["eyes"], row["words"])
        heads, seconds = train(row, learnt, given.pairs)
        clip = heads.eval().pairs.clip
        row |= {"scale": round(clip.logit_scale.detach().clamp(max=MOST).exp().item(), 3), "seconds": round(seconds, 1)}
        row |= {"bias": round(clip.logit_bias.item(), 3)}
        for split, data in measured.items():
            row[split] = {key: round(value, 4) for key, value in heads.measure(data).items()}
            row[f"chance, {split}"] = round(
                recalls(torch.zeros(data.right.shape), (1,), data.right)["text_to_image@1"], 4
            )
        held.append(row)
        given.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(given.out, {"measured": MEASURED} | provenance("cpu") | {"rows": held})
        sys.stderr.write(f"{held[-1]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
