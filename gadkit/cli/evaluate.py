"""`gadkit evaluate NAME...`: what representations are worth, all by one protocol, in a table and a results file.

Book: intro/run-it
"""

import argparse
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from gadkit import zoo
from gadkit.cli import parents

SEEDS = (0, 1, 2)
DESCRIPTION = """Run one protocol on frozen representations: neighbours, linear probes, segmentation, detection,
actions, real images.  A value is a mean over seeds, with its deviation.

"""
EXAMPLES = """examples:
  gadkit evaluate simclr random                         a table on standard output
  gadkit evaluate dino mae --out results.json           merged into a file, each name as soon as it is measured
  gadkit evaluate dino mae --preset paper               the published weights, where they are cached or can be fetched
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `evaluate`."""
    line = "measure representations by one protocol"
    evaluate = parents.command(commands, "evaluate", line, DESCRIPTION + names(), EXAMPLES, _options(), parents.model())
    evaluate.set_defaults(run=run)


def names() -> str:
    """The networks that can be measured, for a help page."""
    known = ", ".join(zoo.list(gives=zoo.IMAGE))
    return "names:\n" + textwrap.fill(
        known, 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
    )


def _options() -> argparse.ArgumentParser:
    """What a command that measures representations asks for, beside weights and device."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("names", nargs="+", metavar="NAME", help="a network of the zoo, or more")
    parser.add_argument("--out", type=Path, metavar="FILE", help="results file to merge into (default: none)")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, metavar="N", help="default: 0 1 2")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Measure; 0 when all names are done."""
    from gadkit.evaluation import evaluate, results

    results.run(arguments.names, "representation", evaluate, *_given(arguments))
    return 0


def _given(arguments: argparse.Namespace) -> tuple[Sequence[int], str | None, Path | None, str | None]:
    return arguments.seeds, arguments.preset, arguments.out, arguments.device


def main(protocol: str, evaluate: Callable, argv: Sequence[str] | None = None) -> int:
    """The same command for another protocol, as a script; `argv` is `sys.argv[1:]` unless given."""
    from gadkit.evaluation import results
    from gadkit.weights import WeightsUnavailable

    about = f"Run the {protocol} protocol on frozen representations."
    parser = argparse.ArgumentParser(description=about, parents=[_options(), parents.model()], allow_abbrev=False)
    given = parser.parse_args(argv)
    try:
        results.run(given.names, protocol, evaluate, *_given(given))
    except (ValueError, OSError, WeightsUnavailable) as error:
        parser.error(str(error))
    return 0
