"""The `gadkit` command: `detect`, `benchmark`, `curate`, `data export`, `train`, `evaluate`.

Standard output carries results only; progress, remarks and errors go to standard error.  Exit codes: 0, all went well
(whether or not a defect was found: that is a result, not a failure); 1, done, but some files could not be read; 2,
nothing was done, because the question was wrong; 130, interrupted.

Book: intro/run-it
"""

import argparse
import os
import sys
from collections.abc import Sequence

import gadkit
from gadkit.cli import benchmark, curate, data, detect, evaluate, train

OK, SKIPPED, USAGE, INTERRUPTED = 0, 1, 2, 130

EXAMPLES = """examples:
  gadkit detect parts/ --object "metal nut"                    which parts look defective, without any example
  gadkit detect parts/ --object "metal nut" --normal good/     the same with good parts to compare with, and a threshold
  gadkit curate photos/ --keep 500                             a balanced choice, without near-duplicates
  gadkit data export factory/ --split held-out                 procedural parts with defects, in MVTec AD's layout
  gadkit train clip --out clip/                                the recipe of the CLIP that the package ships
  gadkit evaluate simclr random                                what representations are worth, by one protocol

`gadkit detect --help` says more.  The book has the rest: what a score means, and when to trust it.
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
    for module in (detect, benchmark, curate, data, train, evaluate):
        module.add_parser(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; `argv` is `sys.argv[1:]` unless given."""
    for stream in (sys.stdout, sys.stderr):  # a file name may hold bytes that are no text in this terminal's encoding
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as stop:  # argparse has already said why; 0 after --help and --version
        return int(stop.code or 0)
    try:
        return arguments.run(arguments)
    except BrokenPipeError:  # `gadkit detect ... | head`: the reader has seen enough
        from gadkit.cli.outputs import silence

        silence()
        return OK
    except KeyboardInterrupt:
        print("\ngadkit: interrupted", file=sys.stderr)
        return INTERRUPTED
    except _foreseen() as error:
        if os.environ.get("GADKIT_DEBUG"):
            raise
        print(f"gadkit: error: {_sentence(error)}", file=sys.stderr)
        return USAGE


def _foreseen() -> tuple[type[Exception], ...]:
    """The errors that speak to the user; all others are mistakes in the program, and keep their traceback."""
    from gadkit.weights import WeightsUnavailable  # imported when something went wrong: --help need not wait for torch

    return ValueError, OSError, WeightsUnavailable


def _sentence(error: Exception) -> str:
    """What went wrong, on one line: the operating system's errors without their number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)
