"""Does BLIP need the clip's eyes?  Two equal short trainings, one from scratch, both measured on development.

`python -m experiments.blip_eyes` writes `book/results/blip_eyes.json` row by row; a training that was cut short goes on
from its checkpoint, and a row that is there is not measured again.

Book: multimodal/blip
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cards.readers import once, rows_of
from gadkit import runtime, zoo
from gadkit.files import provenance, write_json
from gadkit.multimodal import blip
from gadkit.multimodal.training import blip as recipe

OUT, RUNS = Path("book/results/blip_eyes.json"), Path("runs/blip-eyes")
EYES = {"real eyes": "clip", "from scratch": ""}  # what the image tower begins as
STEPS, BATCH, PHOTOGRAPHS, MEASURED = 600, 16, 1024, 300


def main(argv: Sequence[str] | None = None) -> int:
    """Train and measure the rows that are not there yet; 0 when all are."""
    parser = argparse.ArgumentParser("experiments.blip_eyes", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help=f"default: {OUT}")
    parser.add_argument("--runs", type=Path, default=RUNS, help=f"for checkpoints and weights (default: {RUNS})")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each training (default: {STEPS})")
    parser.add_argument("--photographs", type=int, default=PHOTOGRAPHS, help=f"seen (default: {PHOTOGRAPHS})")
    parser.add_argument("--measured", type=int, default=MEASURED, help=f"of development (default: {MEASURED})")
    given = parser.parse_args(argv)
    held = json.loads(given.out.read_text(encoding="utf-8"))["rows"] if given.out.exists() else []
    budget = {"steps": given.steps, "batch": BATCH, "trained on": given.photographs}
    done = [row["who"] for row in held if budget.items() <= row.items() and row["photographs"] == given.measured]
    for who, start in EYES.items():
        if who in done:
            continue
        folder, counts = given.runs / (start or "scratch"), {"seen": given.photographs}
        file = recipe.train(folder, 0, given.steps, start, counts, BATCH)
        reader = once(blip.load(zoo.find("blip", "tiny"), runtime.device(), file))
        (row,) = rows_of("blip", who, reader, "development", given.measured)
        held.append(row | budget)
        given.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(given.out, provenance(runtime.device()) | {"rows": held})
        sys.stderr.write(f"{who}: {row['values']}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
