"""`gadkit detect`: which of these photographs show a defect, and where.

Book: intro/run-it
"""

import argparse
from contextlib import closing, nullcontext
from pathlib import Path

from gadkit.anomaly.detectors import DEFAULT, DETECTORS
from gadkit.cli.options import image_options

DESCRIPTION = """Score photographs of parts for anything that does not belong, without training.

With only a name for the part (--object) the default detector compares each image with descriptions of good and of
damaged parts (WinCLIP, zero-shot).  With a few photographs of good parts (--normal) it also compares each spot with
those (WinCLIP+), and gives a threshold: the highest score among the good parts, each scored as if it were new.
"""

EXAMPLES = """examples:
  gadkit detect parts/ --object "metal nut"
  gadkit detect parts/ --object "metal nut" --normal good/ --out report
  gadkit detect one.jpg two.png --object capsule --json | jq 'select(.score > 0.5) | .path'
  gadkit detect parts/ --object carpet --normal good/ --threshold-quantile 0.95 --maps maps/
  gadkit detect parts/ --detector patch-knn --normal good/

detectors:
{detectors}

A higher score is more anomalous.  Scores compare within one run; those of another detector, object, preset or set of
normal images have another scale.  Of a data set whose folders say which parts are good (MVTec AD and its kin, VisA,
KolektorSDD, or good beside bad) the images to test on are scored, and masks never are; what else lies in its folder is
counted on standard error and left out.

Exit code: 0 when all files were read, whatever was found; 1 when some were skipped, each named on standard error; 2
when nothing could be done; 130 when interrupted.  Pictures of another kind (HEIC, GIF, camera raw, SVG, PDF, ...) are
no such files: they are counted on standard error, in one line, and left out.
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `detect`."""
    command = commands.add_parser(
        "detect",
        help="score photographs of parts, and show where they differ",
        description=DESCRIPTION,
        epilog=EXAMPLES.replace("{detectors}", "\n".join(_described())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        parents=[image_options()],
    )
    command.add_argument(
        "images",
        type=Path,
        nargs="+",
        metavar="IMAGES",
        help="folders and files: PNG, JPEG, BMP, TIFF, WebP; also a category of a data set, as MVTec AD or VisA",
    )
    command.add_argument("--object", metavar="NAME", help='what the images show, as in "metal nut"')
    command.add_argument(
        "--normal", type=Path, metavar="DIR", help="images of good parts; two or more give a threshold"
    )
    command.add_argument(
        "--detector", metavar="NAME", default=DEFAULT, help=f"one of {', '.join(DETECTORS)} (default: {DEFAULT})"
    )
    command.add_argument(
        "--preset",
        metavar="NAME",
        help="tiny (shipped) or paper (published weights); default: GADKIT_PRESET, else tiny",
    )
    command.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, mps; default: GADKIT_DEVICE, else the best there is"
    )
    line = command.add_mutually_exclusive_group()
    line.add_argument("--threshold", type=float, metavar="X", help="call images above X anomalous")
    line.add_argument(
        "--threshold-quantile",
        type=float,
        metavar="Q",
        help="take this quantile of the normal images' held-out scores (default: 1, the highest)",
    )
    command.add_argument(
        "--json", action="store_true", help="one JSON object an image, as they come, in place of the table"
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="write report.html and scores.csv there")
    command.add_argument(
        "--maps", type=Path, metavar="DIR", help="write each map there, float32 .npy at the image's size"
    )
    command.set_defaults(run=run)


def _described() -> list[str]:
    """A line for every detector, and what it cannot do without."""
    lines = []
    for name, row in DETECTORS.items():
        needs = ["--object"] * row.object_name + ["--normal"] * (not row.zero_shot)
        lines.append(f"  {name:10} {row.about} (needs {' and '.join(needs)})")
    return lines


def run(arguments: argparse.Namespace) -> int:
    """Check what was asked, do it, and say what came out; the exit code as `gadkit.cli` states it."""
    from gadkit.cli import inspection, outputs, sources, words  # imported late: --help need not wait for torch
    from gadkit.report import Report
    from gadkit.viz import Scale

    task = inspection.check(arguments)
    outputs.tell(*sources.remarks(arguments.images, arguments.normal), *task.run.remarks)
    detector = task.fit()
    outputs.tell(*words.before(task))
    root, heard = sources.common_root(arguments.images), True
    page = nullcontext()
    if arguments.out is not None:
        maps = None if task.normal is None else task.normal.maps
        page = closing(Report(maps, Scale(*detector.map_range)))
    with page as report:
        for row, path, image, heat in task.score(detector):
            if arguments.json and heard:
                heard = outputs.heard(row.json())
                if not heard and arguments.out is arguments.maps is None:
                    return 0  # the reader has seen enough, and nothing else was asked for
            if arguments.maps is not None:
                outputs.write_map(arguments.maps, path, root, heat.cpu().numpy())
            if report is not None:
                report.add(row.path, image, heat, row.score)
        if not task.rows:
            raise ValueError(f"IMAGES: none of the {len(task.files)} files could be read")
        if report is not None:
            outputs.write_csv(arguments.out / "scores.csv", task.rows)
            outputs.write_text(arguments.out / "report.html", report.pages(words.facts(task)))
        if not arguments.json:
            outputs.heard(*outputs.table(task.rows))
    outputs.tell(*words.after(task, arguments.out))
    return 1 if task.skipped else 0
