"""The model cards of BLIP and BLIP-2: what they are, how they were made, and what they answer.

`python -m cards.readers` measures both anew, with random weights and three readers that need no network beside them,
into `book/results/blip.json`, and writes their cards from that file and the weights' headers.  With `--card` only the
cards are written.

Book: multimodal/blip
"""

import argparse
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from cards.readers_texts import TEXTS
from gadkit import runtime, weights, zoo
from gadkit.evaluation.captions import cider, parse
from gadkit.evaluation.results import markdown
from gadkit.factory import descriptions
from gadkit.factory.descriptions import Described, Fact
from gadkit.files import provenance, replacing, write_json
from gadkit.multimodal.towers import Front
from gadkit.multimodal.training.reading import other

RESULTS = Path("book/results/blip.json")
NAMES = ("blip", "blip2")
COUNT, FEW, KNOWN = 200, 20, 1024  # photographs a split, for networks with random weights, and for counting answers
REFERENCES = 5  # captions of a photograph that another is compared with
SPLITS = {"seen": "test", "development": "development", "held-out": "test"}  # and the seeds: no photograph of training
KINDS = {  # of a question, by what it begins with
    "what is this": "what is this?",
    "is the * damaged": "damaged?",
    "is the * flawless": "flawless?",
    "what is wrong": "what is wrong?",
    "what is missing": "what is missing?",
    "what colour is": "what colour?",
    "what colour are": "colour of details?",
    "how bad": "how bad?",
}
READERS = ("trained", "random weights", "question only", "most frequent")

Captions, Answers = Callable[[Tensor], list[str]], Callable[[Tensor, list[str]], list[str]]


def kind_of(question: str) -> str:
    """The kind of a question."""
    for start, kind in KINDS.items():
        first, star, last = start.partition("*")
        if question.startswith(first) and (not star or question.endswith(f"{last}?")):
            return kind
    raise ValueError(f"question: expected one of the factory's, got {question!r}")


@cache
def rendered(split: str, count: int) -> Described:
    """The photographs that are measured on, rendered once."""
    return descriptions.render(count, seed=0, split=split, purpose=SPLITS[split])


@cache
def known() -> tuple[Fact, ...]:
    """Facts of training photographs, for readers that count answers."""
    return descriptions.render(KNOWN, split="seen").facts


def counting() -> dict[str, tuple[Captions, Answers]]:
    """Readers that see no image: the most frequent answer of the kind, that of the very question, and captions."""
    by_kind, by_question, nouns = defaultdict(Counter), defaultdict(Counter), Counter()
    for fact in known():
        nouns[fact.noun] += 1
        for question, answer in descriptions.questions(fact):
            by_kind[kind_of(question)][answer] += 1
            by_question[question][answer] += 1
    colours = Counter(fact.colour for fact in known() if fact.colour)
    one = f"a flawless {colours.most_common(1)[0][0]} {nouns.most_common(1)[0][0]}"

    def frequent(images: Tensor, questions: list[str]) -> list[str]:
        return [by_kind[kind_of(question)].most_common(1)[0][0] for question in questions]

    def question_only(images: Tensor, questions: list[str]) -> list[str]:
        return [by_question.get(q, by_kind[kind_of(q)]).most_common(1)[0][0] for q in questions]

    def captions(images: Tensor) -> list[str]:
        return [one] * len(images)

    return {"most frequent": (captions, frequent), "question only": (captions, question_only)}


def share(hits: Iterable[bool]) -> float:
    """The share that is true."""
    return mean(map(float, hits))


def captioned(caption: Captions, shown: Described) -> dict[str, float]:
    """CIDEr-D (times 10) and the shares of captions that are right about object, colour, and state."""
    texts, rng = caption(shown.images), random.Random(0)
    references = [[descriptions.caption(fact, rng) for _ in range(REFERENCES)] for fact in shown.facts]
    said = [parse(text) for text in texts]
    pairs = [*zip(said, shown.facts, strict=True)]
    return {
        "CIDEr-D": 10 * mean(cider(texts, references)),
        "object": share(fact.category in one.categories for one, fact in pairs),
        "colour": share(one.colour == fact.colour for one, fact in pairs if fact.colour),
        "damaged or sound": share(
            one.state is not None and bool(one.state) == bool(fact.defect) for one, fact in pairs
        ),
        "exact state": share(one.state == fact.defect for one, fact in pairs),
    }


def answered(answer: Answers, shown: Described) -> dict[str, float]:
    """Accuracy by kind of question, and over all of them; an answer counts if it is the right one word for word."""
    rows = [(i, *pair) for i, fact in enumerate(shown.facts) for pair in descriptions.questions(fact)]
    places, questions, right = zip(*rows, strict=True)
    found = answer(shown.images[[*places]], [*questions])
    hits = defaultdict(list)
    for question, mine, true in zip(questions, found, right, strict=True):
        hits[kind_of(question)].append(mine == true)
    return {kind: share(hits[kind]) for kind in KINDS.values() if kind in hits} | {
        "all questions": share(hit for some in hits.values() for hit in some)
    }


def matched(match: Callable[[Tensor, list[str]], Tensor], shown: Described) -> dict[str, float]:
    """How often a true caption fits better than one that is false of one thing; chance is .5."""
    rng, hits = random.Random(0), defaultdict(list)
    for image, fact in zip(shown.images, shown.facts, strict=True):
        false = other(fact, rng)
        what = "state" if false.defect != fact.defect else "colour" if false.colour != fact.colour else "noun"
        texts = [descriptions.caption(one, rng, accented=0.0, vague=0.0) for one in (fact, false)]
        better, worse = match(image[None], texts)[0].tolist()
        hits[what].append(better > worse)
    return {f"match by {what}": share(hits[what]) for what in ("state", "colour", "noun") if hits[what]}


def once(reader: Any) -> Any:
    """The same reader, whose frozen layers meet every photograph once and not for every question."""
    model, prepare, kept = reader.models["matching"], reader.prepare, {}
    front = model.vision_model.embeddings

    def tokens(images: Tensor) -> Tensor:
        keys = [image.numpy().tobytes() for image in images]
        new = {key: place for place, key in enumerate(keys) if key not in kept}
        if new:
            with torch.no_grad():
                kept.update(zip(new, front(prepare(images[[*new.values()]])), strict=True))
        return torch.stack([kept[key] for key in keys])

    if isinstance(front, Front):
        reader.prepare = tokens
    return reader


def rows_of(model: str, who: str, reader: Any, split: str, count: int) -> list[dict[str, Any]]:
    """Everything that is measured of a reader on a split."""
    shown = rendered(split, max(count, COUNT))[:count]
    if isinstance(reader, tuple):
        values = captioned(reader[0], shown) | answered(reader[1], shown)
    else:
        values = captioned(reader.caption, shown) | answered(reader.answer, shown) | matched(reader.match, shown)
    rounded = {key: round(value, 4) for key, value in values.items()}
    return [{"model": model, "who": who, "split": split, "photographs": count, "values": rounded}]


def measure() -> list[dict[str, Any]]:
    """All rows of the results."""
    rows = []
    for split in SPLITS:
        for who, reader in counting().items():
            rows += rows_of("none", who, reader, split, COUNT)
        for name in NAMES:
            rows += rows_of(name, "trained", once(zoo.load(name, "tiny")), split, COUNT)
            rows += rows_of(name, "random weights", once(zoo.load(f"{name}-random", "tiny")), split, FEW)
    return rows


def spot_check(name: str) -> dict[str, float]:
    """The answers of a small sample of development photographs: "damaged?" and all questions."""
    found = answered(zoo.load(name, "tiny").answer, rendered("development", COUNT)[:12])
    return {key: round(found[key], 4) for key in ("damaged?", "all questions")}


def table(rows: Sequence[Mapping[str, Any]], name: str, split: str) -> str:
    """Markdown: a line a measure, a column a reader."""
    held = {row["who"]: row["values"] for row in rows if row["split"] == split and row["model"] in (name, "none")}
    columns = [who for who in READERS if who in held]
    measures = [key for key in held["trained"] if key != "CIDEr-D"]
    lines = []
    for key in ("CIDEr-D", *measures):
        form = ".1f" if key == "CIDEr-D" else ".2f"
        cells = [format(held[who][key], form) if key in held[who] else "–" for who in columns]
        lines.append([key, *cells])
    return markdown(["", *columns], lines)


def targets(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """What was aimed at on held-out categories, and whether it was reached."""
    (held,) = [r["values"] for r in rows if (r["model"], r["who"], r["split"]) == (name, "trained", "held-out")]
    aims = (("damaged?", 0.85), ("damaged or sound", 0.70), ("exact state", 0.70))
    return "; ".join(
        f"{key} {held[key]:.2f} (target {aim:.2f}: {'reached' if held[key] >= aim else 'not reached'})"
        for key, aim in aims
    )


def text(name: str) -> str:
    """The whole card."""
    held = json.loads(RESULTS.read_text(encoding="utf-8"))
    file = weights.ASSETS / f"{name}.safetensors"
    facts = json.loads(weights.header(file)["facts"])
    numbers = {split.replace("-", "_"): table(held["rows"], name, split) for split in SPLITS}
    numbers |= {
        "targets": targets(held["rows"], name),
        "sample": held["sample"][name],
        "count": held["count"],
        "few": held["few"],
        "measured_on": f"{held['device']}, torch {held['versions']['torch']}",
        "parameters": sum(value.numel() for value in weights.read(file).values()),
        "megabytes": file.stat().st_size / 1e6,
    }
    return TEXTS[name].format(**facts | numbers)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, unless only the cards are wanted, and write them."""
    parser = argparse.ArgumentParser(prog="python -m cards.readers")
    parser.add_argument("--card", action="store_true", help="write the cards from the results that are there")
    arguments = parser.parse_args(argv)
    if not arguments.card:
        held = {"rows": measure(), "sample": {name: spot_check(name) for name in NAMES}}
        held |= {"count": COUNT, "few": FEW} | provenance(runtime.device())
        write_json(RESULTS, held)
    for name in NAMES:
        card = weights.ASSETS / f"{name}.md"
        with replacing(card) as part:
            part.write_text(text(name), encoding="utf-8")
        sys.stdout.write(f"{card}\n")


if __name__ == "__main__":
    main()
