"""The figures of the cards of OneFormer, Mask2Former and SEEM: held-out scenes, random weights and Otsu beside them.

    python -m cards.universal oneformer book/results/universal.json
    python -m cards.universal seem book/results/seem.json

Each is measured on the same scenes, which no choice was made on.

Book: objects/universal, objects/seem
"""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import Tensor

from gadkit import runtime, zoo
from gadkit.evaluation import segments
from gadkit.factory import scenes
from gadkit.files import provenance, write_json
from gadkit.objects.otsu import Otsu, foreground
from gadkit.objects.seem import SEEM

COUNT = 64
BOTH = "text and click"
Predict = Callable[[int, int, Tensor, Tensor], Tensor]


def held_out(count: int = COUNT, split: str = "held-out") -> scenes.Scenes:
    """The scenes that all rows are measured on."""
    return scenes.render(count, 0, 128, split)


def universal(some: scenes.Scenes, names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """PQ, mIoU and AP of models by name, and of Otsu's threshold."""
    models = {name: zoo.load(name) for name in names} | {"Otsu": Otsu()}
    return {name: _rounded(segments.measure(model, some)) for name, model in models.items()}


def clicks(model: SEEM, some: scenes.Scenes, count: int = 5) -> list[float]:
    """Mean IoU after each click, with the answer of the turn before as memory."""
    last: dict[str, Tensor | tuple[int, int] | None] = {"scene": None, "part": None, "logits": None}

    def predict(scene: int, part: int, points: Tensor, labels: Tensor) -> Tensor:
        if last["scene"] != scene:
            model.set_image(some.images[scene])
        past = last["logits"] if last["part"] == (scene, part) and len(points) > 1 else None
        answer = model.predict(points[None], labels[None], logits=past, several=False)
        last.update(scene=scene, part=(scene, part), logits=answer.logits[:, 0])
        return answer.masks[0, 0]

    return segments.interactive(predict, some, count)


def asked(model: SEEM, some: scenes.Scenes, seed: int = 0) -> dict[str, list[tuple[int, float]]]:
    """The scene and the IoU of all parts that have an expression: one click, the text, both; and other prompts.

    A scribble is a straight stroke.  A region counts only where the part is alone of its kind and another scene shows
    one.
    """
    generator, hand, ious = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed), {}
    for i in range(len(some)):
        model.set_image(some.images[i])
        for k, (thing, mask) in enumerate(zip(some.things[i], some.masks(i), strict=True)):
            if not thing.expressions:
                continue
            point = segments.click(mask, generator)[None, None]
            number = int(torch.randint(len(thing.expressions), (), generator=generator))
            given = {
                "click": {"points": point},
                "text": {"text": [thing.expressions[number]]},
                BOTH: {"points": point, "text": [thing.expressions[number]]},
                "box": {"boxes": torch.tensor([thing.box])},
                "scribble": {"scribbles": segments.stroke(mask, hand)[None]},
            }
            if (region := another(some, i, k)) is not None:
                given["region"] = {"region": region}
            for name, prompt in given.items():
                mine = model.predict(**prompt, several=False).masks[0, 0]
                ious.setdefault(name, []).append((i, float((mine & mask).sum() / (mine | mask).sum())))
    return ious


def means(ious: dict[str, list[tuple[int, float]]]) -> dict[str, float]:
    """Mean IoU over parts of each kind of prompt in `asked`."""
    return {name: mean(iou for _, iou in found) for name, found in ious.items()}


def gain(ious: dict[str, list[tuple[int, float]]], more: str, less: str) -> tuple[float, float]:
    """How much more one kind of prompt reaches than another, part by part: the mean over scenes, and its error."""
    of_scene = defaultdict(list)
    for (scene, a), (_, b) in zip(ious[more], ious[less], strict=True):
        of_scene[scene].append(a - b)
    each = [mean(some) for some in of_scene.values()]
    return mean(each), stdev(each) / len(each) ** 0.5


def seem(model: SEEM, some: scenes.Scenes) -> dict[str, float | list[float]]:
    """A row of the card: clicks one after the other, all kinds of prompts, and what text and click gain together."""
    ious = asked(model, some)
    above = {f"both above {one}": [round(x, 4) for x in gain(ious, BOTH, one)] for one in ("click", "text")}
    return {"clicks": [round(x, 3) for x in clicks(model, some)], **_rounded(means(ious)), **above}


def another(some: scenes.Scenes, i: int, k: int) -> tuple[Tensor, Tensor] | None:
    """A part of the same category in another scene, if it is alone of its kind in both."""
    kind = some.things[i][k].category
    for other in range(len(some)):
        places = [n for n, thing in enumerate(some.things[other]) if thing.category == kind]
        alone = sum(thing.category == kind for thing in some.things[i]) == 1
        if other != i and len(places) == 1 and alone:
            return some.images[other], some.masks(other)[places[0]]
    return None


def piece(some: scenes.Scenes) -> float:
    """The sceptic's answer to one click: the piece of Otsu's foreground, or background, that was clicked on."""
    from skimage.measure import label

    def predict(scene: int, part: int, points: Tensor, labels: Tensor) -> Tensor:
        pieces = torch.from_numpy(label(foreground(some.images[scene]).numpy(), background=-1, connectivity=1))
        x, y = points[0].long().tolist()
        return pieces == pieces[y, x]

    return segments.interactive(predict, some, 1)[0]


def _rounded(found: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in found.items()}


def main(name: str, path: Path, count: int = COUNT, split: str = "held-out") -> None:
    """Measure, write `path` and print it."""
    began, some = time.monotonic(), held_out(count, split)
    if name == "seem":
        rows = {which: seem(zoo.load(which), some) for which in ("seem", "seem-random")}
        rows["Otsu's piece"] = {"click": round(piece(some), 3)}
    else:
        rows = universal(some, (name, "oneformer-random"))
    record = {"what": f"{name}, {count} scenes, {split}", "rows": rows, "seconds": round(time.monotonic() - began)}
    write_json(path, record | provenance(runtime.device()))
    sys.stdout.write(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *(int(n) for n in sys.argv[3:4]), *sys.argv[4:5])
