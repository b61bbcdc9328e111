"""Measured speed: `python -m benchmarks [NAME ...]` runs what is asked for, or everything, and prints one table.

Each module of this package has `rows()`, which yields (what, value, unit) as it measures.  Whatever is compared runs in
the same process on the same input, so the ratios hold on any machine even though the seconds do not.

Book: anomaly/measuring
"""

import importlib
import pkgutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence

Row = tuple[str, float, str]


def names() -> list[str]:
    """The benchmarks there are: every module of this package but `__main__`."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def best(
    contestants: Mapping[str, Callable[[], object]], rounds: int = 3, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Fewest seconds of each contestant, which take turns so that a busy moment of the machine hits all alike.

    A round before the first warms up.  `time.process_time` as the clock leaves out what other programs take, but sees
    neither worker processes nor a GPU.  Raises ValueError for less than one round.
    """
    if rounds < 1:
        raise ValueError(f"rounds: expected at least 1, got {rounds}")
    from torch import cuda

    seconds = dict.fromkeys(contestants, float("inf"))
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            start = clock()
            run()
            if cuda.is_available():
                cuda.synchronize()  # its work is over when it says so
            took = clock() - start
            seconds[name] = min(seconds[name], took) if turn else seconds[name]
    return seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Run the named benchmarks, or all.  Returns 0; 1 when one failed (the others still run); 2 for a wrong name."""
    asked = list(sys.argv[1:] if argv is None else argv)
    if unknown := [name for name in asked if name not in names()]:
        print(f"benchmarks: expected names among {', '.join(names())}, got {', '.join(unknown)}", file=sys.stderr)
        return 2
    table, failed = [], False
    for name in asked or names():
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        try:
            for row in importlib.import_module(f"benchmarks.{name}").rows():
                table.append((name, *row))
        except Exception as error:  # whatever it was, the other figures are still wanted
            traceback.print_exc()
            table.append((name, "failed", float("nan"), f"{type(error).__name__}: {error}"))
            failed = True
    print(format_table(table))
    return int(failed)


def format_table(table: Sequence[tuple[str, str, float, str]]) -> str:
    """Benchmark, what, value and unit in aligned columns, a row a line; NaN, a value not to be had, is a dash."""
    cells = [(name, what, "-" if value != value else f"{value:,.4g}", unit) for name, what, value, unit in table]
    widths = [max((len(cell[column]) for cell in cells), default=0) for column in range(3)]
    return "\n".join(
        f"{name:<{widths[0]}}  {what:<{widths[1]}}  {value:>{widths[2]}}  {unit}".rstrip()
        for name, what, value, unit in cells
    )
