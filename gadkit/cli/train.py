"""`gadkit train clip`: the recipe of the shipped CLIP, as a command.

Book: intro/run-it
"""

import argparse
from pathlib import Path

EXAMPLES = """examples:
  gadkit train clip --out clip/                 resumes where an earlier run in clip/ was killed
  gadkit train clip --steps 200 --out trial/
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `train` and its one command, `clip`."""
    train = commands.add_parser("train", help="train a model that the package ships, from scratch")
    clip = train.add_subparsers(title="commands", metavar="COMMAND", required=True).add_parser(
        "clip",
        help="train the tiny CLIP on the factory's seen categories",
        description="Train the tiny CLIP from scratch on the factory's seen categories; a killed run resumes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    clip.add_argument("--steps", type=int, metavar="N", help="optimiser steps (default: the recipe's)")
    clip.add_argument("--seed", type=int, default=0, metavar="N")
    clip.add_argument("--out", type=Path, default=Path("tiny-clip"), metavar="DIR", help="default: tiny-clip")
    clip.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train, or go on training; 0 when the last step is done."""
    from gadkit.multimodal import contrastive

    given = {name: value for name in ("steps", "seed", "out") if (value := getattr(arguments, name)) is not None}
    contrastive.train(contrastive.Config(**given))
    return 0
