"""What the CLIPs of the book read: retrieval, nine kinds of choices, classes, a linear probe, the modality gap.

`python -m cards.contrastive` measures every model that there are weights for, and two baselines, on new products of the
seen categories and on the development split, into `book/results/contrastive.json`, row by row; rows that are there are
kept.  `--split held-out` adds the held-out split.  `--card NAME` writes a model's card from that file.

Book: multimodal/contrastive
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from cards.contrastive_texts import TEXTS
from gadkit import factory, runtime, weights, zoo
from gadkit.evaluation.probes import fit_linear
from gadkit.evaluation.results import markdown
from gadkit.evaluation.retrieval import modality_gap, recalls
from gadkit.evaluation.sceptic import Sceptic, histograms
from gadkit.evaluation.wording import KINDS, Choices, choices, preference
from gadkit.factory import descriptions
from gadkit.factory.captions import BY_DEFECT
from gadkit.factory.descriptions import Described, Fact
from gadkit.factory.descriptions.words import TEMPLATES, article, phrase
from gadkit.files import provenance, replacing, write_json

RESULTS = Path("book/results/contrastive.json")
NAMES = ("clip-pairs", "siglip", "clip", "clip-scratch", "clip-random")
SCEPTIC, UNTRAINED = "colours and a bag of words", "clip-random"
TIMES = 5  # chance: what recall@1 was to reach
SPLITS = {"seen": "test", "development": "development", "held-out": "test"}  # and the range of seeds
GALLERY, CHOICES, KNOWN = 300, 150, 2000


class Encoders:
    """A CLIP that encodes every picture and every text once."""

    def __init__(self, name: str) -> None:
        self.model, self.images, self.texts = zoo.load(name, "tiny"), {}, {}

    def encode_images(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Unit vectors of pictures."""
        keys = [image.numpy().tobytes() for image in images]
        new = [i for i, key in enumerate(keys) if key not in self.images]
        for rows in torch.tensor(new, dtype=torch.long).split(32) if new else ():
            found = self.model.encode_image(self.model.preprocess(images[rows]), ()).pooled
            found = F.normalize(found.float().cpu(), dim=1)
            self.images |= {keys[i]: vector for i, vector in zip(rows.tolist(), found, strict=True)}
        return torch.stack([self.images[key] for key in keys])

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "t d"]:
        """Unit vectors of texts."""
        new = [text for text in dict.fromkeys(texts) if text not in self.texts]
        if new:
            found = F.normalize(self.model.encode_text(new).float().cpu(), dim=1)
            self.texts |= dict(zip(new, found, strict=True))
        return torch.stack([self.texts[text] for text in texts])

    def similarity(self, images: UInt8[Tensor, "b 3 h w"], texts: Sequence[str]) -> Float[Tensor, "b t"]:
        """Cosines."""
        return self.encode_images(images) @ self.encode_texts(texts).T


@cache
def gallery(split: str, count: int = GALLERY) -> Described:
    """The photographs that are measured on."""
    return descriptions.render(count, split=split, purpose=SPLITS[split])


@cache
def asked(kind: str, split: str, count: int = CHOICES) -> Choices:
    """The choices that are measured on."""
    return choices(kind, count, split, purpose=SPLITS[split])


@cache
def sceptic(known: int = KNOWN) -> Sceptic:
    """The baseline that knows colours and words."""
    some, rng = descriptions.render(known, seed=1), random.Random(0)
    return Sceptic(some.images, [descriptions.caption(fact, rng) for fact in some.facts])


def plain(fact: Fact) -> str:
    """The plainest caption with noun, colour and state."""
    state = BY_DEFECT[fact.defect][0] if fact.defect else "flawless {}"
    thing = phrase(state, f"{fact.colour} {fact.noun}".strip())
    return f"a photo of {thing if fact.kind == 'texture' else f'{article(thing)} {thing}'}"


def retrieval(similarity: Callable, held: Described) -> dict[str, float]:
    """Recall@k of photographs for plain captions and the other way; a caption may be true of several photographs."""
    said = [plain(fact) for fact in held.facts]
    texts = [*dict.fromkeys(said)]
    right = torch.tensor([[text == own for text in texts] for own in said])
    grid = similarity(held.images, texts)
    chance = recalls(torch.zeros(right.shape), (1, 5), right)
    return recalls(grid, (1, 5), right) | {f"chance/{name}": value for name, value in chance.items()}


def classes(similarity: Callable, held: Described, split: str) -> dict[str, float]:
    """Zero-shot accuracy of the noun: by one prompt, and by the mean similarity of all."""
    names = factory.split(split)
    nouns = [factory.CATEGORIES[name].nouns[0] for name in names]
    own = torch.tensor([names.index(fact.category) for fact in held.facts])
    prompts = [*dict.fromkeys(TEMPLATES)]
    grid = torch.stack([similarity(held.images, [t.format(noun) for noun in nouns]) for t in prompts])
    found = {"one prompt": grid[prompts.index("a photo of {}")], "all prompts": grid.mean(0)}
    scores = {name: float((g.argmax(1) == own).float().mean()) for name, g in found.items()}
    return scores | {"chance": 1 / len(names)}


def probe(features: Float[Tensor, "n d"], held: Described, split: str) -> float:
    """Accuracy of a linear probe for the category: fitted to one half, tested on the other."""
    names, half = factory.split(split), len(features) // 2
    own = torch.tensor([names.index(fact.category) for fact in held.facts])
    layer = fit_linear(features[:half], own[:half], len(names))
    return float((layer.logits(features[half:]).argmax(1) == own[half:]).float().mean())


def measure(who: str, split: str, count: int = GALLERY, asked_for: int = CHOICES) -> dict[str, float]:
    """All measures of one model, or of the sceptic, on one split."""
    held = gallery(split, count)
    model = None if who == SCEPTIC else encoders(who)
    similarity = sceptic().similarity if model is None else model.similarity
    found = {f"retrieval/{name}": value for name, value in retrieval(similarity, held).items()}
    found |= {f"classes/{name}": value for name, value in classes(similarity, held, split).items()}
    found |= {f"choices/{kind}": preference(similarity, asked(kind, split, asked_for)) for kind in KINDS}
    features = histograms(held.images) if model is None else model.encode_images(held.images)
    found["probe"] = probe(features, held, split)
    if model is not None:
        gap = modality_gap(features, model.encode_texts([plain(fact) for fact in held.facts]))
        found |= {f"gap/{name}": value for name, value in gap.items()}
    return {name: round(value, 4) for name, value in found.items()}


@cache
def encoders(name: str) -> Encoders:
    """A model, loaded once."""
    return Encoders(name)


def table(rows: Sequence[Mapping[str, Any]], name: str, split: str) -> str:
    """Markdown: a line a measure; the model, the same untrained, the sceptic, and what an answer by lot has."""
    held = [row["values"] for who in (name, UNTRAINED, SCEPTIC) for row in rows if _is(row, who, split)]
    lines = []
    for key in held[0]:
        if "chance" not in key:
            cells = [*(values.get(key) for values in held), by_lot(held[0], key)]
            lines.append([key, *("–" if cell is None else f"{cell:.3f}" for cell in cells)])
    return markdown([split, name, "random weights", "sceptic", "chance"], lines)


def by_lot(values: Mapping[str, float], key: str) -> float | None:
    """What answers by lot would have in a measure."""
    room, _, name = key.partition("/")
    rates = {"retrieval": values.get(f"retrieval/chance/{name}"), "choices": 0.5, "gap": None}
    return rates.get(room, values["classes/chance"])


def target(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """What was aimed at on held-out categories, recall@1 of five times chance, and whether it was reached."""
    (held,) = [row["values"] for row in rows if _is(row, name, "held-out")]
    found = []
    for way in ("text_to_image", "image_to_text"):
        mine, chance = held[f"retrieval/{way}@1"], held[f"retrieval/chance/{way}@1"]
        times = mine / chance
        found.append(f"{way}@1 {mine:.3f}, {times:.0f} x chance ({'reached' if times >= TIMES else 'not reached'})")
    return "; ".join(found)


def _is(row: Mapping[str, Any], who: str, split: str) -> bool:
    return (row["who"], row["split"]) == (who, split)


def text(name: str, results: Path = RESULTS) -> str:
    """The whole card of a model."""
    rows = json.loads(results.read_text(encoding="utf-8"))["rows"]
    file = weights.ASSETS / f"{name}.safetensors"
    facts = {
        "tables": "\n\n".join(table(rows, name, split) for split in SPLITS),
        "target": target(rows, name),
        "parameters": sum(value.numel() for value in weights.read(file).values()),
        "megabytes": file.stat().st_size / 1e6,
    }
    return TEXTS[name].format(**facts)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the rows that are not there, or write a card; 0 when it is done."""
    parser = argparse.ArgumentParser("cards.contrastive", description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"default: {RESULTS}")
    parser.add_argument("--split", nargs="+", choices=SPLITS, default=["seen", "development"])
    parser.add_argument("--card", choices=sorted(TEXTS), help="write this card, from what was measured")
    given = parser.parse_args(argv)
    if given.card:
        with replacing(weights.ASSETS / f"{given.card}.md") as part:
            part.write_text(text(given.card, given.out), encoding="utf-8")
        return 0
    held = json.loads(given.out.read_text(encoding="utf-8"))["rows"] if given.out.exists() else []
    there = zoo.list(preset="tiny")
    for who in (*(name for name in NAMES if name in there), SCEPTIC):
        for split in given.split:
            if any((row["who"], row["split"]) == (who, split) for row in held):
                continue
            held.append({"who": who, "split": split, "values": measure(who, split)})
            facts = {"photographs": GALLERY, "choices": CHOICES} | provenance(runtime.device())
            write_json(given.out, facts | {"rows": held})
            sys.stderr.write(f"{who}, {split}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
