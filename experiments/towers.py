"""What stands on the real eyes, and which words: four ways to make the clip, on the same batches, on development.

On the frozen eyes stands a small vision transformer, as in the `clip` that is shipped, or a light head: a convolutional
layer and a projection, no attention, and the mean of its patches for the image.  The words come from the shipped text
tower, or from a sentence encoder that has read a billion pairs of sentences.  All that is frozen stays frozen; of both
kinds of words only the projection learns.

`python -m experiments.towers` writes `book/results/towers.json`; a killed run goes on from its checkpoint.

Book: anomaly/winclip
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import mean

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from gadkit import factory, runtime, zoo
from gadkit.anomaly.metrics import auroc
from gadkit.anomaly.prompts import WINCLIP
from gadkit.backbones.openclip import OpenCLIP, embed
from gadkit.backbones.tiny import build_tiny_clip
from gadkit.factory.pairs import PairPool
from gadkit.files import provenance, write_json
from gadkit.multimodal.contrastive import RECIPES, Config, Contrast, objective, standardise, take_text
from gadkit.train import Plan, fit

OUT, RUN = Path("book/results/towers.json"), Path("runs/towers")
TOWERS, WORDS = ("transformer", "light head"), ("text tower", "sentence encoder")
STEPS, CHUNKS, VARIANTS = 600, 96, 2


class Once(nn.Module):
    """A frozen network that computes what it was just asked only once: all four see the same images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.asked, self.answer = network, torch.empty(0), ()

    def forward(self, x: Float[Tensor, "b 3 s s"]) -> tuple[Tensor, ...]:
        """What the network answers."""
        if self.asked.shape != x.shape or not torch.equal(self.asked, x):
            self.asked, self.answer = x, self.network(x)
        return self.answer


class Way(Contrast):
    """One of the four, trained by the objective of `clip`."""

    def __init__(self, config: Config, tower: str, words: str) -> None:
        head = tower == TOWERS[1]
        clip = build_tiny_clip(replace(config.model, layers=0) if head else config.model)
        take_text(clip, config.text)
        super().__init__(clip, config)
        self.head = head
        if words == WORDS[1]:
            sentences = zoo.load("minilm")
            self.project = nn.Linear(sentences.embed_dim, config.model.embed, bias=False)
            self.sentences = (sentences,)  # in a tuple: no part of what learns
            self.tokenize, self.encode_text = self.read, self.encode_sentences

    def tower(self, tokens: Float[Tensor, "b t w"]) -> Float[Tensor, "b t d"]:
        """Without attention nothing reaches the class token; the mean of the patches takes its place."""
        found = super().tower(tokens)
        if not self.head:
            return found
        return torch.cat([F.normalize(found[:, 1:].mean(1, keepdim=True), dim=-1), found[:, 1:]], 1)

    def read(self, texts: list[str]) -> Int[Tensor, "n t"]:
        """The sentence encoder's token ids."""
        return self.sentences[0].tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]

    def encode_sentences(self, tokens: Int[Tensor, "n t"]) -> Float[Tensor, "n d"]:
        """The frozen vectors of sentences, projected."""
        sentences, mask = self.sentences[0], (tokens != self.sentences[0].tokenizer.pad_token_id).long()
        return self.project(sentences.encode_token_ids(tokens, mask))

    @torch.inference_mode()
    def judge(self, data: factory.TestSet, noun: str) -> dict[str, float]:
        """AUROC on one product: by words, of the image's vector and of its patches, and by 4 good parts."""
        texts = torch.stack(
            [
                F.normalize(self.encode_text(self.tokenize(list(some))).float(), dim=-1).mean(0)
                for some in WINCLIP.texts(noun)
            ]
        )
        good, bad = F.normalize(texts, dim=-1)
        seen, known = (self.look(images) for images in (data.images, data.references))
        margin = seen @ (bad - good)  # (b, 1 + n)
        distance = 1 - (seen[:, 1:] @ known[:, 1:].flatten(0, 1).T).amax(2)  # (b, n)
        labels, masks = data.labels.numpy(), data.masks.numpy()
        return {
            "words, image vector": auroc(margin[:, 0].numpy(), labels),
            "words, worst patch": auroc(margin[:, 1:].amax(1).numpy(), labels),
            "words, pixels": auroc(self.spread(margin[:, 1:], masks.shape[1:]), masks),
            "4 good parts, images": auroc(distance.amax(1).numpy(), labels),
            "4 good parts, pixels": auroc(self.spread(distance, masks.shape[1:]), masks),
        }

    def look(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b t d"]:
        """Unit vectors of images and their patches."""
        prepared = OpenCLIP(self.clip, self.tokenize).preprocess(images)
        return self.tower(self.clip.visual.ln_pre(embed(self.clip.visual, prepared))).float().cpu()

    def spread(self, values: Float[Tensor, "b n"], size: Sequence[int]) -> Float[np.ndarray, "b h w"]:
        """Values of patches at every pixel."""
        maps = values.unflatten(1, (self.grid, self.grid))[:, None]
        return F.interpolate(maps, tuple(size), mode="bilinear")[:, 0].numpy()


def main(argv: Sequence[str] | None = None) -> int:
    """Train the four side by side, measure them on development, write the rows."""
    parser = argparse.ArgumentParser("experiments.towers", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help=f"default: {OUT}")
    parser.add_argument("--run", type=Path, default=RUN, help=f"for the checkpoint (default: {RUN})")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"default: {STEPS}")
    parser.add_argument("--chunks", type=int, default=CHUNKS, help=f"renderings to draw pairs from (default: {CHUNKS})")
    given = parser.parse_args(argv)
    config = replace(RECIPES["clip"], steps=given.steps, first=given.steps, out=Path())
    where, pool = runtime.device(), PairPool(config.seed, given.chunks)
    runtime.seed_everything(config.seed)
    names = [*product(TOWERS, WORDS)]
    ways = nn.ModuleList(Way(config, *name) for name in names)
    standardise(ways[0].clip, pool, config)
    first = ways[0].clip.visual.conv1
    eyes = Once(first.eyes)
    for way in ways:
        stem = way.clip.visual.conv1
        stem.mean.copy_(first.mean), stem.std.copy_(first.std)
        stem.eyes = eyes
    ways.to(where)
    losses = [objective(way, pool) for way in ways]
    # no part learns from two of the losses, and without clipping AdamW moves each as it would alone
    plan = Plan(steps=given.steps, lr=config.lr, clip=1e9, average=0.0)
    what = f"towers, {given.chunks} renderings, seed {config.seed}"
    _, seconds = fit(ways, lambda step: torch.stack([f(step) for f in losses]).sum(), plan, given.run, what=what)
    rows = [{"tower": tower, "words": words, "products": {}} for tower, words in names]
    for category, variant in product(factory.split("development"), range(VARIANTS)):
        data, noun = factory.test_set(category, variant), factory.CATEGORIES[category].nouns[0]
        for row, way in zip(rows, ways.eval(), strict=True):
            found = way.judge(data, noun)
            row["products"][f"{category} {variant}"] = {key: round(float(value), 4) for key, value in found.items()}
    for row in rows:
        each = list(row["products"].values())
        row["mean"] = {key: round(mean(values[key] for values in each), 4) for key in each[0]}
    about = {"what": "four ways to make the clip, on the same batches, development", "steps": given.steps}
    about |= {"renderings": given.chunks, "seed": config.seed, "seconds": round(seconds), "rows": rows}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, about | provenance(where))
    for row in rows:
        sys.stdout.write(f"{row['tower']}, {row['words']}: {row['mean']}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
