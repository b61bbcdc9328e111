"""`gadkit benchmark`: detectors measured on the factory's test sets, or on a data set in a folder.

Book: anomaly/measuring
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gadkit.anomaly.detectors import DETECTORS, backbone_of, default
from gadkit.cli import parents

if TYPE_CHECKING:  # --help does not wait for torch
    import torch

    from gadkit.anomaly.benchmark import Case, Result

DESCRIPTION = """Measure detectors: image and pixel AUROC, average precision, F1-max and AUPRO, each with its spread.

Without --folder, on products that the factory makes; a seed draws new photographs of each.  With it, on a data set
whose folders say which parts are good (MVTec AD and its kin, VisA, KolektorSDD, or good beside bad); a seed draws the
good parts to compare with among the photographs to train on.
"""

EXAMPLES = """examples:
  gadkit benchmark --detectors winclip patch-knn --shots 0 1 4 --out results.json
  gadkit benchmark --folder mvtec/ --detectors patch-knn --shots 1 2 4 --preset paper --out mvtec.json
  gadkit benchmark --split development --regime fixture --products 1 --seeds 0

Standard output gets a Markdown table: means over categories and products, and the standard deviation over seeds.
Detectors that need good parts are left out at 0 shots.  --out keeps each cell of the table as soon as it is measured:
the same command, killed and started again, goes on where it stopped.
"""
WHAT = "detectors on test sets with known defects, a row for each product, seed and number of shots"
KEY = ("detector", "backbone", "preset", "data", "size", "bits", "references", "category", "variant", "seed", "shots")


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `benchmark`."""
    line = "measure detectors on test sets with known defects"
    command = parents.command(commands, "benchmark", line, DESCRIPTION, EXAMPLES, parents.bits(), parents.model())
    where = command.add_mutually_exclusive_group()
    where.add_argument(
        "--folder", type=Path, metavar="ROOT", help="a data set in a known layout, or one category of it"
    )
    where.add_argument("--split", metavar="NAME", help="of the factory: held-out (default), development, seen")
    command.add_argument("--regime", default="loose", metavar="NAME", help="of the factory: loose (default), fixture")
    command.add_argument(
        "--defects", default="local", metavar="KIND", help="of the factory: local (default), global (of the whole part)"
    )
    command.add_argument("--products", type=int, default=5, metavar="N", help="of each category (default: 5)")
    command.add_argument("--categories", nargs="+", metavar="NAME", help="only these (default: all)")
    command.add_argument(
        "--detectors", nargs="+", default=[default(normal=False)], metavar="NAME", help=", ".join(DETECTORS)
    )
    command.add_argument("--backbone", metavar="NAME", help="their representation (default: each detector's own)")
    command.add_argument(
        "--shots", type=int, nargs="+", default=[0, 4], metavar="N", help="good parts to compare with (default: 0 4)"
    )
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    command.add_argument("--size", type=int, metavar="PIXELS", help="of the images (default: 96, in a folder 240)")
    command.add_argument("--out", type=Path, metavar="FILE", help="results file (JSON) to write to, and to go on with")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure what is not in the results file yet, and print the table of all that was asked."""
    from gadkit import runtime, zoo  # imported late: --help need not wait for torch
    from gadkit.cli import streams
    from gadkit.evaluation import results

    shots = _checked(arguments)
    preset, device = zoo.preset(arguments.preset), runtime.device(arguments.device)
    names = {name: backbone_of(name, arguments.backbone, preset) for name in arguments.detectors}
    cases, rows, asked = _cases(arguments), _earlier(arguments.out), []
    fixed = {"preset": preset, "size": _size(arguments), "bits": arguments.bits}
    fixed |= {"references": _references(arguments)}
    try:
        for name, backbone in names.items():
            settings = {"detector": name, "backbone": backbone} | fixed
            kept = _kept(rows, settings, cases, shots[name])
            asked += kept
            for row in _measured(settings, cases, shots[name], kept, device):
                asked.append(row)
                if arguments.out is not None:
                    results.merge(arguments.out, [row], _key, WHAT)
    finally:
        if asked:  # what was measured is printed, whatever came after
            streams.results(_table(asked))
    return 0


def _checked(arguments: argparse.Namespace) -> dict[str, list[int]]:
    """The shots that each detector can be measured at.  Raises ValueError for what can't be done."""
    from gadkit.checks import one_of, whole
    from gadkit.cli import streams

    for k in arguments.shots:
        whole("--shots", k, 0)
    for seed in arguments.seeds:
        whole("--seeds", seed, 0)
    whole("--size", arguments.size or 2, 2)
    shots = {}
    for name in arguments.detectors:
        row = DETECTORS[one_of("--detectors", name, DETECTORS)]
        shots[name] = sorted({k for k in arguments.shots if (row.few_shot if k else row.zero_shot)})
        if not shots[name]:
            raise ValueError(f"--shots: expected some that {name} can do, got {' '.join(map(str, arguments.shots))}")
        if left := sorted(set(arguments.shots) - set(shots[name])):
            streams.remark(f"{name} is left out at {' and '.join(map(str, left))} shots, which it cannot do")
    return shots


def _cases(arguments: argparse.Namespace) -> list["Case"]:
    """The test sets that are asked for."""
    from gadkit import factory
    from gadkit.anomaly.benchmark import factory_cases, folder_cases
    from gadkit.data.folders import Depth

    seeds, size = arguments.seeds, _size(arguments)
    if arguments.folder is not None:
        depth = None if arguments.bits is None else Depth(arguments.bits)
        return folder_cases(arguments.folder, arguments.categories, seeds, size, depth)
    there = factory.split(arguments.split or "held-out")
    if unknown := [name for name in arguments.categories or () if name not in there]:
        raise ValueError(f"--categories: expected some of {', '.join(there)}, got {unknown[0]!r}")
    categories, references = arguments.categories or there, _references(arguments)
    return factory_cases(categories, arguments.regime, arguments.products, seeds, references, size, arguments.defects)


def _size(arguments: argparse.Namespace) -> int:
    return arguments.size or (96 if arguments.folder is None else 240)


def _references(arguments: argparse.Namespace) -> int:
    """Photographs of good parts beside a factory's test set; how many there are changes those to be tested."""
    return 0 if arguments.folder is not None else max(4, *arguments.shots)


def _earlier(out: Path | None) -> list[dict[str, Any]]:
    """The rows of a results file, which can be written to.  Raises ValueError for a file of something else."""
    from gadkit.evaluation import results

    if out is None:
        return []
    rows = results.read(out)
    if any(field not in row for row in rows for field in KEY):
        raise ValueError(f"--out: expected a new file or one of this command, got other results in {out}")
    results.merge(out, [], _key, WHAT)  # before hours go into the first cell
    return rows


def _kept(
    rows: list[dict[str, Any]], settings: dict[str, Any], cases: list["Case"], shots: list[int]
) -> list[dict[str, Any]]:
    """Those rows that are asked for again."""
    wanted = {(c.category, c.data, c.variant, seed, k) for c in cases for seed, k in c.cells(shots)}
    return [row for row in rows if settings.items() <= row.items() and _cell(row) in wanted]


def _measured(
    settings: dict[str, Any], cases: list["Case"], shots: list[int], kept: list[dict[str, Any]], device: "torch.device"
) -> Iterator[dict[str, Any]]:
    """The rows that are asked for and not there yet, one after the other."""
    import gadkit
    from gadkit import zoo
    from gadkit.anomaly.benchmark import run as measured
    from gadkit.anomaly.detectors import build
    from gadkit.cli import streams
    from gadkit.files import provenance

    done = {(row["category"], row["variant"], row["seed"], row["shots"]) for row in kept}
    if len(done) == sum(len(case.cells(shots)) for case in cases):
        return  # without waiting for a backbone
    streams.loading(settings["backbone"], settings["preset"])
    backbone = zoo.load(settings["backbone"], settings["preset"], str(device))
    for result in measured(lambda noun: build(settings["detector"], backbone, noun), cases, shots, done):
        yield settings | _row(result) | {"gadkit": gadkit.__version__} | provenance(device)


def _row(result: "Result") -> dict[str, Any]:
    from dataclasses import asdict

    return {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(result).items()}


def _cell(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["category"], row["data"], row["variant"], row["seed"], row["shots"]


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(field) for field in KEY)


def _table(rows: list[dict[str, Any]]) -> str:
    """A line for each detector and number of shots."""
    from gadkit.anomaly.benchmark import MEASURES, Result, summarise, table

    groups: dict[tuple, list[Result]] = {}
    for row in sorted(rows, key=lambda row: (row["detector"], row["backbone"], row["shots"], *_cell(row))):
        result = Result(**{name: row[name] for name in Result.__dataclass_fields__})
        groups.setdefault((row["detector"], row["backbone"], row["shots"]), []).append(result)
    lines = []
    for (detector, backbone, k), some in groups.items():
        found = {m: None if all(getattr(r, m) is None for r in some) else summarise(some, m) for m in MEASURES}
        lines.append({"detector": detector, "backbone": backbone, "shots": k} | found)
    return table(lines)
