"""`gadkit detect`: which of these photographs show a defect, and where.

Book: intro/run-it
"""

import argparse
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from gadkit.anomaly.detectors import DETECTORS, default
from gadkit.cli import parents

if TYPE_CHECKING:  # --help does not wait for torch
    from gadkit.cli.inspection import Inspection
    from gadkit.protocols import Detector

DESCRIPTION = """Score photographs of parts for anything that does not belong, without training.

With a few photographs of good parts (--normal) the default detector compares each spot with what varies in those
(SubspaceAD).  It gives a threshold: the highest score among the good parts, each scored as if it were new.  Without
them the photographs are compared with descriptions of good and of damaged parts: with sentences about the part, if it
has a name (--object, WinCLIP), else with descriptions that were learnt from other parts (AnomalyCLIP).
"""

EXAMPLES = """examples:
  gadkit detect parts/ --normal good/ --out report
  gadkit detect parts/
  gadkit detect parts/ --object "metal nut"
  gadkit detect one.jpg two.png --object capsule --json | jq 'select(.score > 0.5) | .path'
  gadkit detect parts/ --normal good/ --threshold-quantile 0.95 --maps maps/
  gadkit detect parts/ --detector winclip --object carpet --normal good/
  gadkit fit --normal good/ --out bolt.gad && gadkit detect new/ --fitted bolt.gad

detectors:
{detectors}

Photographs much larger than what the network takes are cut into tiles (--tiles).  The score of a photograph is then the
highest among its tiles, and its map the tiles' maps blended.

Several processes share the photographs, also on several GPUs or machines: accelerate launch -m gadkit detect ...  The
first one writes the table and the report.

A higher score is more anomalous.  Scores compare within one run; those of another detector, object, preset or set of
normal images have another scale.  Of a data set whose folders say which parts are good (MVTec AD and its kin, VisA,
KolektorSDD, or good beside bad) the images to test on are scored, and masks never are; what else lies in its folder is
counted on standard error and left out.

An interrupt (Ctrl-C) leaves the scores so far: the table, and scores.unfinished.csv in the folder of --out.
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `detect`."""
    command = parents.command(
        commands,
        "detect",
        "score photographs of parts, and show where they differ",
        DESCRIPTION,
        EXAMPLES.replace("{detectors}", "\n".join(_described())) + parents.FILES,
        parents.images("IMAGES", "folders and files, also a category of a data set, as MVTec AD or VisA"),
        parents.bits(),
        parents.pixels(),
        parents.detector(
            f"one of {', '.join(DETECTORS)} (default: {default(normal=True)} with --normal, else "
            f"{default(normal=False)} with --object, else {default(normal=False, named=False)})"
        ),
        parents.model(),
        parents.out("write report.html and scores.csv there"),
    )
    good = command.add_mutually_exclusive_group()
    good.add_argument("--normal", type=Path, metavar="DIR", help="images of good parts; two or more give a threshold")
    good.add_argument(
        "--fitted", type=Path, metavar="FILE", help="a detector that `gadkit fit` has kept, with its good parts"
    )
    line = command.add_mutually_exclusive_group()
    line.add_argument("--threshold", type=float, metavar="X", help="call images above X anomalous")
    line.add_argument(
        "--threshold-quantile",
        type=float,
        metavar="Q",
        help="take this quantile of the normal images' held-out scores (default: 1, the highest)",
    )
    line.add_argument(
        "--alarms", type=float, metavar="SHARE", help="take the lowest threshold that promises so few false alarms"
    )
    command.add_argument(
        "--json", action="store_true", help="one JSON object an image, as they come, in place of the table"
    )
    command.add_argument(
        "--maps", type=Path, metavar="DIR", help="write each map there, float32 .npy at the image's size"
    )
    command.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="write two PNG of each image there: NAME.heat.png, its map over it, and NAME.outline.png, with lines "
        "around what is stranger than anything in a good part (or above --threshold, where no good parts are known)",
    )
    command.set_defaults(run=run)


def _described() -> list[str]:
    """A line for every detector, and what it cannot do without."""
    lines = []
    for name, row in DETECTORS.items():
        needs = ["--object"] * row.object_name + ["--normal"] * (not (row.zero_shot or row.batched))
        lines.append(f"  {name:10} {row.about}" + f" (needs {' and '.join(needs)})" * bool(needs))
    return lines


def run(arguments: argparse.Namespace) -> int:
    """Check the question, answer it, and write down what came out; the exit code as `gadkit.cli` states it."""
    from gadkit import distributed  # imported late: --help need not wait for torch
    from gadkit.cli import inspection, sources, streams, together, words
    from gadkit.files import claimed

    distributed.start()
    task = inspection.planned(arguments)
    with ExitStack() as folders:
        for folder, option in _folders(arguments):
            if folder is not None and together.first():
                folders.enter_context(claimed(folder, option))
        streams.remark(*sources.remarks(arguments.images, arguments.normal), *task.run.remarks)
        detector = task.fit()
        streams.remark(*words.before(task))
        try:
            return _deliver(arguments, task, detector)
        except KeyboardInterrupt:
            if together.first():
                _keep(arguments, task)
            raise


def _folders(arguments: argparse.Namespace) -> tuple[tuple[Path | None, str], ...]:
    """The folders to write to, each with its option."""
    return (arguments.out, "--out"), (arguments.maps, "--maps"), (arguments.pictures, "--pictures")


def _deliver(arguments: argparse.Namespace, task: "Inspection", detector: "Detector") -> int:
    """Score one image after the other, and write all that was asked for.  An output that fails is named."""
    from gadkit.cli import outputs, sources, streams, together, words
    from gadkit.cli.outputs import attempt
    from gadkit.distributed import world
    from gadkit.report import Report, colours_of
    from gadkit.viz import Scale

    root, reading = sources.common_root(arguments.images), True
    others = [folder for folder, _ in _folders(arguments) if folder is not None]
    usual, fixed = task.fitting.usual, Scale(*detector.map_range)
    colours, named = colours_of(usual, fixed), len(task.skipped.lines)
    page = nullcontext() if arguments.out is None else closing(Report(usual, fixed))
    with page as report:
        for row, path, image, heat in task.score(detector):
            if arguments.json and reading and world() == 1:
                with attempt(task.failed):
                    reading = streams.results(row.json())
                if not reading and not others:
                    return 0  # the reader has seen enough, and nothing else was asked for
            if arguments.maps is not None:
                with attempt(task.failed):
                    outputs.write_map(arguments.maps, path, root, heat.cpu().numpy())
            if arguments.pictures is not None:
                with attempt(task.failed):
                    outputs.write_pictures(arguments.pictures, path, root, image, heat, colours, task.contour)
            if report is not None:
                with attempt(task.failed):
                    report.add(row.path, image, heat, row.score)
        together.gather(task, report, named)
        if not together.first():
            return 0
        if arguments.json and world() > 1:
            streams.results(*(row.json() for row in task.rows))
        if not task.rows:
            raise ValueError(f"IMAGES: none of the {len(task.files)} files could be read")
        if report is not None:
            with attempt(task.failed):
                outputs.write_csv(arguments.out / outputs.SCORES, task.rows)
                (arguments.out / outputs.UNFINISHED).unlink(missing_ok=True)
            with attempt(task.failed):
                outputs.write_text(arguments.out / outputs.REPORT, report.pages(words.report_facts(task)))
    if not arguments.json:
        with attempt(task.failed):
            streams.results(*outputs.table(task.rows))
    streams.remark(*words.after(task, arguments.out))
    return 1 if task.skipped.lines or task.failed else 0


def _keep(arguments: argparse.Namespace, task: "Inspection") -> None:
    """Deliver the scores so far of a run that was interrupted, beside the results of an earlier one."""
    from gadkit.cli import outputs, streams

    if not arguments.json and task.rows:
        with outputs.attempt(task.failed):
            streams.results(*outputs.table(task.rows))
    if arguments.out is not None:
        with outputs.attempt(task.failed):
            outputs.write_csv(arguments.out / outputs.UNFINISHED, task.rows)
            streams.remark(f"the scores until now: {arguments.out / outputs.UNFINISHED}")
