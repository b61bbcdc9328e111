"""How many photographs a second, and how many scenes a minute, the factory makes.

Book: anomaly/measuring
"""

import time
from collections.abc import Iterator

import torch

from benchmarks import Timing
from gadkit import factory
from gadkit.factory import scenes


def rows() -> Iterator[Timing]:
    """Sound images and defective pairs of every category, at two sizes, with the fastest and slowest; and scenes."""
    for size, count in ((96, 32), (240, 8)):
        for defect, what in ((None, "sound images"), ("scratch", "defect and twin")):
            speeds = {name: _speed(name, size, count, defect) for name in factory.CATEGORIES}
            total = len(speeds) / sum(1 / speed for speed in speeds.values())
            slow, fast = min(speeds, key=speeds.get), max(speeds, key=speeds.get)
            unit = f"images/s, {torch.get_num_threads()} threads; {slow} {speeds[slow]:.0f}, {fast} {speeds[fast]:.0f}"
            yield f"{what}, {size} px", total, unit
    yield "scenes of 2 to 6 parts, 128 px", _scenes(), f"scenes/min, {torch.get_num_threads()} threads"


def _speed(name: str, size: int, count: int, defect: str | None) -> float:
    """Images a second of one category, the best of three batches of different products."""
    best = 0.0
    for attempt in range(4):  # the first warms up
        seeds = torch.arange(count) + attempt * count
        began = time.perf_counter()
        factory.render(name, seeds, seeds, defect, size=size)
        speed = count * (1 if defect is None else 2) / (time.perf_counter() - began)
        best = max(best, speed) if attempt else 0.0
    return best


def _scenes(count: int = 16) -> float:
    """Scenes a minute, the best of three batches."""
    best = 0.0
    for attempt in range(4):  # the first warms up
        began = time.perf_counter()
        scenes.render(count, seed=attempt)
        speed = 60 * count / (time.perf_counter() - began)
        best = max(best, speed) if attempt else 0.0
    return best
