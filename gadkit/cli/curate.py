"""`gadkit curate`: fewer photographs that show more: near-duplicates out, and every kind of thing alike.

Book: selfsup/curation
"""

import argparse
from pathlib import Path

from gadkit.cli import parents

DESCRIPTION = """Choose a small, balanced collection out of a large, lopsided one, without labels.

A representation encodes every image.  Images that are nearly the same are taken for one, and the one with most pixels
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
occur twice stay apart.  With --null any file name arrives as it is:
  gadkit curate photos/ --keep 500 --null
  mkdir -p copies && tar --null -chf - -T curated/kept.txt | tar -xf - -C copies

Look at contact.png before you trust it: the clusters cannot balance kinds that the backbone cannot distinguish.

An interrupt (Ctrl-C) before the choice leaves curation.unfinished.csv: what was read until then, and what could not be.
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `curate`."""
    command = parents.command(
        commands,
        "curate",
        "choose a balanced collection of photographs without near-duplicates",
        DESCRIPTION,
        EXAMPLES + parents.FILES,
        parents.images("FOLDER", "folders with all that is below them, and files"),
        parents.bits(),
        parents.model(),
        parents.seed(),
        parents.out("default: curated; images in it don't count", Path("curated")),
    )
    command.add_argument("--keep", type=int, metavar="N", help="how many images stay (default: a quarter)")
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
        help="the representation: clip, or what `gadkit train` lists (default: simclr)",
    )
    command.add_argument("--null", action="store_true", help="a NUL byte, not a line break, ends each path in kept.txt")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check the question, answer it, and write down what came out; the exit code as `gadkit.cli` states it."""
    from gadkit.cli import collection, sources, streams  # imported late: --help need not wait for torch
    from gadkit.cli.outputs import attempt
    from gadkit.files import claimed

    task = collection.planned(arguments)
    with claimed(task.out, "--out"):
        streams.remark(*sources.remarks(arguments.images, layouts=False), *task.before())
        try:
            found = task.curate()
        except KeyboardInterrupt:
            task.write_unfinished()
            raise
        task.write(found)
    with attempt(task.failed):
        streams.results(*task.table(found))
    streams.remark(*task.summary(found))
    return 1 if task.skipped or task.failed else 0
