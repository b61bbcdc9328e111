"""`python -m benchmarks` prints the table of measured speeds.

Book: anomaly/measuring
"""

import importlib
import pkgutil
import sys
import traceback
from collections.abc import Sequence

import benchmarks


def names() -> list[str]:
    """The benchmarks there are: every module of this package but `__main__`."""
    return sorted(
        module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("_")
    )


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


if __name__ == "__main__":
    sys.exit(main())
