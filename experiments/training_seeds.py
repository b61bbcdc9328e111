"""How much another training seed changes: neighbours and a linear probe of trainings that differ in nothing else.

    python -m experiments.train_all simclr dino --seeds 0 1 2 --photographs 400000 --out runs
    python -m experiments.training_seeds runs --out book/results/training_seeds.json

A training's seed draws its weights, its photographs and its views.  All are asked what the comparison asks of the
shipped ones (`gadkit.evaluation.protocol.parts`), with the same test products, so that what differs between rows of a
method is the training alone.  Trainings of the shipped seed are left out: the comparison has their row.

Book: selfsup/comparison
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gadkit import weights, zoo
from gadkit.evaluation.protocol import evaluate
from gadkit.evaluation.results import Measured, measure, merge, read
from gadkit.files import writable

ABOUT = "k-NN and linear probe of trainings that differ in their seed; values by seed of the test products"
SEEDS = (0, 1, 2)  # of test products


def key(row: Measured) -> tuple[str, int]:
    """A row is a training: a method and its seed."""
    return row["method"], row["training_seed"]


def trainings(folder: Path) -> dict[tuple[str, int], Path]:
    """The finished trainings below a folder that differ from the shipped one of their method, by method and seed.

    Raises ValueError where there is none, or where two say that they are the same.
    """
    found: dict[tuple[str, int], Path] = {}
    for name in zoo.list(gives=zoo.METHOD):
        for path in sorted(folder.glob(f"*/{name}.safetensors")):
            again = found.setdefault((name, int(weights.facts(path)["seed"])), path)
            if again != path:
                raise ValueError(f"runs: expected trainings of other seeds, got the same in {again} and {path}")
        found.pop((name, int(zoo.facts(name)["seed"])), None)
    if not found:
        raise ValueError(f"runs: expected trainings of other seeds in {folder}, NAME/NAME.safetensors, got none")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing in the file; 0 when all is there."""
    parser = argparse.ArgumentParser(description="Measure trainings that differ in their seed.")
    parser.add_argument("runs", type=Path, metavar="DIR", help="what `experiments.train_all` was given as --out")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to merge into")
    given = parser.parse_args(argv)
    try:
        writable(given.out.parent, "--out")
        todo, done = trainings(given.runs), {key(row) for row in read(given.out)}
    except ValueError as error:
        parser.error(str(error))
    for (name, seed), path in todo.items():
        if (name, seed) in done:
            continue
        eyes = zoo.load(name, "tiny", file=path)
        row = measure(name, "parts", lambda eyes, seeds: evaluate(eyes, seeds, ("parts",)), eyes, SEEDS, "tiny")
        facts = weights.facts(path)
        made = {f"training_{what}": facts[what] for what in ("seed", "photographs", "device", "seconds")}
        merge(given.out, [row | made], key, ABOUT)
        sys.stderr.write(f"{name}, seed {seed}: {row['seconds']:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
