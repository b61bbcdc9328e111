"""What the size of a batch does to the softmax and to the sigmoid loss, for one number of pairs.

`python -m experiments.batch_size` trains small CLIPs and writes `book/results/batch_size.json` row by row; rows
that are there are not measured again.  One row more a loss has convolutions from scratch in place of the frozen eyes.

Book: multimodal/contrastive
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gadkit import runtime
from gadkit.backbones.tiny import TinyConfig
from gadkit.files import write_json
from gadkit.multimodal.captioned import captioned
from gadkit.multimodal.training import pairs

OUT = Path("book/results/batch_size.json")
BATCHES, LOSSES = (32, 128, 512), ("softmax", "sigmoid")
PAIRS = 32768  # seen in a training, whatever its batch
COUNTS, WATCHED = {"seen": 4096}, 256
SCRATCH = TinyConfig(layers=4)


def rows(batches: Sequence[int] = BATCHES) -> list[dict[str, str | int]]:
    """What is trained: every loss with every batch on the frozen eyes, and with the middle batch from scratch."""
    eyed = [{"loss": loss, "batch": batch, "eyes": "real"} for loss in LOSSES for batch in batches]
    middle = batches[len(batches) // 2]
    return eyed + [{"loss": loss, "batch": middle, "eyes": "scratch"} for loss in LOSSES]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the rows that are not there yet; 0 when all are."""
    parser = argparse.ArgumentParser("experiments.batch_size", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help=f"default: {OUT}")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"pairs of a training (default: {PAIRS})")
    parser.add_argument("--photographs", type=int, default=COUNTS["seen"], help="(default: 4096)")
    parser.add_argument("--side", type=int, default=pairs.EYED.image_size, help="of what the eyes see (default: 192)")
    parser.add_argument("--batches", type=int, nargs="+", default=[*BATCHES], help="(default: 32 128 512)")
    given = parser.parse_args(argv)
    held = json.loads(given.out.read_text(encoding="utf-8"))["rows"] if given.out.exists() else []
    known = [{key: row[key] for key in ("loss", "batch", "eyes", "pairs", "photographs", "side")} for row in held]
    shown = watched = None
    for row in rows(given.batches):
        scratch = row["eyes"] == "scratch"
        side = SCRATCH.image_size if scratch else given.side
        row |= {"pairs": given.pairs, "photographs": given.photographs, "side": side}
        if row in known:
            continue
        if shown is None:
            shown = captioned({"seen": given.photographs})
            watched = captioned({"development": min(WATCHED, given.photographs)}, wordings=1)
        steps = max(1, given.pairs // row["batch"])
        plan = replace(pairs.PLAN, steps=steps, warmup=steps // 10, batch=row["batch"], average=0.98)
        recipe = pairs.Recipe(row["loss"], plan=plan)
        recipe = replace(recipe, model=SCRATCH if scratch else replace(recipe.model, image_size=side))
        _, found = pairs.learn(recipe, shown, watched, what=str(row))
        held.append(row | {"steps": steps} | {k: round(v, 4) for k, v in found.items()})
        given.out.parent.mkdir(parents=True, exist_ok=True)
        head = {"computed": runtime.computed_on(), "chance": 1 / len(watched)}
        write_json(given.out, head | {"rows": held})
        sys.stderr.write(f"{held[-1]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
