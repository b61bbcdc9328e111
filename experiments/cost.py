"""What an answer costs: milliseconds and megabytes of every detector, on the same photographs, in one run.

    python -m experiments.cost --out book/results/cost.json

The cells of `gadkit benchmark` are measured over hours, often beside other work, so their milliseconds cannot be
compared.  Here the detectors take turns, and the fewest milliseconds of a few turns count, after a turn that does not.
An idle machine is wanted; the file says which load the run found, and how many seconds it took of the processor.

Book: anomaly/benchmark
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gadkit import factory, runtime, zoo
from gadkit.anomaly.benchmark import BATCH
from gadkit.anomaly.cost import peak
from gadkit.anomaly.detectors import DETECTORS, build
from gadkit.checks import one_of, whole
from gadkit.files import provenance, writable, write_json
from gadkit.protocols import Detector, TestSet

ABOUT = "milliseconds and megabytes an image of every detector, all in one run"
SHOTS, CATEGORY = 4, "connector"
CONTROL = ("patch-knn", "efficientnet-random")


def entries(names: Sequence[str]) -> list[tuple[str, str, int]]:
    """Detector, backbone and shots of what is to be measured: each without good parts, with four, or on the batch."""
    found = []
    for name in names:
        row = DETECTORS[name]
        ways = ((0, row.zero_shot), (SHOTS, row.few_shot), (BATCH, row.batched))
        found += [(name, row.backbone, shots) for shots, can in ways if can]
    return found + [(*CONTROL, SHOTS)] * (CONTROL[0] in names)


def photographs(count: int, size: int) -> TestSet:
    """A product of the factory with that many photographs, sound and defective ones, spread over its test set."""
    data = factory.test_set(CATEGORY, normal=count, per_defect=1, references=SHOTS, size=size)
    some = torch.linspace(0, len(data.images) - 1, count).round().long()
    chosen = {"images": data.images[some], "masks": data.masks[some], "defects": tuple(data.defects[i] for i in some)}
    return replace(data, **chosen)


def fitted(name: str, backbone: str, shots: int, data: TestSet, device: torch.device) -> Detector:
    """A detector of the table, ready to score."""
    model = build(name, zoo.load(backbone, "tiny", str(device)), data.object_name)
    return model.fit(data.images if shots == BATCH else data.references[:shots] if shots else None)


def megabytes(model: Detector, image: Tensor) -> float:
    """What tensors take at the worst moment while an image is encoded and scored, in millions of bytes."""
    encoded, encoding = peak(lambda: model.encode(image))
    return max(encoding, peak(lambda: model.score(encoded))[1]) / 1e6


def fewest(runs: Mapping[tuple, Callable[[], object]], rounds: int, quiet: bool = False) -> dict[tuple, list[float]]:
    """The fewest seconds of each run, by the clock and of the processor; they take turns, and the first warms up."""
    found = {name: [float("inf")] * 2 for name in runs}
    for turn in runtime.progress(range(rounds + 1), "turns", quiet=quiet):
        for name, run in runs.items():
            began = time.perf_counter(), time.process_time()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # a GPU answers before it is done
            took = time.perf_counter() - began[0], time.process_time() - began[1]
            if turn:
                found[name] = [min(pair) for pair in zip(found[name], took, strict=True)]
    return found


def rows(names: Sequence[str], data: TestSet, rounds: int, device: torch.device) -> Iterator[dict[str, Any]]:
    """A row for each entry, after all have been measured."""
    images, models = data.images.to(device), {}
    for entry in entries(names):
        models[entry] = fitted(*entry, data, device)
    runs = {entry: lambda model=model: model.score(model.encode(images)) for entry, model in models.items()}
    spent = fewest(runs, rounds)
    space = {entry: megabytes(model, images[:1]) for entry, model in models.items()}  # later: first calls keep things
    for (name, backbone, shots), took in spent.items():
        clock, processor = (round(1000 * seconds / len(images), 3) for seconds in took)
        row = {"detector": name, "backbone": "pixels" if DETECTORS[name].pixels else backbone, "shots": shots}
        yield row | {"ms": clock, "cpu_ms": processor, "mb": round(space[name, backbone, shots], 3)}


def load() -> float | None:
    """How many programs wanted a processor in the last minute, on average; None where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all detectors in one run, and write the file."""
    parser = argparse.ArgumentParser(description=f"Measure {ABOUT}.")
    parser.add_argument("--detectors", nargs="+", default=[*DETECTORS], metavar="NAME", help="default: all")
    parser.add_argument("--images", type=int, default=8, metavar="N", help="photographs (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns that count (default: 3)")
    parser.add_argument("--size", type=int, default=96, metavar="PIXELS", help="default: 96")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to write")
    given = parser.parse_args(argv)
    try:
        names = [one_of("detector", name, DETECTORS) for name in dict.fromkeys(given.detectors)]
        for name, low in (("images", 2), ("rounds", 1), ("size", 32)):
            whole(name, getattr(given, name), low)
        writable(given.out.parent)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    found, device = load(), runtime.device(None)
    data = photographs(given.images, given.size)
    began = time.perf_counter(), time.process_time()
    measured = [*rows(names, data, given.rounds, device)]
    spent = {"seconds": time.perf_counter() - began[0], "cpu_seconds": time.process_time() - began[1]}
    about = {"images": len(data.images), "size": given.size, "rounds": given.rounds, "load": found}
    about |= {"cores": os.cpu_count(), **{k: round(v, 1) for k, v in spent.items()}, **provenance(device)}
    write_json(given.out, {"what": ABOUT, **about, "rows": measured})
    return 0


if __name__ == "__main__":
    sys.exit(main())
