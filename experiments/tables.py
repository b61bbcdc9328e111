"""Tables of the pages on detectors that take longer than a page may: each cell of a table is one row of the file.

    python -m experiments.tables --out book/results/tables.json

`settings`  each detector in each of its settings: image AUROC by what it was given.
`shots`     nearest patches by the number of good parts.
`company`   the same 18 photographs in a batch of their own, and with 16 more of a bad day: AUROC of the 18.
`spoilt`    AUROC by kind of defect with four good parts, and with one of them exchanged for a defective one.
`lines`     held-out scores of 19 good parts, the line that F1-max likes, and the scores of new photographs.
`memories`  three memories in the benchmark, as the page on measuring builds them.
`quirks`    SAA+ with one argument changed at a time.
`more`      defects below the strangest good part, with four known good parts and with sixteen.
`sizes`     AUROC by kind of defect, at 96 pixels and at 224.

All take some 15 minutes on one core.  A run that begins again measures what is not in the file.

Book: anomaly/settings, anomaly/measuring, anomaly/parity, anomaly/failures
"""

import argparse
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from experiments.failures import RANDOM, by_kind
from gadkit import factory, runtime, zoo
from gadkit.anomaly.benchmark import factory_cases, run
from gadkit.anomaly.detectors import DETECTORS, build
from gadkit.anomaly.detectors.saa import NothingFound
from gadkit.anomaly.hybrid import HybridPrompts
from gadkit.anomaly.metrics import auroc, f1_max
from gadkit.anomaly.thresholds import held_out
from gadkit.backbones import OpenCLIP
from gadkit.checks import one_of
from gadkit.evaluation.results import merge, read
from gadkit.files import provenance
from gadkit.protocols import AnomalyResult, Backbone, Detector, Encoded, TestSet

Values = dict[str, Any]
KEY = ("table", "of", "product")
WHAT = "tables of pages that take longer than a page may, a row a cell"
PRODUCTS = ("cookie", "fuse", "mesh")  # of the page on settings
GIVEN = (1, 2, 4, 8, 16, 32)  # good parts
KNOWN = ("scratch", "crack", "hole", "stain", "dirt", "broken edge")  # what SAA+ is told, and that half is the most
QUIRKS: dict[str, dict[str, Any]] = {  # of SAA+: the arguments that have them back
    "as it is by default": {},
    "blue for red": {"channels": "bgr"},
    "zeros": {"zeroed": True},
    "nearest spots": {"neighbours": "nearest"},
    "raw layers": {"merge": "raw", "finer": "own"},
    "no candidate of score 0": {"shrink": False},
    "areas of masks": {"area": "mask"},
    "half of a box within the part": {"prompts": HybridPrompts(specific=KNOWN, area=0.5, inside=0.5)},
    "a comma": {"prompts": HybridPrompts(specific=KNOWN, area=0.5, noun="connector,")},
    "each text apart": {"asks": "apart"},
    "rival names": {"rival": True},
}


def eyes(name: str) -> Backbone:
    """A network of the zoo, on the device of this machine."""
    return zoo.load(name, "tiny", str(runtime.device(None)))


def freely(product: str) -> TestSet:
    """The photographs of the page on settings: 16 good ones, two of each kind of defect, and 32 known good parts."""
    return factory.test_set(product, 0, 0, "loose", 16, 2, 32)


def patches() -> Detector:
    """Nearest patches as the table of detectors has them."""
    return build("patch-knn", eyes("efficientnet-lite0"))


def settings(of: str, product: str) -> Values:
    """Image AUROC of a detector and its eyes ("winclip, clip") by what it was given; random eyes get at most 4 good."""
    name, backbone = of.split(", ")
    data, row = freely(product), DETECTORS[name]
    model = build(name, eyes(backbone), data.object_name)
    given: dict[str, Tensor | None] = {"nothing": None} if row.zero_shot else {}
    if row.few_shot:
        given |= {f"{k} good": data.references[:k] for k in (4, 32) if k == 4 or backbone == row.backbone}
    if row.batched:
        given["the batch"] = data.images
    encoded = model.encode(data.images)
    return {what: auroc(model.fit(some).score(encoded).scores, data.labels) for what, some in given.items()}


def shots(of: str, product: str) -> Values:
    """Image AUROC of nearest patches by the number of good parts."""
    data, model = freely(product), patches()
    encoded = model.encode(data.images)
    return {str(k): auroc(model.fit(data.references[:k]).score(encoded).scores, data.labels) for k in GIVEN}


def company(of: str, product: str) -> Values:
    """AUROC of 16 good parts and two with a missing piece in a batch of 18, and of the same 18 in one of 34."""
    day, model = factory.test_set(product, 0, 0, "loose", 16, 18, 0), patches()
    lacks = torch.tensor([defect == "missing" for defect in day.defects])
    pile = torch.cat([day.images[~day.labels], day.images[lacks]])
    bad = torch.arange(18) >= 16
    found = {n: held_out(model.fit(pile[:n]), pile[:n]).scores[:18] for n in (18, len(pile))}
    return {str(n): auroc(scores, bad) for n, scores in found.items()}


def spoilt(of: str, product: str) -> Values:
    """AUROC of each kind of defect with four good parts, and with a defective one of that kind for the fourth."""
    data, other, model = freely(product), factory.test_set(product, seed=1), patches()
    encoded, pairs = model.encode(data.images), {}
    clean = model.fit(data.references[:4]).score(encoded).scores
    for kind in [k for k in dict.fromkeys(data.defects) if k != "good"]:
        at = max(i for i, defect in enumerate(other.defects) if defect == kind)
        mixed = torch.cat([data.references[:3], other.images[at : at + 1]])
        found = model.fit(mixed).score(encoded).scores
        use = torch.tensor([defect in (kind, "good") for defect in data.defects])
        pairs[kind] = [auroc(scores[use], data.labels[use]) for scores in (clean, found)]
    return pairs


def lines(of: str, product: str) -> Values:
    """What a line needs: 19 good parts' held-out scores, the best line of a test set, and scores of two later days."""
    data, model = freely(product), patches()
    normal = data.references[:19]
    best = f1_max(model.fit(normal).score(data.images).scores, data.labels)[1]
    values: Values = {"kept": held_out(model, normal).scores.tolist(), "f1_max": best, "scores": [], "defective": []}
    for seed in (1, 2):
        new = factory.test_set(product, seed=seed)
        values["scores"] += model.score(new.images).scores.tolist()
        values["defective"] += new.labels.tolist()
    return values


class Memory:
    """The detector that the page on measuring builds: the distance of a vector from the nearest of good parts."""

    def __init__(self, embed: Callable[[Tensor], Tensor]) -> None:
        self.embed = embed  # images (b, 3, h, w) -> a vector a patch (b, n, d)

    def fit(self, normal: UInt8[Tensor, "k 3 h w"]) -> "Memory":
        """Remember the vectors of good parts."""
        self.memory_ = self.embed(normal).flatten(0, 1)
        return self

    def encode(self, images: UInt8[Tensor, "b 3 h w"]) -> Encoded:
        """Vectors of images."""
        return Encoded({"patches": self.embed(images)}, tuple(images.shape[2:]))

    def score(self, some: Encoded) -> AnomalyResult:
        """Maps of distances, and their maxima."""
        far = torch.cdist(some.features["patches"], self.memory_).amin(2)  # (b, n)
        maps = far.unflatten(1, (math.isqrt(far.shape[1]), -1))[:, None]
        maps = F.interpolate(maps, some.size, mode="bilinear")[:, 0]
        return AnomalyResult(maps, maps.flatten(1).amax(1))


def colours(images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 256 3"]:
    """The mean colours of 16 x 16 places."""
    return F.adaptive_avg_pool2d(images / 255, 16).flatten(2).mT


def tokens(clip: OpenCLIP) -> Callable[[Tensor], Tensor]:
    """What gives the unit vectors of the patches of a network's last block."""
    return lambda images: F.normalize(clip.encode_image(clip.preprocess(images)).patches[0], dim=2)


def memories(of: str, product: str) -> Values:
    """The benchmark's results for a memory in a regime ("clip, loose"), seed by seed."""
    name, regime = of.split(", ")
    embed = colours if name == "colours" else tokens(eyes(name))
    cases = factory_cases([product], regime, variants=1)
    return {"results": [asdict(row) for row in run(lambda _: Memory(embed), cases, (4,), quiet=True)]}


def quirks(of: str, product: str) -> Values:
    """SAA+ with the arguments of one quirk: scores of every second photograph, and both AUROC."""
    data = factory.test_set(product, 1, normal=6, per_defect=1)
    links = {"finder": eyes("defect-finder"), "segmenter": eyes("sam"), "threshold": 0.05}
    told = {"prompts": HybridPrompts(specific=KNOWN, area=0.5)}
    model = build("saa+", eyes("efficientnet-lite0"), data.object_name, **(told | links | QUIRKS[of]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NothingFound)  # such an image scores 0
        found = model.fit(data.references if DETECTORS["saa+"].few_shot else None).score(data.images[::2])
    pair = auroc(found.scores, data.labels[::2]), auroc(found.maps, data.masks[::2])
    return {"scores": found.scores.tolist(), "image_auroc": pair[0], "pixel_auroc": pair[1]}


def more(of: str, product: str) -> Values:
    """How many defects are no stranger than the strangest good part, by the number of known good parts."""
    data, model = factory.test_set(product), patches()
    others = factory.test_set(product, seed=1, references=12).references  # of another day
    known, encoded, below = torch.cat([data.references, others]), model.encode(data.images), {}
    for k in (4, 16):
        scores = model.fit(known[:k]).score(encoded).scores
        below[str(k)] = int((scores[data.labels] <= scores[~data.labels].max()).sum())
    return below | {"defects": int(data.labels.sum())}


def sizes(of: str, product: str) -> Values:
    """Image AUROC by kind of defect, of photographs of 96 pixels and of 224."""
    found = {}
    for size in (96, 224):
        data, model = factory.test_set(product, size=size), patches()
        found[str(size)] = by_kind(model.fit(data.references).score(data.images), data)["image"]
    return found


TABLES: dict[str, tuple[Callable[[str, str], Values], Sequence[str], Sequence[str]]] = {  # measure, of what, products
    "settings": (
        settings,
        [
            f"{name}, {backbone}"
            for name in ("winclip", "anomalyclip", "patch-knn", "subspace", "musc")
            for backbone in (DETECTORS[name].backbone, RANDOM[DETECTORS[name].backbone])
        ],
        PRODUCTS,
    ),
    "shots": (shots, ["patch-knn"], PRODUCTS),
    "company": (company, ["patch-knn"], PRODUCTS),
    "spoilt": (spoilt, ["patch-knn"], PRODUCTS),
    "lines": (lines, ["patch-knn"], PRODUCTS),
    "memories": (
        memories,
        [f"{name}, {regime}" for name in ("colours", "clip", "clip-random") for regime in ("fixture", "loose")],
        ("connector", "cardboard", "mesh"),
    ),
    "quirks": (quirks, [*QUIRKS], ["connector"]),
    "more": (more, ["patch-knn"], factory.split("development")),
    "sizes": (sizes, ["patch-knn"], ("connector", "fuse")),
}


def key(row: Mapping[str, Any]) -> tuple:
    """What tells one row from another."""
    return tuple(row[name] for name in KEY)


def cells(tables: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """All cells of some tables."""
    for table in tables:
        _, of, products = TABLES[table]
        yield from ((table, one, product) for one in of for product in products)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what the file lacks; each cell is in it as soon as it is done."""
    parser = argparse.ArgumentParser(description="Measure the tables that take longer than a page may.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to merge into")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=[*TABLES], metavar="TABLE", help="default: all")
    parser.add_argument("--of", nargs="+", metavar="ROW", help="rows of the tables (default: all)")
    parser.add_argument("--products", nargs="+", metavar="NAME", help="default: all of the tables")
    given = parser.parse_args(argv)
    every = [*cells(given.tables)]
    try:
        for place, names in ((1, given.of), (2, given.products)):
            for name in names or ():
                one_of("--of" if place == 1 else "--products", name, [*dict.fromkeys(cell[place] for cell in every)])
        merge(given.out, [], key, WHAT)  # whether it can be written, before anything is measured
    except (ValueError, OSError) as error:
        parser.error(str(error))
    for cell in every:
        table, of, product = cell
        chosen = of in (given.of or [of]) and product in (given.products or [product])
        if not chosen or cell in {key(row) for row in read(given.out)}:
            continue
        start = time.process_time()
        row = dict(zip(KEY, cell, strict=True)) | {"values": TABLES[table][0](of, product)}
        row |= {"cpu_seconds": round(time.process_time() - start, 1)} | provenance(runtime.device(None))
        merge(given.out, [row], key, WHAT)
        sys.stderr.write(", ".join(cell) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
