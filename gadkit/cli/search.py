"""`gadkit search`: the photographs of a folder that a text describes.

Book: multimodal/words
"""

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from gadkit.cli import parents

if TYPE_CHECKING:  # --help does not wait for torch
    from gadkit.cli.finding import Finding

COUNT = 10
DESCRIPTION = """Find the photographs in a folder that come nearest to a text, without training and without a network.

A classifier says of every photograph how likely each of ImageNet's 1,000 classes is.  The vectors of the ten likeliest
names, weighted by their probabilities, are the photograph's place in the space of a sentence encoder (ConSE), where the
query has a place, too.  Every image below FOLDER counts, in whatever layout; only masks of defects do not, and are
named.  Nothing in FOLDER is changed.  The sentence encoder is an extra: pip install "gadkit[words]".
"""

EXAMPLES = """examples:
  gadkit search photos/ "a pet animal"
  gadkit search photos/ "a drink for breakfast" "architecture" --count 20 --out found
  gadkit search photos/ "a cat" --json | jq -r .path

It finds animals and everyday things, what they are used for and what they belong to.  It cannot count, knows no "left
of", sees no colour or defect that makes no other thing of an object, and takes whatever is no ImageNet class (people,
printed text, cells) for one.  A similarity is a cosine: it compares photographs for one query, not queries with one
another, and the best one is found even where none fits.

With --out, DIR receives search.csv and sheet.html, a page with the photographs that opens without a network.
An interrupt (Ctrl-C) leaves the best until then: the table, and search.unfinished.csv in the folder of --out.
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `search`."""
    command = parents.command(
        commands,
        "search",
        "find the photographs that a text describes",
        DESCRIPTION,
        EXAMPLES + parents.FILES,
        parents.bits(),
        parents.model(),
        parents.out("write sheet.html and search.csv there"),
    )
    command.add_argument(
        "folder", type=Path, metavar="FOLDER", help=f"a folder with all that is below it, or a file: {parents.KINDS}"
    )
    command.add_argument("queries", nargs="+", metavar="QUERY", help='what to look for, as in "a cup of coffee"')
    command.add_argument(
        "--count", type=int, default=COUNT, metavar="K", help=f"photographs a query (default: {COUNT})"
    )
    command.add_argument("--json", action="store_true", help="one JSON object a photograph, in place of the table")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check the question, answer it, and write down what came out; the exit code as `gadkit.cli` states it."""
    from gadkit.cli import finding, sources, streams  # imported late: --help need not wait for torch
    from gadkit.files import claimed

    task = finding.planned(arguments)
    with nullcontext() if task.out is None else claimed(task.out, "--out"):
        streams.remark(*sources.remarks([arguments.folder], layouts=False), *task.run.remarks)
        try:
            task.encode()
        except KeyboardInterrupt:
            _keep(task)
            raise
        _deliver(task)
    streams.remark(*task.summary())
    return 1 if task.skipped or task.failed else 0


def _deliver(task: "Finding") -> None:
    """Write all that was asked for.  An output that fails is named."""
    from gadkit.cli import finding, streams
    from gadkit.cli.outputs import attempt

    hits = task.hits()
    if task.out is not None:
        with attempt(task.failed):
            task.write_rows(finding.TABLE, hits)
            (task.out / finding.UNFINISHED).unlink(missing_ok=True)
        with attempt(task.failed):
            task.write_sheet(hits)
    with attempt(task.failed):
        streams.results(*(map(finding.Hit.json, hits) if task.json else task.table(hits)))


def _keep(task: "Finding") -> None:
    """Deliver the best so far of a run that was interrupted, beside the results of an earlier one."""
    from gadkit.cli import finding, streams
    from gadkit.cli.outputs import attempt

    hits = task.hits() if task.read else []
    if hits and not task.json:
        with attempt(task.failed):
            streams.results(*task.table(hits))
    if task.out is not None:
        with attempt(task.failed):
            task.write_rows(finding.UNFINISHED, hits)
            streams.remark(f"the best until now: {task.out / finding.UNFINISHED}")
