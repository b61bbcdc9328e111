"""`gadkit evaluate NAME...`: what representations are worth, all by one protocol, in a table and a results file.

Book: intro/run-it
"""

import argparse
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from gadkit import zoo

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
    evaluate = commands.add_parser(
        "evaluate",
        help="measure representations by one protocol",
        description=DESCRIPTION + names(),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_options(evaluate)
    evaluate.set_defaults(run=run)


def names() -> str:
    """The networks that can be measured, for a help page."""
    known = ", ".join(zoo.list(gives=zoo.IMAGE))
    return "names:\n" + textwrap.fill(
        known, 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """The arguments of a command that measures representations."""
    parser.add_argument("names", nargs="+", metavar="NAME", help="a network of the zoo, or more")
    parser.add_argument("--out", type=Path, metavar="FILE", help="results file to merge into (default: none)")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, metavar="N", help="default: 0 1 2")
    parser.add_argument("--preset", choices=zoo.PRESETS, help="default: GADKIT_PRESET, else tiny")


def run(arguments: argparse.Namespace) -> int:
    """Measure; 0 when all names are done."""
    from gadkit.evaluation import evaluate, results

    given = arguments.seeds, arguments.preset, arguments.out
    results.run(arguments.names, "representation", evaluate, *given)
    return 0


def main(protocol: str, evaluate: Callable, argv: Sequence[str] | None = None) -> int:
    """The same command for another protocol, as a script; `argv` is `sys.argv[1:]` unless given."""
    from gadkit.evaluation import results
    from gadkit.weights import WeightsUnavailable

    parser = argparse.ArgumentParser(description=f"Run the {protocol} protocol on frozen representations.")
    add_options(parser)
    given = parser.parse_args(argv)
    try:
        results.run(given.names, protocol, evaluate, given.seeds, given.preset, given.out)
    except (ValueError, OSError, WeightsUnavailable) as error:
        parser.error(str(error))
    return 0
