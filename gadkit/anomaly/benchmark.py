"""Measuring a detector on the factory's test sets: products times seeds, with the spread that belongs to every number.

Book: anomaly/measuring
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from gadkit import factory
from gadkit.anomaly.metrics import aupro, auroc
from gadkit.checks import checked, one_of
from gadkit.protocols import Detector
from gadkit.runtime import progress

MEASURES = ("image_auroc", "pixel_auroc", "aupro")


@dataclass(frozen=True)
class Result:
    """One detector on one product under one seed; `shots` 0 is zero-shot."""

    category: str
    variant: int
    seed: int
    regime: str
    shots: int
    image_auroc: float
    pixel_auroc: float
    aupro: float


@checked
def evaluate(
    detector: Callable[[str], Detector],
    categories: Sequence[str],
    regime: str = "loose",
    shots: Sequence[int] = (0, 4),
    variants: int = 5,
    seeds: Sequence[int] = (0, 1, 2),
    size: int = 96,
    quiet: bool = False,
) -> Iterator[Result]:
    """Score `variants` products of each category under each data seed, by a detector made for the category's noun.

    `shots` lists how many references `fit` gets; 0 means none.  Yields a `Result` for each combination.  Raises
    ValueError for no categories or a negative number of shots.
    """
    if not categories or not shots or min(shots) < 0:
        raise ValueError(f"benchmark: expected categories and shots >= 0, got {tuple(categories)} and {tuple(shots)}")
    products = [(c, v, s) for c in categories for v in range(variants) for s in seeds]
    for category, variant, seed in progress(products, f"{regime} products", quiet=quiet):
        data = factory.test_set(category, variant, seed, regime, references=max(shots), size=size)
        judge = detector(factory.CATEGORIES[category].nouns[0])
        seen = judge.see(data.images) if hasattr(judge, "see") else None  # encoded once for all shots
        for k in shots:
            judge.fit(data.references[:k] if k else None)
            found = judge.score(data.images) if seen is None else judge.judge(seen)
            image, pixel = auroc(found.scores, data.labels), auroc(found.maps, data.masks)
            yield Result(category, variant, seed, regime, k, image, pixel, aupro(found.maps, data.masks))


@checked
def summarise(results: Sequence[Result], measure: str) -> tuple[float, float]:
    """Mean of a measure over categories and products, and its standard deviation over the data seeds' means.

    The deviation is 0 for one seed.  Raises ValueError for no results.
    """
    one_of("measure", measure, MEASURES)
    if not results:
        raise ValueError("summarise: expected at least one result, got none")
    seeds = sorted({r.seed for r in results})
    means = [mean(getattr(r, measure) for r in results if r.seed == seed) for seed in seeds]
    return mean(means), stdev(means) if len(means) > 1 else 0.0


def table(rows: list[dict]) -> str:
    """Rows of "weights", "regime", "shots" and (mean, deviation) of every measure, as a Markdown table."""
    lines = ["| weights | regime | shots | image AUROC | pixel AUROC | AUPRO |", "|---|---|---|---|---|---|"]
    for row in rows:
        cells = [f"{value:.3f} ± {spread:.3f}" for value, spread in (row[m] for m in MEASURES)]
        lines.append(f"| {row['weights']} | {row['regime']} | {row['shots']} | {' | '.join(cells)} |")
    return "\n".join(lines)
