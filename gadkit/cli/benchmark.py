"""`gadkit benchmark`: detectors measured on the factory's test sets, on data sets in folders, on classes as anomalies.

Book: anomaly/measuring, anomaly/benchmark
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gadkit.anomaly.detectors import DETECTORS, backbone_of, default
from gadkit.cli import parents

if TYPE_CHECKING:  # --help does not wait for torch
    from gadkit.anomaly.benchmark import Case
    from gadkit.cli.measuring import Job

DESCRIPTION = """Measure detectors: image and pixel AUROC, average precision, F1-max and AUPRO, each with its spread,
and what an image costs, in milliseconds and in megabytes of tensors.

Without --folder, --textiles or --semantic, on products that the factory makes; a seed draws new photographs of each.
With --folder, on data sets whose folders say which parts are good (MVTec AD and its kin, VisA, KolektorSDD, or good
beside bad); there, and in the other two, a seed draws the good parts to compare with among those to train on.
"""

EXAMPLES = """examples:
  gadkit benchmark --detectors winclip patch-knn --shots 0 1 4 --out results.parquet
  gadkit benchmark --detectors knn --backbone dino mae random --regime loose fixture --defects local global
  gadkit benchmark --folder mvtec/ visa/ --detectors patch-knn --shots 1 2 4 --preset paper --out mvtec.json
  gadkit benchmark --split development --regime fixture --products 1 --seeds 0 --rank
  accelerate launch --num_processes 4 -m gadkit benchmark --out results.parquet

Standard output gets a Markdown table: means over categories and products, and the standard deviation over seeds; with
--rank also which entries are clearly behind the best one.  Detectors are left out at numbers of shots that they cannot
do, and on backbones that do not fit them; a remark says so.  --out keeps each cell of the table as soon as it is
measured: the same command, killed and started again, goes on where it stopped, also with another number of processes.
"""
SIZES = {"folder": 240, "textiles": 224}  # of images, in pixels; all others 96
EACH = {"textiles": 75, "semantic": 20}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `benchmark`."""
    line = "measure detectors on test sets with known defects"
    command = parents.command(commands, "benchmark", line, DESCRIPTION, EXAMPLES, parents.bits(), parents.model())
    _add_sets(command)
    command.add_argument(
        "--detectors", nargs="+", default=[default(normal=False)], metavar="NAME", help=", ".join(DETECTORS)
    )
    command.add_argument(
        "--backbone", nargs="+", metavar="NAME", help="their representations (default: each detector's own)"
    )
    command.add_argument(
        "--heads", nargs="+", default=[], metavar="NAME=FILE", help="checkpoints of detectors' own trained parts"
    )
    command.add_argument(
        "--shots", type=int, nargs="+", default=[0, 4], metavar="N", help="good parts to compare with (default: 0 4)"
    )
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    command.add_argument(
        "--rank", nargs="?", const="image_auroc", metavar="MEASURE", help="rank the entries (default: by image_auroc)"
    )
    command.add_argument(
        "--out", type=Path, metavar="FILE", help="results file to write to, and to go on with: .parquet, else JSON"
    )
    command.set_defaults(run=run)


def _add_sets(command: argparse.ArgumentParser) -> None:
    """The options that say on what to measure."""
    group = command.add_argument_group("test sets")
    where = group.add_mutually_exclusive_group()
    where.add_argument(
        "--folder", type=Path, nargs="+", metavar="ROOT", help="data sets in a known layout, or single categories"
    )
    where.add_argument(
        "--textiles",
        nargs="?",
        const="",
        metavar="PATH",
        help="simulated textiles: conformal-clip-data as installed, or its wheel or folder",
    )
    where.add_argument(
        "--semantic", nargs="+", metavar="NAME", help="classes as anomalies: digits, and mnist and cifar10 if there"
    )
    where.add_argument("--split", metavar="NAME", help="of the factory: held-out (default), development, seen")
    group.add_argument(
        "--regime", nargs="+", default=["loose"], metavar="NAME", help="of the factory: loose (default), fixture"
    )
    group.add_argument(
        "--defects",
        nargs="+",
        default=["local"],
        metavar="KIND",
        help="of the factory: local (default), global (of the whole part)",
    )
    group.add_argument("--products", type=int, default=5, metavar="N", help="of each category (default: 5)")
    group.add_argument("--categories", nargs="+", metavar="NAME", help="only these (default: all)")
    group.add_argument(
        "--protocol", nargs="+", metavar="NAME", help="of --semantic: one-vs-all, multi-class (default: both)"
    )
    group.add_argument("--data", type=Path, metavar="DIR", help="where mnist and cifar10 lie: ~/.cache/torchvision")
    group.add_argument(
        "--each", type=int, metavar="N", help="images of a class or kind (default: textiles 75, semantic 20)"
    )
    group.add_argument("--size", type=int, metavar="PIXELS", help="of images (default: 96; folders 240, textiles 224)")


def run(arguments: argparse.Namespace) -> int:
    """Measure what is not in the results file yet, and print the table of all that was asked."""
    from gadkit import distributed, runtime  # imported late: --help need not wait for torch
    from gadkit.cli import measuring, streams, together

    distributed.start()
    jobs, device = _jobs(arguments), runtime.device(arguments.device)
    cases, rows = _cases(arguments), measuring.earlier(arguments.out)
    asked, found, wrong = [row for job in jobs for row in job.kept(rows, cases)], [], None
    try:
        with measuring.keeping(arguments.out, found) as keep:
            for turn, job in enumerate(jobs):
                try:
                    for row in job.measured(measuring.own(cases, turn), job.kept(rows, cases), device):
                        found.append(row)
                        keep(row)
                except measuring.Unfit as error:
                    streams.remark(f"{job.settings['detector']} on {job.backbone} is left out: {error}")
                    wrong = error
    finally:
        if together.first() and (asked + found):  # what was measured is printed, whatever came after
            streams.results(*_tables(arguments, asked + found))
    if wrong is not None and together.first() and not asked + found:
        raise wrong
    return 0


def _jobs(arguments: argparse.Namespace) -> list["Job"]:
    """Every detector on every backbone that fits it.  Raises ValueError for what can't be done."""
    from gadkit import zoo
    from gadkit.anomaly.benchmark import MEASURES
    from gadkit.checks import one_of, whole
    from gadkit.cli import measuring

    for option, values, low in (("--shots", arguments.shots, 0), ("--seeds", arguments.seeds, 0)):
        for value in values:
            whole(option, value, low)
    whole("--size", _size(arguments), 2), whole("--each", 1 if arguments.each is None else arguments.each)
    for option, sources in (("each", EACH), ("protocol", ("semantic",)), ("data", ("semantic",))):
        if getattr(arguments, option) is not None and _source(arguments) not in sources:
            raise ValueError(f"--{option}: expected it with {' or '.join(f'--{s}' for s in sources)}, got it without")
    if arguments.rank is not None:
        one_of("--rank", arguments.rank, MEASURES)
    for name in arguments.detectors:
        one_of("--detectors", name, DETECTORS)
    fixed = {"preset": zoo.preset(arguments.preset), "size": _size(arguments), "bits": arguments.bits}
    fixed |= {"references": _references(arguments), "each": _each(arguments)}
    heads, jobs = _heads(arguments), []
    for name in dict.fromkeys(arguments.detectors):
        shots = _shots(name, arguments.shots)
        for backbone in _backbones(name, arguments.backbone, fixed["preset"]):
            jobs.append(measuring.job(name, backbone, heads.get(name), shots, fixed))
    return jobs


def _shots(name: str, asked: Sequence[int]) -> list[int]:
    """The shots that a detector can be measured at."""
    from gadkit.anomaly.benchmark import BATCH
    from gadkit.cli import streams

    row = DETECTORS[name]
    if row.batched:
        return [BATCH]
    shots = sorted({k for k in asked if (row.few_shot if k else row.zero_shot)})
    if not shots:
        raise ValueError(f"--shots: expected some that {name} can do, got {' '.join(map(str, asked))}")
    if left := sorted(set(asked) - set(shots)):
        streams.remark(f"{name} is left out at {' and '.join(map(str, left))} shots, which it cannot do")
    return shots


def _backbones(name: str, asked: Sequence[str] | None, preset: str) -> list[str]:
    """The backbones for a detector, of those that are asked for; its own where none is, and where it sees pixels."""
    from gadkit import zoo
    from gadkit.cli import streams

    if asked is None or DETECTORS[name].pixels:
        return [backbone_of(name, None, preset)]
    zoo.check(asked, preset, "--backbone")
    found, wrong = [], None
    for backbone in dict.fromkeys(asked):
        try:
            found.append(backbone_of(name, backbone, preset))
        except ValueError as error:
            wrong = error
    if not found:
        raise wrong
    if left := [backbone for backbone in asked if backbone not in found]:
        streams.remark(f"{name} is left out on {' and '.join(left)}, which it cannot use")
    return found


def _heads(arguments: argparse.Namespace) -> dict[str, Path]:
    """The checkpoints that are given for detectors, by name."""
    able = [name for name in arguments.detectors if DETECTORS[name].heads]
    found = {}
    for text in arguments.heads:
        name, sign, file = text.partition("=")
        if not sign and len(able) == 1:
            name, file = able[0], text
        if name not in able:
            wanted = (
                ", ".join(f"{known}=FILE" for known in able) or "nothing: no detector of this run has a trained part"
            )
            raise ValueError(f"--heads: expected {wanted}, got {text!r}")
        if not Path(file).is_file():
            raise ValueError(f"--heads: expected a file, got {file!r}: no such file")
        found[name] = Path(file)
    return found


def _cases(arguments: argparse.Namespace) -> list["Case"]:
    """The test sets that are asked for."""
    from gadkit import factory
    from gadkit.anomaly import benchmark
    from gadkit.data import semantic
    from gadkit.data.folders import Depth

    seeds, size, only = arguments.seeds, _size(arguments), arguments.categories
    if arguments.folder is not None:
        depth = None if arguments.bits is None else Depth(arguments.bits)
        return [case for root in arguments.folder for case in benchmark.folder_cases(root, only, seeds, size, depth)]
    if arguments.textiles is not None:
        return _chosen(benchmark.textile_cases(arguments.textiles or None, seeds, size, _each(arguments)), only)
    if arguments.semantic is not None:
        asked = arguments.protocol or semantic.PROTOCOLS
        options = (asked, seeds, size, _each(arguments), arguments.data)
        return _chosen([case for name in arguments.semantic for case in benchmark.semantic_cases(name, *options)], only)
    there = factory.split(arguments.split or "held-out")
    if unknown := [name for name in only or () if name not in there]:
        raise ValueError(f"--categories: expected some of {', '.join(there)}, got {unknown[0]!r}")
    options = (arguments.products, seeds, _references(arguments), size)
    return [
        case
        for regime in dict.fromkeys(arguments.regime)
        for defects in dict.fromkeys(arguments.defects)
        for case in benchmark.factory_cases(only or there, regime, *options, defects)
    ]


def _chosen(cases: list["Case"], only: Sequence[str] | None) -> list["Case"]:
    there = [*dict.fromkeys(case.category for case in cases)]
    if unknown := [name for name in only or () if name not in there]:
        raise ValueError(f"--categories: expected some of {', '.join(there)}, got {unknown[0]!r}")
    return [case for case in cases if only is None or case.category in only]


def _source(arguments: argparse.Namespace) -> str:
    return next((n for n in ("folder", "textiles", "semantic") if getattr(arguments, n) is not None), "factory")


def _size(arguments: argparse.Namespace) -> int:
    return SIZES.get(_source(arguments), 96) if arguments.size is None else arguments.size


def _each(arguments: argparse.Namespace) -> int | None:
    default = EACH.get(_source(arguments))
    return default if default is None or arguments.each is None else arguments.each


def _references(arguments: argparse.Namespace) -> int:
    """Photographs of good parts beside a factory's test set; how many there are changes those to be tested."""
    return max(4, *arguments.shots) if _source(arguments) == "factory" else 0


def _tables(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> list[str]:
    """The table of means, and where it is asked for a ranking for each data set and number of shots."""
    from gadkit.anomaly import comparison
    from gadkit.anomaly.benchmark import BATCH, table

    texts, batched = [], [row for row in rows if row["shots"] == BATCH]
    if len(batched) < len(rows):
        texts.append(table(comparison.lines([row for row in rows if row["shots"] != BATCH])))
    if batched:
        texts += [
            "\nDetectors that were fitted on the test images, without labels:\n",
            table(comparison.lines(batched)),
        ]
    groups = sorted({(row["data"], row["shots"]) for row in rows}) if arguments.rank else []
    for data, shots in groups:
        some = [row for row in rows if (row["data"], row["shots"]) == (data, shots)]
        if any(row[arguments.rank] is not None for row in some):
            texts += [
                f"\n{comparison.short(data)}, {comparison.shown(shots)} shots:\n",
                table(comparison.standings(some, arguments.rank)),
            ]
    return [*texts, *([f"\n{comparison.RULE}"] if groups else [])]
