"""Measuring detectors: test sets, shots, seeds, what an answer costs, and the spread that belongs to a number.

A case is one test set.  Its images are encoded once, for all shots and, where seeds only draw other references, for all
seeds.

Book: anomaly/measuring, anomaly/benchmark
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from gadkit.anomaly.cases import BATCH, Case, factory_cases, folder_cases, semantic_cases, textile_cases
from gadkit.anomaly.cost import peak
from gadkit.anomaly.metrics import aupro, auroc, average_precision, f1_max
from gadkit.checks import checked, describe, one_of
from gadkit.protocols import AnomalyResult, Detector, TestSet
from gadkit.runtime import progress

__all__ = [
    "BATCH",
    "LABELS",
    "MEASURES",
    "Case",
    "Result",
    "factory_cases",
    "folder_cases",
    "measures",
    "run",
    "semantic_cases",
    "summarise",
    "table",
    "textile_cases",
]
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
    """One detector on one product under one seed; `shots` 0 is zero-shot, and `BATCH` fitted on the test images.

    `data` is where the images come from: a folder, or a regime of the factory ("loose, global" for faults of the
    whole).  Measures of pixels are None where no defect has a mask.  `kind` is "texture" or "object", as far as it is
    known.  `ms` is the time to encode and score an image among others, in milliseconds; `mb` what tensors take at the
    worst moment while one image is encoded and scored, in millions of bytes, without weights and memory of good parts.
    Costs do not count where results are compared.
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
    kind: str | None = None
    ms: float | None = field(default=None, compare=False)
    mb: float | None = field(default=None, compare=False)


@checked
def run(
    detector: Callable[[str], Detector],
    cases: Iterable[Case],
    shots: Sequence[int] = (0, 4),
    done: Collection[tuple[str, str, int, int, int]] = (),
    quiet: bool = False,
) -> Iterator[Result]:
    """Score all cases by a detector made for each one's noun, and yield a `Result` for each combination with `shots`.

    `shots` lists how many references `fit` gets; 0 means none, and `BATCH` the test images themselves.  `done` holds
    (category, data, variant, seed, shots) to leave out.  Raises ValueError for no cases, no shots, negative ones, and
    more than there are references.
    """
    cases = list(cases)
    if strange := [case for case in cases if not isinstance(case, Case)]:
        raise ValueError(f"benchmark: expected cases, got {describe(strange[0])}")
    if not cases or not shots or min(shots) < BATCH:
        raise ValueError(f"benchmark: expected cases and shots >= 0, got {len(cases)} cases and {tuple(shots)}")
    for case in progress(cases, "test sets", quiet=quiet):
        cells = case.open(shots, done)
        if not cells:
            continue
        data = case.load()
        model = detector(data.object_name)
        _, encoding = peak(lambda model=model, data=data: model.encode(data.images[:1]))
        began = time.perf_counter()
        encoded = model.encode(data.images)
        spent = time.perf_counter() - began
        for seed, k in cells:
            model.fit(data.images if k == BATCH else _references(data, k, seed if case.drawn else None))
            began = time.perf_counter()
            found = model.score(encoded)
            ms = 1000 * (spent + time.perf_counter() - began) / len(encoded)
            _, scoring = peak(lambda model=model, encoded=encoded: model.score(encoded[:1]))
            costs = {"ms": ms, "mb": max(encoding, scoring) / 1e6}
            yield Result(
                case.category, case.variant, seed, case.data, k, **measures(found, data), kind=case.kind, **costs
            )


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
