"""What each kind of prompt adds to SAA, on products that neither the finder nor the segmenter has learnt from.

    python -m experiments.saa --out book/results/saa.json
    python -m experiments.saa --split held-out --out book/results/saa.json

Kinds are added one at a time, from SAA to SAA+, with the same finder, segmenter and eyes.  Beside them stand SAA+ with
filled boxes in place of masks, its saliency alone, and a memory of colours of four good parts.  The texts for a part
are what somebody would write who knows which defects it can have; they are the same for every product.

Book: anomaly/saa
"""

import argparse
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit import factory, runtime, zoo
from gadkit.anomaly.benchmark import measures
from gadkit.anomaly.detectors import DETECTORS, SAA, build
from gadkit.anomaly.detectors.saa import KINDS, NothingFound
from gadkit.anomaly.hybrid import HybridPrompts
from gadkit.anomaly.maps import upsample
from gadkit.anomaly.metrics import f1_max
from gadkit.checks import one_of
from gadkit.evaluation.results import merge, read
from gadkit.files import provenance
from gadkit.objects.protocols import Masks, Promptable
from gadkit.protocols import AnomalyResult, Backbone, Encoded, TestSet

ABOUT = "SAA and SAA+, one kind of prompt at a time, on test sets of the factory"
STEPS = {
    "SAA": (),
    "+ language": KINDS[:1],
    "+ property": KINDS[:2],
    "+ saliency": KINDS[:3],
    "SAA+": KINDS,
}
WORDS = {  # how a person calls the factory's defects
    "scratch": "scratch",
    "crack": "crack",
    "hole": "hole",
    "stain": "stain",
    "contamination": "dirt",
    "discolouration": "wrong colour",
    "broken": "broken edge",
    "bent": "bent edge",
    "missing": "missing part",
    "misplaced": "misplaced part",
    "misprint": "misprint",
}
SETTLED = {"threshold": 0.05, "neighbours": "nearest", "sharpness": 10.0}  # on development, with filled boxes


class Filled:
    """A sceptic's segmenter: the mask of a box is the box, filled."""

    def __init__(self, image_size: int, device: torch.device) -> None:
        self.image_size, self.device, self._size = image_size, device, (0, 0)

    def set_image(self, image: UInt8[Tensor, "3 h w"]) -> "Filled":
        """Keep the image's size."""
        self._size = (image.shape[1], image.shape[2])
        return self

    def predict(
        self,
        points: Float[Tensor, "p n 2"] | None = None,
        labels: Tensor | None = None,
        boxes: Float[Tensor, "p 4"] | None = None,
        logits: Tensor | None = None,
        several: bool = True,
    ) -> Masks:
        """One mask a box, of the pixels whose centres lie in it."""
        height, width = self._size
        y, x = (torch.arange(n, device=boxes.device) + 0.5 for n in (height, width))
        left, top, right, bottom = boxes.T[..., None]
        inside = ((y >= top) & (y < bottom))[:, None, :, None] & ((x >= left) & (x < right))[:, None, None]
        return Masks(inside, boxes.new_ones(len(boxes), 1), inside.float()[..., :height, :height])


class Remembering:
    """A segmenter that outlines each box of an image once: the finder has the same boxes for all texts."""

    def __init__(self, segmenter: Promptable) -> None:
        self.image_size, self.device, self._segmenter = segmenter.image_size, segmenter.device, segmenter
        self._known: dict[bytes, dict[tuple[float, ...], tuple[Tensor, ...]]] = {}
        self._image: UInt8[Tensor, "3 h w"] | None = None

    def set_image(self, image: UInt8[Tensor, "3 h w"]) -> "Remembering":
        """Keep the image; it is encoded when a box comes up that has no mask yet."""
        self._image = image
        return self

    def predict(
        self,
        points: Float[Tensor, "p n 2"] | None = None,
        labels: Tensor | None = None,
        boxes: Float[Tensor, "p 4"] | None = None,
        logits: Tensor | None = None,
        several: bool = True,
    ) -> Masks:
        """One mask a box; points, labels and logits are not for this."""
        masks = self._known.setdefault(self._image.cpu().numpy().tobytes(), {})
        places = [tuple(box) for box in boxes.tolist()]
        if new := [i for i, place in enumerate(places) if place not in masks]:
            found = self._segmenter.set_image(self._image).predict(boxes=boxes[new], several=False)
            answers = zip(found.masks, found.iou, found.logits, strict=True)
            masks |= zip([places[i] for i in new], answers, strict=True)
        return Masks(*(torch.stack(some) for some in zip(*(masks[place] for place in places), strict=True)))


def knowledge(category: str) -> HybridPrompts:
    """What somebody knows of a category: which defects it can have, and that none is as large as the part."""
    return HybridPrompts(
        specific=tuple(WORDS[defect] for defect in factory.CATEGORIES[category].defects), area=0.5, keep=50
    )


def cell(detector: SAA, data: TestSet, shots: int = 4) -> Iterator[tuple[str, dict[str, float | None]]]:
    """Every measure of every row on one product; `detector` is SAA+ and has the networks and the prompts."""
    given = {name: getattr(detector, name) for name in ("finder", "prompts", "asks", *SETTLED)}
    given["segmenter"] = Remembering(detector.segmenter)
    make = lambda **more: build("saa+", detector.backbone, data.object_name, **given | more).fit()  # noqa: E731
    encoded = make().encode(data.images)  # saliency and confidence, and what is left without them, only score
    for label, use in STEPS.items():
        yield label, _measured(make(use=use).score(encoded if "property" in use else data.images), data)
    filled = Filled(detector.segmenter.image_size, detector.segmenter.device)
    yield "SAA+, boxes for masks", _measured(make(segmenter=filled).score(data.images), data)
    yield "saliency alone", _measured(salient(encoded), data)
    colours = build("colour", detector.backbone).fit(data.references[:shots])
    yield f"colours of {shots} good parts", _measured(colours.score(data.images), data)


def salient(encoded: Encoded) -> AnomalyResult:
    """The saliency of SAA+ as if it were a map, and its largest value."""
    spots = encoded.features["saliency"]
    return AnomalyResult(upsample(spots, encoded.size), spots.flatten(1).amax(1))


def _measured(found: AnomalyResult, data: TestSet) -> dict[str, float | None]:
    use = data.marked
    values = measures(found, data) | {"pixel_f1": f1_max(found.maps[use], data.masks[use])[0]}
    return {name: None if value is None else round(float(value), 4) for name, value in values.items()}


def key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells one row from another."""
    return tuple(row[name] for name in ("split", "finder", "segmenter", "category", "product"))


def load(finder: str, segmenter: str, category: str, eyes: Backbone, **parameters: Any) -> SAA:
    """SAA+ for a category, with networks by name."""
    noun = factory.CATEGORIES[category].nouns[0]
    networks = {"finder": finder, "segmenter": segmenter}
    return build("saa+", eyes, noun, **networks, prompts=knowledge(category), **SETTLED | parameters)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every product that is not in the file yet; each is in it as soon as it is done."""
    finder, segmenter = DETECTORS["saa+"].objects
    parser = argparse.ArgumentParser(description="Measure what each kind of prompt adds to SAA.")
    parser.add_argument("--split", choices=("development", "held-out"), default="development")
    parser.add_argument("--categories", nargs="+", metavar="NAME", help="of the split (default: all)")
    parser.add_argument("--finder", default=finder, metavar="NAME", help=f"default: {finder}")
    parser.add_argument("--segmenter", default=segmenter, metavar="NAME", help=f"default: {segmenter}")
    parser.add_argument("--products", type=int, nargs="+", default=(0,), metavar="N", help="default: 0")
    parser.add_argument("--normal", type=int, default=4, metavar="N", help="sound photographs (default: 4)")
    parser.add_argument("--per-defect", type=int, default=1, metavar="N", help="of each kind of defect (default: 1)")
    parser.add_argument("--size", type=int, default=96, metavar="PIXELS", help="default: 96")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to merge into")
    given = parser.parse_args(argv)
    try:
        names = [one_of("category", name, factory.split(given.split)) for name in given.categories or ()]
        done = {key(row) for row in read(given.out)}
        merge(given.out, [], key, ABOUT)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    device = runtime.device(None)
    eyes = zoo.load(DETECTORS["saa+"].backbone, "tiny", str(device))
    for category in names or factory.split(given.split):
        for product in given.products:
            row = {"split": given.split, "finder": given.finder, "segmenter": given.segmenter}
            row |= {"category": category, "product": product}
            if key(row) in done:
                continue
            began, amounts = time.monotonic(), {name: getattr(given, name) for name in ("normal", "per_defect", "size")}
            data = factory.test_set(category, product, **amounts)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NothingFound)  # what is not found shows in the measures
                row["values"] = dict(cell(load(given.finder, given.segmenter, category, eyes), data))
            row |= amounts | {"images": len(data.images)}
            row |= {"seconds": round(time.monotonic() - began), **provenance(device)}
            merge(given.out, [row], key, ABOUT)
            sys.stderr.write(f"{category} {product}: done\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
