"""What do real eyes buy the models that see objects?  Short equal trainings, all measured on development categories.

SAM, OWL-ViT, OneFormer and SEEM each learn on the frozen EfficientNet-Lite0 and on the same network with random
weights; SAM and OWL-ViT, which have an image tower that learns, also without either.  Trainings of one model have the
same steps, scenes and seed, and the same trainable parts but for what reads the eyes.

`python -m experiments.object_eyes` writes `book/results/object_eyes.json` row by row; a row that is there is not
measured again, and a training that is done is not done again.

Book: objects/sam, objects/open-vocabulary, objects/universal, objects/seem
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import mean

from cards import open_vocabulary, sam, universal
from gadkit import runtime, zoo
from gadkit.evaluation import segments
from gadkit.factory import scenes
from gadkit.files import provenance, write_json
from gadkit.objects import clicks, eyes
from gadkit.objects.architecture import SamConfig
from gadkit.objects.training import oneformer, owl_vit, seem
from gadkit.objects.training import sam as sam_recipe
from gadkit.objects.training.words import ASKED, texts

OUT, RUNS = Path("book/results/object_eyes.json"), Path("runs/object-eyes")
EYES = {"real eyes": eyes.NAMES[0], "random eyes": eyes.NAMES[1], "from scratch": ""}
SEED, SCENES, MEASURED = 0, 256, 24  # scenes of seen categories, and as many of parts that do not exist
STEPS = 100
BATCH = {"sam": 4, "owl-vit": 4, "oneformer": 6, "seem": 8}  # scenes a step
SQUARES = 128  # of four photographs that OWL-ViT names
CASES = {
    "taught words": "words of the detector's training",
    "withheld words": "words withheld from it",
    "development": "development",
}
Values = dict[str, float]


def train_sam(folder: Path, sight: str, steps: int, count: int) -> Path:
    """The recipe of the shipped weights with smaller steps, without photographs of defects."""
    model, some = SamConfig(eyes=sight), {"images": BATCH["sam"], "prompts": 4, "rounds": (1, 2)}
    recipe = sam_recipe.Recipe(steps=steps, seen=count, defects=0, lr=1.5e-3, model=model, **some)
    return sam_recipe.train(folder, SEED, recipe=recipe)


def train_owl_vit(folder: Path, sight: str, steps: int, count: int) -> Path:
    """An image tower that learns from nothing, beside the words of the book's CLIP."""
    return owl_vit.train(folder, SEED, steps, sight, count, BATCH["owl-vit"], SQUARES)


def train_oneformer(folder: Path, sight: str, steps: int, count: int) -> Path:
    """Today's recipe with smaller steps."""
    return oneformer.train(folder, SEED, steps, 2 * count, sight, BATCH["oneformer"])


def train_seem(folder: Path, sight: str, steps: int, count: int) -> Path:
    """Today's recipe with smaller steps."""
    return seem.train(folder, SEED, steps, 2 * count, sight, BATCH["seem"])


@cache
def shown(count: int) -> scenes.Scenes:
    """The scenes that are measured on, rendered once."""
    return scenes.render(count, split="development", purpose="development")


def measure_sam(file: Path, count: int) -> Values:
    """Mean IoU of parts after one click, and of a tight box."""
    some, model = shown(count), zoo.load("sam", file=file)
    masks = [some.masks(i) for i in range(count)]
    curve = clicks.curve(model, some.images, masks, 1).mean(0)
    boxed = []
    for image, truth in zip(some.images, masks, strict=True):
        found = model.set_image(image).predict(boxes=sam.tight(truth), several=False).masks[:, 0]
        boxed += sam.mask_iou(found, truth).tolist()
    return {"mIoU, one click": float(curve[0]), "mIoU, box": mean(boxed)}


def measure_owl_vit(file: Path, count: int) -> Values:
    """AP50, the mean over the words of each case, and of boxes alone."""
    model, values = zoo.load("owl-vit", file=file), {}

    def find(images, asked):
        return model.detect(images, texts(asked, ASKED["owl-vit"]), open_vocabulary.LEAST)

    for name, case in CASES.items():
        areas = open_vocabulary.measure(find, case, count)
        values[f"AP50, boxes, {name}"] = areas.pop("boxes alone")
        values[f"AP50, {name}"] = mean(areas.values())
    return values


def measure_oneformer(file: Path, count: int) -> Values:
    """Panoptic quality, and mean IoU of the semantic task."""
    some, model = shown(count), zoo.load("oneformer", file=file)
    values = segments.quality(model.segment(some.images, "panoptic"), some)
    return values | {"mIoU": segments.mean_iou(model.segment(some.images, "semantic"), some)}


def measure_seem(file: Path, count: int) -> Values:
    """Mean IoU of parts after one click."""
    return {"mIoU, one click": universal.clicks(zoo.load("seem", file=file), shown(count), 1)[0]}


Train, Measure = Callable[[Path, str, int, int], Path], Callable[[Path, int], Values]
MODELS: Mapping[str, tuple[Train, Measure, tuple[str, ...]]] = {
    "sam": (train_sam, measure_sam, tuple(EYES)),
    "owl-vit": (train_owl_vit, measure_owl_vit, tuple(EYES)),
    "oneformer": (train_oneformer, measure_oneformer, tuple(EYES)[:2]),
    "seem": (train_seem, measure_seem, tuple(EYES)[:2]),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Train and measure the rows that are not there yet; 0 when all are."""
    parser = argparse.ArgumentParser("experiments.object_eyes", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help=f"default: {OUT}")
    parser.add_argument("--runs", type=Path, default=RUNS, help=f"for scenes, checkpoints, weights (default: {RUNS})")
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=tuple(MODELS), help="default: all")
    parser.add_argument("--steps", type=int, help=f"of each training (default: {STEPS})", default=STEPS)
    parser.add_argument("--scenes", type=int, default=SCENES, help=f"to learn from, a split (default: {SCENES})")
    parser.add_argument("--measured", type=int, default=MEASURED, help=f"of development (default: {MEASURED})")
    given = parser.parse_args(argv)
    held = json.loads(given.out.read_text(encoding="utf-8"))["rows"] if given.out.exists() else []
    order = [(name, who) for name in given.models for who in EYES if who in MODELS[name][2]]
    for name, who in sorted(order, key=lambda one: EYES[one[1]] == ""):  # pairs first, from scratch last
        train, measure, _ = MODELS[name]
        row = {"model": name, "eyes": who, "seed": SEED, "split": "development", "measured": given.measured}
        row |= {"steps": given.steps, "batch": BATCH[name], "scenes": given.scenes}
        if any(row.items() <= one.items() for one in held):
            continue
        folder = given.runs / f"{name}-{EYES[who] or 'scratch'}-{given.steps}"
        values = measure(train(folder, EYES[who], given.steps, given.scenes), given.measured)
        held.append(row | {"values": {key: round(value, 4) for key, value in values.items()}})
        given.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(given.out, provenance(runtime.device()) | {"rows": held})
        sys.stderr.write(f"{name}, {who}: {held[-1]['values']}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
