"""The model cards of the detectors of words: what they are, how they were made, and what they reach.

`python -m cards.open_vocabulary owl-vit` measures one anew, on all splits, into `book/results/owl-vit.json`, and writes
its card from that file and the weights' header.  With `--card` only the card is written.

Book: objects/open-vocabulary
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torchvision.ops import box_iou

from cards.open_vocabulary_texts import TEXTS
from gadkit import runtime, weights, zoo
from gadkit.evaluation.boxes import average_precisions, blobs
from gadkit.evaluation.results import markdown
from gadkit.factory import scenes
from gadkit.files import provenance, replacing, write_json
from gadkit.objects import grounding_dino, owl_vit
from gadkit.objects.protocols import Boxes, OpenVocabulary
from gadkit.objects.training.words import ASKED, TAUGHT, WITHHELD, texts, truth

RESULTS = Path("book/results")
COUNT = 100  # scenes a split
LEAST = 0.0  # every box counts, however unsure: a word that is hardly known has low scores
SAMPLE = 24  # scenes of the small sample
LIKE, ASKING = 32, 2  # scenes in which things are asked for by an image, and images of each category
CASES = {  # what is measured: the split of the scenes, the words that are asked for, and those that count
    "words of the detector's training": ("seen", TAUGHT, TAUGHT),
    "words withheld from it": ("seen", TAUGHT + WITHHELD, WITHHELD),
    "development": ("development", None, None),
    "held-out": ("held-out", None, None),
}
LOADERS = {"owl-vit": owl_vit.load, "grounding-dino": grounding_dino.load}


def untrained(name: str) -> OpenVocabulary:
    """The same architecture with random weights."""
    source = zoo.find(name, "tiny")
    return LOADERS[name](replace(source, options={"random": True}), runtime.device())


@cache
def rendered(count: int, split: str, purpose: str) -> scenes.Scenes:
    """The scenes that are measured on, rendered once."""
    return scenes.render(count, split=split, purpose=purpose)


def measure(
    find: Callable[[torch.Tensor, Sequence[str]], list[Boxes]], case: str, count: int = COUNT
) -> dict[str, float]:
    """AP50 of every category that counts in a case, and of boxes alone, whatever word they answer to."""
    split, asked, counted = CASES[case]
    asked = scenes.object_categories(split) if asked is None else asked
    counted = asked if counted is None else counted
    purpose = "test" if split == "held-out" else "development"
    shown = rendered(count, split, purpose)
    found, true = find(shown.images, asked), [truth(things, asked) for things in shown.things]
    areas = average_precisions(found, true, [asked.index(name) for name in counted])
    one = [Boxes(boxes.boxes, boxes.scores, torch.zeros_like(boxes.labels)) for boxes in found]
    alone = average_precisions(one, [(boxes, torch.zeros_like(labels)) for boxes, labels in true], [0])[0]
    return {asked[label]: area for label, area in areas.items()} | {"boxes alone": alone}


def like(
    find: Callable[[torch.Tensor, torch.Tensor, Sequence[float]], list[Boxes]], count: int = LIKE, asking: int = ASKING
) -> dict[str, dict[str, float]]:
    """One-shot detection of every development category: AP50, and in what share of scenes the surest box hits.

    `find(images, query, box)` answers what looks like the thing in a box of the image `query`.

    Objects of `asking` scenes, where they are most visible, are what is asked by, each in all other scenes.  "chance"
    is the share of hits of a box drawn exactly around a random thing of the scene.
    """
    shown, found = rendered(count, "development", "development"), {}
    for name in scenes.object_categories("development"):
        areas, hits, chances = [], [], []
        for scene, thing in queries(shown, name)[:asking]:
            rest = [i for i in range(len(shown)) if i != scene]
            answers = find(shown.images[rest], shown.images[scene], thing.box)
            true = [truth(shown.things[i], [name]) for i in rest]
            areas.append(average_precisions(answers, true, [0])[0])
            for i, answer, (boxes, _) in zip(rest, answers, true, strict=True):
                if len(boxes):
                    hits.append(hit(answer, boxes)), chances.append(len(boxes) / len(shown.things[i]))
        values = {"AP50": mean(areas), "hits": mean(hits), "chance": mean(chances)}
        found[name] = {key: round(value, 4) for key, value in values.items()} | {"asked": len(hits)}
    return found


def queries(shown: scenes.Scenes, name: str) -> list[tuple[int, scenes.Thing]]:
    """The scenes that show a category, and its most visible thing in each; the most visible first."""
    some = [(i, [t for t in things if t.category == name]) for i, things in enumerate(shown.things)]
    best = [(i, max(mine, key=lambda t: t.visible)) for i, mine in some if mine]
    return sorted(best, key=lambda one: -one[1].visible)


def hit(answer: Boxes, boxes: torch.Tensor) -> bool:
    """Whether the surest box overlaps one of these by half."""
    return bool((box_iou(answer.boxes[:1].cpu(), boxes) > 0.5).any())


def contestants(name: str) -> dict[str, Callable[[torch.Tensor, Sequence[str]], list[Boxes]]]:
    """The trained detector, the same with random weights, and blobs."""

    def asking(detector: OpenVocabulary) -> Callable[[torch.Tensor, Sequence[str]], list[Boxes]]:
        return lambda images, asked: detector.detect(images, texts(asked, ASKED[name]), LEAST)

    return {
        "trained": asking(zoo.load(name, "tiny")),
        "random weights": asking(untrained(name)),
        "largest blobs": lambda images, asked: blobs(images, len(asked)),
    }


def spot_check(name: str) -> float:
    """Mean AP50 of the words of training, over a small sample of development scenes."""
    found = measure(contestants(name)["trained"], "words of the detector's training", SAMPLE)
    return round(mean(area for key, area in found.items() if key != "boxes alone"), 3)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a line a contestant, a column a case, mean AP50 over words and, behind it, of boxes alone."""
    lines = []
    for who in dict.fromkeys(row["who"] for row in rows):
        cells = [who]
        for case in CASES:
            (held,) = [row["values"] for row in rows if (row["who"], row["case"]) == (who, case)]
            words = mean(area for key, area in held.items() if key != "boxes alone")
            cells.append(f"{words:.3f} ({held['boxes alone']:.3f})")
        lines.append(cells)
    return markdown(["", *CASES], lines)


def like_table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Markdown: a line a category, of what `like` found for each detector."""
    measures = [(who, key) for who in found for key in ("AP50", "hits")]
    heads = [f"{key}, {who}" for who, key in measures] + ["hits by chance", "scenes asked"]
    lines = []
    for name, row in found["trained"].items():
        cells = [f"{found[who][name][key]:.3f}" for who, key in measures]
        lines.append([name, *cells, f"{row['chance']:.3f}", str(row["asked"])])
    means = [f"{mean(row[key] for row in found[who].values()):.3f}" for who, key in measures]
    chance = mean(row["chance"] for row in found["trained"].values())
    asked = sum(row["asked"] for row in found["trained"].values())
    return markdown(["", *heads], [*lines, ["all words", *means, f"{chance:.3f}", str(asked)]])


def by_word(rows: Sequence[Mapping[str, Any]], case: str) -> str:
    """AP50 of every word in a case, of the trained detector."""
    (held,) = [row["values"] for row in rows if (row["who"], row["case"]) == ("trained", case)]
    return ", ".join(f"{name} {area:.2f}" for name, area in held.items() if name != "boxes alone")


def text(name: str, results: Path | None = None) -> str:
    """The whole card."""
    path = RESULTS / f"{name}.json" if results is None else results
    held = json.loads(path.read_text(encoding="utf-8"))
    file = weights.ASSETS / f"{name}.safetensors"
    facts = json.loads(weights.header(file)["facts"])
    numbers = {
        "table": table(held["rows"]),
        "sample": held["sample"],
        "count": held["count"],
        "withheld": ", ".join(WITHHELD),
        "held_out": by_word(held["rows"], "held-out"),
        "unseen": by_word(held["rows"], "words withheld from it"),
        "parameters": sum(value.numel() for value in weights.read(file).values()),
        "megabytes": file.stat().st_size / 1e6,
        "like": like_table(held["like"]) if "like" in held else "",
        "like_scenes": LIKE,
        "asking": ASKING,
        "repeats": f"`gadkit train {name} --steps {facts['steps']}` repeats it.",
    }
    return TEXTS[name].format(**facts | numbers)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, unless only the card is wanted, and write the card."""
    parser = argparse.ArgumentParser(prog="python -m cards.open_vocabulary")
    parser.add_argument("name", choices=[*LOADERS])
    parser.add_argument("--card", action="store_true", help="write the card from the results that are there")
    arguments = parser.parse_args(argv)
    name = arguments.name
    if not arguments.card:
        rows = [
            {"who": who, "case": case, "values": measure(find, case)}
            for who, find in contestants(name).items()
            for case in CASES
        ]
        held = {"rows": rows, "sample": spot_check(name), "count": COUNT} | provenance(runtime.device())
        if name == "owl-vit":
            detectors = {"trained": zoo.load(name, "tiny"), "random weights": untrained(name)}
            held["like"] = {who: like(partial(d.detect_like, threshold=LEAST)) for who, d in detectors.items()}
        write_json(RESULTS / f"{name}.json", held)
    card = weights.ASSETS / f"{name}.md"
    with replacing(card) as part:
        part.write_text(text(name), encoding="utf-8")
    sys.stdout.write(f"{card}\n")


if __name__ == "__main__":
    main()
