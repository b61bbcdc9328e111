"""Captions a second of the models that read: a batch of photographs at once, against one by one.

Book: multimodal/blip
"""

import time
from collections.abc import Callable, Iterator, Mapping

import torch

from benchmarks import Timing, best
from gadkit import zoo
from gadkit.factory import descriptions
from gadkit.multimodal.protocols import Reader

NAMES = ("blip", "blip2", "florence2")


def rows(
    make: Mapping[str, Callable[[], Reader]] | None = None,
    count: int = 16,
    rounds: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Timing]:
    """Captions a second of each reader both ways, their ratio, and the share of captions that both ways agree in."""
    images = descriptions.render(count, purpose="development").images
    for name, reader in (make or {name: lambda name=name: zoo.load(name, "tiny") for name in NAMES}).items():
        model = reader()
        sides = {
            "at once": lambda model=model: model.caption(images),
            "one by one": lambda model=model: [text for image in images.split(1) for text in model.caption(image)],
        }
        seconds = best(sides, rounds, clock)
        for side, took in seconds.items():
            setting = f"captions/s, {count} photographs, {model.device}, {torch.get_num_threads()} threads"
            yield f"{name}, {side}", count / took, setting
        yield f"{name}, at once / one by one", seconds["one by one"] / seconds["at once"], "times as fast"
        same = [one == two for one, two in zip(*(run() for run in sides.values()), strict=True)]
        yield f"{name}, same captions", sum(same) / count, "of 1"
