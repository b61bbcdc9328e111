"""Measured speed: `python -m benchmarks [NAME ...]` runs what is asked for, or everything, and prints one table.

Each module of this package has `rows()`, which yields (what, value, unit) as it measures.  Whatever is compared runs in
the same process on the same input, so the ratios hold on any machine even though the seconds do not.

Book: anomaly/measuring
"""

import time
from collections.abc import Callable, Mapping

Timing = tuple[str, float, str]


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
