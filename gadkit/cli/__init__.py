"""The `gadkit` command.

Standard output carries results only; progress, remarks and errors go to standard error.  `CODES` states the exit codes.
`COMMANDS` lists the commands: each is the module of its name in this folder, with `add_parser(commands)`.

Book: intro/run-it
"""

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

import gadkit
from gadkit.cli import streams

COMMANDS = (
    "detect",
    "fit",
    "export",
    "prompts",
    "curate",
    "search",
    "train",
    "data",
    "evaluate",
    "benchmark",
    "kernel",
)
OK, SKIPPED, USAGE, CRASHED, FAILED, INTERRUPTED = 0, 1, 2, 70, 74, 130
CODES = """exit codes:
    0  all went well, whether or not a defect was found
    1  done, but some files could not be read or written; each is named on standard error
    2  nothing was done: the question was wrong, or what it needs is not there
   70  a mistake in the program; GADKIT_DEBUG=1 shows where
   74  the system stopped it: the disk is full, no permission, ...
  130  interrupted; what was found so far is kept where the command says so
"""
EXAMPLES = f"""examples:
  gadkit detect parts/ --object "metal nut"                    which parts look defective, without any example
  gadkit detect parts/ --object "metal nut" --normal good/     the same with good parts to compare with, and a threshold
  gadkit fit --normal good/ --object bolt --out bolt.gad       keep a detector: gadkit detect new/ --fitted bolt.gad
  gadkit export bolt.gad --out inspector.html                  the same detector as one page that needs no Python
  gadkit prompts --object bolt --defect "bent thread"          what is known of a part, for gadkit detect --prompts
  gadkit curate photos/ --keep 500                             a balanced choice, without near-duplicates
  gadkit search photos/ "a pet animal"                         the photographs that a text describes
  gadkit search photos/ --like one.jpg --index vectors/        those that look like another; encoded once
  gadkit data export factory/ --split held-out                 procedural parts with defects, in MVTec AD's layout
  gadkit train clip --out clip/                                the recipe of the CLIP that the package ships
  gadkit evaluate simclr random                                what representations are worth, by one protocol
  gadkit kernel install --device cuda                          a Jupyter kernel that computes there

{CODES}
`gadkit detect --help` has more.  The book has the rest: what a score means, and when to trust it.
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        "gadkit",
        description="Find what does not belong in photographs of parts.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"gadkit {gadkit.__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"gadkit.cli.{name}").add_parser(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; `argv` is `sys.argv[1:]` unless given."""
    with streams.standard():
        try:
            code = _run(argv)
            streams.flush()
            return code
        except BrokenPipeError:  # `gadkit ... | head`: the reader has seen enough
            streams.silence(sys.stdout)
            return OK
        except (Exception, KeyboardInterrupt) as error:
            if os.environ.get("GADKIT_DEBUG"):
                traceback.print_exc()
            return _failed(error)


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = parser().parse_args(argv)
        return arguments.run(arguments)
    except SystemExit as stop:  # argparse has already explained it; 0 after --help and --version
        return int(stop.code or 0)


def _failed(error: Exception | KeyboardInterrupt) -> int:
    """Write on one line what stopped the command, and return the exit code that belongs to it."""
    if isinstance(error, KeyboardInterrupt):
        streams.remark("interrupted")
        return INTERRUPTED
    with suppress(OSError):  # what stopped the command is on its way
        streams.flush()
    try:
        from gadkit.files import explain  # imported when something went wrong: --help need not wait for torch
        from gadkit.weights import WeightsUnavailable
    except ImportError:  # the installation itself is broken
        explain, WeightsUnavailable = str, ValueError
    if isinstance(error, ValueError | WeightsUnavailable):
        streams.remark(f"error: {error}")
        return USAGE
    if isinstance(error, OSError):
        streams.remark(f"error: {explain(error)}")
        return FAILED
    first = (str(error).strip().splitlines() or ["no message"])[0]
    streams.remark(f"internal error: {type(error).__name__}: {first} (GADKIT_DEBUG=1 shows where)")
    return CRASHED
