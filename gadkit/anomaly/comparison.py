"""Rows of the benchmark side by side: a line an entry, textures and objects apart, and who is clearly behind whom.

An entry is a detector with its backbone, its trained part and a number of shots.  Rows are those of a results file,
mappings with the fields of `benchmark.Result` and of the command.

Book: anomaly/benchmark
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit.anomaly.benchmark import BATCH, LABELS, MEASURES, Result, summarise
from gadkit.anomaly.detectors import DETECTORS
from gadkit.checks import checked, describe, one_of, whole

Row = Mapping[str, Any]
Values = Mapping[tuple[str, int, int], float]  # by category, product and seed
NEEDED = ("detector", "backbone", "shots", "data", "category", "variant", "seed", *MEASURES)
SETTINGS = ("size", "bits", "references", "each")  # on which test images depend
DRAWS = 2000
LEVEL = 0.95
RULE = (
    "An entry is clearly behind the best one if the 95 % interval of its distance lies above 0. The distance is taken "
    "on the same photographs, as a mean over a product's seeds, and averaged within categories and then over them; the "
    f"interval is that of {DRAWS:,} bootstrap draws of categories and, within each, of products."
)


@dataclass(frozen=True)
class Standing:
    """An entry of a ranking: its mean over categories, and how far it is `behind` the best, from `low` to `high`.

    `clear` says whether it is behind for certain, by `RULE`.  The best one is 0 behind; so is, without an interval, an
    entry with one product in all.  `units` counts the products that it was compared on.
    """

    entry: str
    mean: float
    behind: float
    low: float
    high: float
    clear: bool
    units: int


@checked
def entry(row: Row, shots: bool = False) -> str:
    """What a row measured, in words: "knn, clip", with a trained part of one's own and, if asked, the shots."""
    _check_fields([row], ("detector", "backbone", "shots"))
    own = [row["heads"]] if row.get("heads") not in (None, "shipped") else []
    words = [row["detector"], row["backbone"], *own, *([f"{shown(row['shots'])} shots"] if shots else [])]
    return ", ".join(map(str, words))


@checked
def lines(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A line for each entry on each data set, for `benchmark.table`: means with their spread over seeds, and costs.

    Where both kinds are there, image AUROC stands for textures and for objects too.  Milliseconds are the median over
    cells, megabytes the largest.  The last column says whether the weights have seen the factory's kinds of defect.
    Raises ValueError for rows of one data set whose test images differ: by size, by number of references, ...
    """
    _check_settings(rows)
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        groups[(row["data"], entry(row), row["shots"])].append(row)
    data = {row["data"]: short(row["data"]) for row in rows}
    kinds = [kind for kind in ("texture", "object") if any(row.get("kind") == kind for row in rows)]
    found = []
    for where, _, shots in sorted(groups):
        some = sorted(groups[where, _, shots], key=cell)
        line = {"data": data[where]} if len(data) > 1 else {}
        line |= {"detector": some[0]["detector"], "backbone": some[0]["backbone"], "shots": shown(shots)}
        if any(row.get("heads") for row in rows):
            line["heads"] = some[0].get("heads") or "none"
        line |= {measure: _summary(some, measure) for measure in MEASURES}
        if len(kinds) == 2:
            line |= {f"{kind}s": _summary([r for r in some if r["kind"] == kind], "image_auroc") for kind in kinds}
        found.append(line | _costs(some) | {"saw these defects": saw(some[0])})
    return found


def _check_fields(rows: Sequence[Row], names: Sequence[str]) -> None:
    """Raise ValueError for what is no row, or one without some fields."""
    for row in rows:
        if not isinstance(row, Mapping) or (missing := [name for name in names if name not in row]):
            came = f"one without {missing[0]}" if isinstance(row, Mapping) else describe(row)
            raise ValueError(f"rows: expected those of a results file of the benchmark, got {came}")


def _check_settings(rows: Sequence[Row]) -> None:
    """Raise ValueError for what is no row, and where the same product has other test images in some rows."""
    _check_fields(rows, NEEDED)
    for data in dict.fromkeys(row["data"] for row in rows):
        for name in SETTINGS:
            found = [*dict.fromkeys(row.get(name) for row in rows if row["data"] == data)]
            if len(found) > 1:
                raise ValueError(f"rows: expected one {name} for {data}, got {' and '.join(map(str, found))}")


def cell(row: Row) -> tuple[Any, ...]:
    """What tells the cells of an entry apart: category, data, product, seed and shots."""
    return row["category"], row["data"], row["variant"], row["seed"], row["shots"]


def shown(shots: int) -> str:
    """A number of shots for a table; "batch" for a detector that was fitted on the test images."""
    return "batch" if shots == BATCH else str(shots)


def short(data: str) -> str:
    """A data set's name for a table: the last part of a folder's path."""
    return data.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


@checked
def saw(row: Row) -> str:
    """Whether what was trained has seen the factory's eleven kinds of defect: "yes", "no", or "unknown"."""
    _check_fields([row], ())
    learnt = str(row.get("trained_on") or "")
    return "yes" if "factory" in learnt else "unknown" if "unknown" in learnt else "no"


def _costs(rows: Sequence[Row]) -> dict[str, str]:
    ms, mb = ([row[name] for row in rows if row.get(name) is not None] for name in ("ms", "mb"))
    return {"ms": f"{median(ms):.1f}" if ms else "unknown", "MB": f"{max(mb):.1f}" if mb else "unknown"}


def _summary(rows: Sequence[Row], measure: str) -> tuple[float, float] | None:
    results = [Result(**{name: row.get(name) for name in Result.__dataclass_fields__}) for row in rows]
    return summarise(results, measure) if any(getattr(r, measure) is not None for r in results) else None


@checked
def ranking(rows: Sequence[Row], measure: str = "image_auroc", draws: int = DRAWS, seed: int = 0) -> list[Standing]:
    """All entries of one data set, the best first, each compared with it on the products and seeds that both have.

    Whether an entry is clearly behind is settled by `RULE`.  Raises ValueError for no rows with the measure, for rows
    of several data sets or with other test images, and for entries that share no product with the best one.
    """
    one_of("measure", measure, MEASURES), whole("draws", draws), whole("seed", seed, 0)
    if len(data := sorted({row["data"] for row in rows})) > 1:
        raise ValueError(f"ranking: expected rows of one data set, got {', '.join(data)}")
    _check_settings(rows)
    several = len({row["shots"] for row in rows}) > 1
    values: dict[str, Values] = defaultdict(dict)
    for row in rows:
        if row[measure] is not None:
            values[entry(row, several)][row["category"], row["variant"], row["seed"]] = row[measure]
    if not values:
        raise ValueError(f"ranking: expected at least one row with {measure}, got none")
    levels = {name: mean(map(mean, _grouped(own).values())) for name, own in values.items()}
    order = sorted(levels, key=lambda name: (-levels[name], name))
    return [_standing(name, levels[name], values[name], values[order[0]], draws, seed) for name in order]


def _grouped(values: Values) -> dict[str, list[float]]:
    """For each category its products, each as the mean over its seeds."""
    products: dict[tuple[str, int], list[float]] = defaultdict(list)
    for (category, variant, _), value in sorted(values.items()):
        products[category, variant].append(value)
    found: dict[str, list[float]] = defaultdict(list)
    for (category, _), some in products.items():
        found[category].append(mean(some))
    return found


def _standing(name: str, level: float, own: Values, best: Values, draws: int, seed: int) -> Standing:
    far = _grouped({cell: best[cell] - value for cell, value in own.items() if cell in best})
    if not far:
        raise ValueError(f"ranking: expected products that {name} shares with the best entry, got none")
    behind, units = mean(map(mean, far.values())), sum(map(len, far.values()))
    groups = [torch.tensor(some, dtype=torch.float64) for some in far.values()]
    low, high = (behind, behind) if units == 1 else _interval(groups, draws, seed)
    return Standing(name, level, behind, low, high, units > 1 and low > 0, units)


def _interval(groups: Sequence[Float[Tensor, "_"]], draws: int, seed: int) -> tuple[float, float]:
    """The middle 95 % of means of categories that are drawn with replacement, each from products drawn so too."""
    draw = torch.Generator().manual_seed(seed)
    means = torch.empty(draws, len(groups), dtype=torch.float64)
    chosen = torch.randint(len(groups), means.shape, generator=draw)  # (draws, categories)
    for number, group in enumerate(groups):
        places = (chosen == number).nonzero()
        products = torch.randint(len(group), (len(places), len(group)), generator=draw)
        means[places[:, 0], places[:, 1]] = group[products].mean(1)
    tail = (1 - LEVEL) / 2
    low, high = means.mean(1).quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


@checked
def standings(rows: Sequence[Row], measure: str = "image_auroc") -> list[dict[str, Any]]:
    """The `ranking` as lines for `benchmark.table`: the distance with its interval, and what is clear about it."""
    found = ranking(rows, measure)
    most = max(standing.units for standing in found)
    return [
        {
            "place": place,
            "entry": one.entry,
            measure: f"{one.mean:.3f}",
            "behind": "best" if place == 1 else f"{one.behind:.3f} [{one.low:.3f}, {one.high:.3f}]",
            "clearly behind": "" if place == 1 else "yes" if one.clear else "not clear",
            "products": f"{one.units}" if one.units == most else f"{one.units} of {most}",
        }
        for place, one in enumerate(found, 1)
    ]


@checked
def beside(rows: Sequence[Row], records: Sequence[Row], measure: str = "image_auroc") -> list[dict[str, Any]]:
    """Published numbers beside our own: a line for each method and number of shots, a column for each data set.

    A column is ours or a paper's, and one data set's, so nothing stands in one column that was measured differently.
    `records` are those of `book/survey/anomaly-numbers.json`; a method is one of ours if a detector has its name in
    `DETECTORS`, and others are left out.  `rows` have one backbone a detector.  What was not measured or not published
    stays blank.  Raises ValueError for a detector with several backbones.
    """
    one_of("measure", measure, MEASURES), _check_fields(rows, NEEDED)
    _check_fields(records, ("method", "shots", "measure", "dataset", "value", "verified"))
    for name in {row["detector"] for row in rows}:
        eyes = sorted({row["backbone"] for row in rows if row["detector"] == name})
        if len(eyes) > 1:
            raise ValueError(f"rows: expected one backbone for {name}, got {', '.join(eyes)}")
    ours: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in rows:
        ours[_name(row), max(0, row["shots"])].append(row)
    records = [r for r in records if r["measure"] == LABELS[measure] and (r["method"], r["shots"]) in ours]
    data = {**{row["data"]: f"ours, {short(row['data'])}" for row in rows}}
    blank = dict.fromkeys([*data.values(), *(f"paper, {record['dataset']}" for record in records)], "")
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for record in sorted(records, key=lambda record: (record["method"], record["shots"])):
        key = record["method"], record["shots"]
        line = found.setdefault(key, {"method": key[0], "shots": key[1], **blank, "read in": record["verified"]})
        line[f"paper, {record['dataset']}"] = f"{record['value'] / 100:.3f}"
        for where, column in data.items():
            if some := [row for row in ours[key] if row["data"] == where and row[measure] is not None]:
                line[column] = _summary(some, measure)
    return [*found.values()]


def _name(row: Row) -> str:
    """What a detector is called in its setting, as papers do."""
    spec = DETECTORS[row["detector"]]
    return spec.batched if row["shots"] == BATCH else spec.few_shot if row["shots"] else spec.zero_shot
