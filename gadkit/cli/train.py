"""`gadkit train NAME`: the recipes of the shipped models, each a command.

Book: intro/run-it
"""

import argparse
import logging
import sys
import textwrap
from pathlib import Path

from gadkit import zoo

EXAMPLES = """examples:
  gadkit train clip --out clip/                 resumes where an earlier run in clip/ was killed
  gadkit train clip --steps 200 --out trial/
  gadkit train simclr --photographs 8192        a short look at a self-supervised method
  accelerate launch -m gadkit train dino        on several GPUs or machines; every process takes its share of a batch
"""
METHODS = zoo.list(gives=zoo.METHOD)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `train`."""
    names = textwrap.fill(
        ", ".join(["clip", *METHODS]), 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )
    train = commands.add_parser(
        "train",
        help="train a model that the package ships, from scratch",
        description=f"Train a model from scratch in the factory; a killed run resumes.\n\nnames:\n{names}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    train.add_argument("name", choices=["clip", *METHODS], metavar="NAME", help="the model, one of the names above")
    length = train.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, metavar="N", help="optimiser steps of the clip (default: the recipe's)")
    length.add_argument(
        "--photographs", type=int, metavar="N", help="that any other method sees (default: the recipe's)"
    )
    train.add_argument("--seed", type=int, default=0, metavar="N")
    train.add_argument("--out", type=Path, metavar="DIR", help="default: tiny-clip, or the method's name")
    train.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train, or go on training; 0 when the last step is done."""
    clip = arguments.name == "clip"
    if (arguments.photographs if clip else arguments.steps) is not None:
        raise ValueError("--steps belongs to the clip, and --photographs to every other method")
    if not sys.stderr.isatty():  # where no bar shows how it goes
        said = logging.getLogger("gadkit")
        said.setLevel(logging.INFO)
        said.handlers = [logging.StreamHandler()]
        said.handlers[0].setFormatter(logging.Formatter("gadkit: %(message)s"))
    out = arguments.out or Path("tiny-clip" if clip else arguments.name)
    given = {name: value for name in ("steps", "photographs") if (value := getattr(arguments, name)) is not None}
    if clip:
        from gadkit.multimodal import contrastive

        path = contrastive.train(contrastive.Config(**given, seed=arguments.seed, out=out))
    else:
        from gadkit import methods

        path = methods.train(arguments.name, out, seed=arguments.seed, **given)
    print(path)
    return 0
