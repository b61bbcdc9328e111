"""`gadkit curate`: fewer photographs that show more: near-duplicates out, and every kind of thing alike.

Book: selfsup/curation
"""

import argparse
from pathlib import Path

from gadkit.cli.options import image_options

DESCRIPTION = """Choose a small, balanced collection out of a large, lopsided one, without labels.

A representation looks at every image.  Images that are nearly the same are taken for one, and the one with most pixels
stands for them; the others are put into clusters, these into larger ones (hierarchical k-means), and the images to keep
are drawn so that every cluster gives alike, as far as it goes.  Every image below FOLDER counts, in whatever layout;
only masks of defects do not, and are named.  Nothing in FOLDER is changed: DIR receives curation.csv (every image, what
became of it and why), kept.txt (what stays, one path a line) and contact.png (the clusters at a glance).
"""

EXAMPLES = """examples:
  gadkit curate photos/ --keep 500
  gadkit curate photos/ --keep 500 --clusters 200 20 --backbone dinov2 --out chosen
  gadkit curate photos/ --keep 1000 --duplicates 0.995 --choice closest

Paths in kept.txt are as FOLDER was given, so copy from where the command ran; folders are kept, so that names which
occur twice stay apart:
  mkdir -p copies && tar -chf - -T curated/kept.txt | tar -xf - -C copies

Look at contact.png before you trust it: what the backbone cannot tell apart, the clusters cannot balance.

Exit code: 0 when all files were read; 1 when some were skipped, each named on standard error; 2 when nothing could be
done; 130 when interrupted.  Pictures of another kind (HEIC, GIF, camera raw, SVG, PDF, ...) are no such files: they are
counted on standard error, in one line, and left out.
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `curate`."""
    command = commands.add_parser(
        "curate",
        help="choose a balanced collection of photographs without near-duplicates",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        parents=[image_options()],
    )
    command.add_argument(
        "images",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="folders with all that is below them, and files: PNG, JPEG, BMP, TIFF, WebP",
    )
    command.add_argument("--keep", type=int, metavar="N", help="how many images stay (default: a quarter)")
    command.add_argument(
        "--out", type=Path, default=Path("curated"), metavar="DIR", help="default: curated; images in it don't count"
    )
    command.add_argument(
        "--clusters",
        type=int,
        nargs="+",
        metavar="K",
        help="numbers of clusters, finest first (default: a quarter of the images, a quarter of that, ... down to 100)",
    )
    command.add_argument(
        "--duplicates",
        type=float,
        metavar="COSINE",
        help="images at least so alike count as one; 1 for copies only (default: as alike as an image and itself, "
        "taken again with a shift of a few pixels and another light; where that would chain most images together, as "
        "on parts in one fixture, only as alike as an image saved again)",
    )
    command.add_argument(
        "--choice",
        choices=("random", "closest", "furthest"),
        default="random",
        help="within a cluster: drawn by lot, the typical or the odd ones (default: random)",
    )
    command.add_argument(
        "--backbone",
        default="simclr",
        metavar="NAME",
        help="the representation that looks: clip, or what `gadkit train` lists (default: simclr)",
    )
    command.add_argument("--preset", metavar="NAME", help="tiny or paper; default: GADKIT_PRESET, else tiny")
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, mps; default: GADKIT_DEVICE, else the best")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of everything that is drawn by lot")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check what was asked, do it, and say what came out; the exit code as `gadkit.cli` states it."""
    from gadkit.cli import collection, outputs, sources  # imported late: --help need not wait for torch

    task = collection.check(arguments)
    outputs.tell(*sources.remarks(arguments.images, layouts=False), *task.before())
    found = task.curate()
    task.write(found)
    outputs.say(*task.table(found))
    outputs.tell(*task.summary(found))
    return 1 if task.skipped else 0
