"""Measuring detectors: test sets of the factory or of a folder, shots, seeds, and the spread that belongs to a number.

A case is one test set.  Its images are encoded once, for all shots and, where seeds only draw other references, for all
seeds.

Book: anomaly/measuring
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Real
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from gadkit import factory
from gadkit.anomaly.metrics import aupro, auroc, average_precision, f1_max
from gadkit.checks import checked, describe, one_of, whole
from gadkit.data.folders import Depth, ImageFolder
from gadkit.data.testsets import folder_sets
from gadkit.factory.sets import PROTOCOLS
from gadkit.protocols import AnomalyResult, Detector, TestSet
from gadkit.runtime import progress

LABELS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1": "image F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "aupro": "AUPRO",
}
MEASURES = tuple(LABELS)


@dataclass(frozen=True)
class Result:
    """One detector on one product under one seed; `shots` 0 is zero-shot.

    `data` is where the images come from: a folder, or a regime of the factory ("loose, global" for faults of the
    whole).  Measures of pixels are None where no defect has a mask.
    """

    category: str
    variant: int
    seed: int
    data: str
    shots: int
    image_auroc: float
    image_ap: float
    image_f1: float
    pixel_auroc: float | None = None
    pixel_ap: float | None = None
    aupro: float | None = None


@dataclass(frozen=True)
class Case:
    """A test set that is still to be loaded.

    Of several `seeds`, each draws references of its own; with one, the first references are taken.
    """

    category: str
    data: str
    variant: int
    seeds: tuple[int, ...]
    load: Callable[[], TestSet]

    def cells(self, shots: Sequence[int]) -> list[tuple[int, int]]:
        """Seeds and shots to measure: without references there is nothing to draw, and one seed says it all."""
        return [(seed, k) for seed in self.seeds for k in shots if k or seed == self.seeds[0]]


@checked
def factory_cases(
    categories: Sequence[str],
    regime: str = "loose",
    variants: int = 5,
    seeds: Sequence[int] = (0, 1, 2),
    references: int = 4,
    size: int = 96,
    defects: str = "local",
) -> list[Case]:
    """`variants` products of each category under each data seed; `references` bounds the shots.

    `defects` are "local" or "global", as in `factory.test_set`.  Raises ValueError for no categories or seeds, and for
    another word.
    """
    whole("variants", variants), one_of("defects", defects, PROTOCOLS)
    data = regime if defects == "local" else f"{regime}, {defects}"
    options = {"references": references, "size": size, "defects": defects}
    if not categories or not seeds:
        raise ValueError(f"benchmark: expected categories and seeds, got {tuple(categories)} and {tuple(seeds)}")
    return [
        Case(c, data, v, (s,), partial(factory.test_set, c, v, s, regime, **options))
        for c in categories
        for v in range(variants)
        for s in seeds
    ]


@checked
def folder_cases(
    root: Path | str,
    categories: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    size: int = 240,
    depth: Depth | None = None,
) -> list[Case]:
    """Every category of a data set in a known layout, or those named, squashed to `size` pixels.

    A seed draws the references among the photographs to train on; `depth` is as in `folder_sets`.  Raises ValueError
    for an unknown category, and for a folder whose layout says nothing about defects.
    """
    folder_sets(root, size, depth, categories)  # asks nothing of the photographs yet
    return [
        Case(name, str(Path(root).resolve()), 0, tuple(seeds), partial(_only, root, size, depth, name))
        for name in categories or ImageFolder(root).categories
    ]


def _only(root: Path | str, size: int, depth: Depth | None, category: str) -> TestSet:
    return next(folder_sets(root, size, depth, (category,)))


@checked
def run(
    detector: Callable[[str], Detector],
    cases: Iterable[Case],
    shots: Sequence[int] = (0, 4),
    done: Collection[tuple[str, int, int, int]] = (),
    quiet: bool = False,
) -> Iterator[Result]:
    """Score all cases by a detector made for each one's noun, and yield a `Result` for each combination with `shots`.

    `shots` lists how many references `fit` gets; 0 means none.  `done` holds (category, variant, seed, shots) to leave
    out.  Raises ValueError for no cases, no shots, negative ones, and more than there are references.
    """
    cases = list(cases)
    if strange := [case for case in cases if not isinstance(case, Case)]:
        raise ValueError(f"benchmark: expected cases, got {describe(strange[0])}")
    if not cases or not shots or min(shots) < 0:
        raise ValueError(f"benchmark: expected cases and shots >= 0, got {len(cases)} cases and {tuple(shots)}")
    for case in progress(cases, "test sets", quiet=quiet):
        cells = [(s, k) for s, k in case.cells(shots) if (case.category, case.variant, s, k) not in done]
        if not cells:
            continue
        data = case.load()
        model = detector(data.object_name)
        encoded = model.encode(data.images)
        for seed, k in cells:
            found = model.fit(_references(data, k, seed if len(case.seeds) > 1 else None)).score(encoded)
            yield Result(case.category, case.variant, seed, case.data, k, **measures(found, data))


def measures(found: AnomalyResult, data: TestSet) -> dict[str, float | None]:
    """All `MEASURES` of a detector's answer for a test set; those of pixels leave defects without a mask out."""
    labels, use = data.labels, data.marked
    values = {
        "image_auroc": auroc(found.scores, labels),
        "image_ap": average_precision(found.scores, labels),
        "image_f1": f1_max(found.scores, labels)[0],
    }
    if not (labels & use).any():
        return values | dict.fromkeys(MEASURES[3:])
    maps, masks = found.maps[use.to(found.maps.device)], data.masks[use]
    pixels = {"pixel_auroc": auroc(maps, masks), "pixel_ap": average_precision(maps, masks)}
    return values | pixels | {"aupro": aupro(maps, masks)}


@checked
def summarise(results: Sequence[Result], measure: str) -> tuple[float, float]:
    """Mean of a measure over categories and products, and its standard deviation over the data seeds' means.

    The deviation is 0 for one seed.  Raises ValueError for no results that have the measure.
    """
    one_of("measure", measure, MEASURES)
    values = [(r.seed, getattr(r, measure)) for r in results if getattr(r, measure) is not None]
    if not values:
        raise ValueError(f"summarise: expected at least one result with {measure}, got none")
    means = [mean(v for s, v in values if s == seed) for seed in sorted({s for s, _ in values})]
    return mean(means), stdev(means) if len(means) > 1 else 0.0


@checked
def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table: a pair is a mean and its deviation, and None a measure that had no masks.

    Raises ValueError for no rows.
    """
    if not rows:
        raise ValueError("rows: expected at least one, got none")
    import pandas

    frame = pandas.DataFrame([{LABELS.get(name, name): _cell(value) for name, value in row.items()} for row in rows])
    return frame.to_markdown(index=False, disable_numparse=True)


def _cell(value: Any) -> str:
    if isinstance(value, tuple | list):
        if len(value) != 2 or not all(isinstance(part, Real) for part in value):
            raise ValueError(f"rows: expected a mean and its deviation, got {describe(value)}")
        return "{:.3f} ± {:.3f}".format(*value)
    return "no masks" if value is None else str(value)


def _references(data: TestSet, count: int, seed: int | None) -> Tensor | None:
    """None, the first references, or with a seed some drawn without replacement."""
    there = len(data.references)
    if count > there:
        raise ValueError(f"shots: expected at most {there}, the references of {data.category}, got {count}")
    if seed is None or not count:
        return data.references[:count] if count else None
    return data.references[torch.randperm(there, generator=torch.Generator().manual_seed(seed))[:count]]
