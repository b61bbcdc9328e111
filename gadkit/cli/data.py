"""`gadkit data export`: the procedural factory as a folder of images that any tool can read.

Book: intro/run-it
"""

import argparse
from pathlib import Path

from gadkit.cli import parents, streams

SPLITS = ("held-out", "development", "seen")

DESCRIPTION = """Write categories of the procedural factory in MVTec AD's folder layout: CATEGORY/train/good,
CATEGORY/test/DEFECT and CATEGORY/ground_truth/DEFECT/..._mask.png.  Same seed, same pixels.  An export that was
killed goes on where it was when the same command comes again; a folder takes no images of another request.
"""

EXAMPLES = """examples:
  gadkit data export factory/
  gadkit data export aligned/ --split development --regime fixture --seed 1
  gadkit data export few/ --category gear --category carpet --per-class 8 --size 240
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `data` and its one command, `export`."""
    data = commands.add_parser("data", help="write the procedural factory's images to a folder", allow_abbrev=False)
    export = parents.command(
        data.add_subparsers(title="commands", metavar="COMMAND", required=True),
        "export",
        "write categories in MVTec AD's folder layout",
        DESCRIPTION,
        EXAMPLES,
        parents.seed("of all images"),
    )
    export.add_argument("folder", type=Path, metavar="DIR", help="where to write")
    export.add_argument("--split", choices=SPLITS, default="held-out", help="default: held-out")
    export.add_argument(
        "--regime",
        choices=("loose", "fixture"),
        default="loose",
        help="free pose and light (the default), or a camera over a jig",
    )
    export.add_argument(
        "--per-class",
        type=int,
        default=20,
        metavar="M",
        help="good images to train on, as many to test, and a third of that of each defect (default: 20)",
    )
    export.add_argument("--size", type=int, default=240, metavar="S", help="pixels a side (default: 240)")
    export.add_argument(
        "--category", action="append", metavar="NAME", help="only this category, of any split; may be repeated"
    )
    export.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the images; 0 when all is written."""
    from gadkit import factory  # imported late: --help need not wait for torch
    from gadkit.checks import one_of

    known = {split: factory.split(split) for split in SPLITS}
    every = [name for split in SPLITS for name in known[split]]
    names = tuple(one_of("--category", name, every) for name in arguments.category or known[arguments.split])
    written = factory.export(
        arguments.folder, names, arguments.regime, arguments.seed, arguments.per_class, arguments.size
    )
    streams.remark(f"{written} images in {arguments.folder}: {', '.join(dict.fromkeys(names))}")
    return 0
