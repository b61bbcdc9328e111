"""`gadkit train NAME`: the recipes of the shipped models, each a command.

Book: intro/run-it
"""

import argparse
import logging
import os
import sys
import textwrap
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from gadkit import zoo
from gadkit.cli import parents, streams

EXAMPLES = """examples:
  gadkit train clip --out clip/                 resumes where an earlier run in clip/ was killed
  gadkit train clip --steps 200 --out trial/
  gadkit train simclr --photographs 8192        a short run of a self-supervised method
  accelerate launch -m gadkit train dino        on several GPUs or machines; every process takes its share of a batch
"""
NAMES = tuple(row.name for row in zoo.ROWS if row.trains)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `train`."""
    names = textwrap.fill(", ".join(NAMES), 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    train = parents.command(
        commands,
        "train",
        "train a model that the package ships, from scratch",
        f"Train a model from scratch in the factory; a killed run resumes.\n\nnames:\n{names}",
        EXAMPLES,
        parents.seed("of weights and data"),
        parents.out("default: the name"),
    )
    train.add_argument("name", choices=NAMES, metavar="NAME", help="the model, one of the names above")
    length = train.add_mutually_exclusive_group()
    length.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="optimiser steps of a CLIP, of heads, of an object model or of a reader (default: the recipe's)",
    )
    length.add_argument(
        "--photographs",
        type=int,
        metavar="N",
        help="photographs to train any other method on (default: 49,152, a short run; shipped weights saw 400,000)",
    )
    train.add_argument("--backbone", metavar="NAME", help="the frozen eyes of a detector's part (default: its own)")
    train.add_argument(
        "--data", type=Path, metavar="DIR", help="render the photographs into DIR, once for all methods that name it"
    )
    train.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train, or go on training; 0 when the last step is done."""
    from gadkit.checks import whole  # imported late: --help need not wait for torch
    from gadkit.files import claimed

    row = zoo.row(arguments.name)
    if (arguments.steps if zoo.METHOD in row.gives else arguments.photographs) is not None:
        counted = [other for other in NAMES if zoo.METHOD not in zoo.row(other).gives]
        raise ValueError(f"--steps belongs to {', '.join(counted)}, and --photographs to every other method")
    given = {name: value for name in ("steps", "photographs") if (value := getattr(arguments, name)) is not None}
    for name, value in given.items():
        whole(f"--{name}", value)
    if arguments.backbone is not None:
        if zoo.HEADS not in row.gives:
            raise ValueError(f"--backbone: expected it with a detector's part, got it with {row.name}")
        zoo.check([arguments.backbone], what="--backbone")
        given["backbone"] = arguments.backbone
    if arguments.data is not None:
        if zoo.METHOD not in row.gives:
            raise ValueError(f"--data: expected it with a method of Parts I and II, got it with {row.name}")
        given["data"] = arguments.data
    out = arguments.out or Path(row.name)
    _keep_foreign(out, row.name)
    _log()
    first = os.environ.get("RANK", "0") == "0"  # of several processes, the one that writes
    with claimed(out, "--out") if first else nullcontext():
        path = _train(row, out, arguments.seed, given)
    streams.results(str(path))
    return 0


def _train(row: zoo.Row, out: Path, seed: int, given: dict[str, Any]) -> Path:
    """Train by the recipe; the path of the weights."""
    if zoo.METHOD in row.gives:
        from gadkit import methods

        return methods.train(row.name, out, seed=seed, **given)
    if zoo.HEADS in row.gives:
        from gadkit.anomaly import training

        return training.train(row.name, out, seed=seed, **given)
    if row.gives[0] in zoo.OBJECTS:
        from gadkit.objects import training as objects

        return objects.train(row.name, out, seed=seed, **given)
    from gadkit.multimodal import contrastive, training

    if row.name in training.names():
        return training.train(row.name, out, seed=seed, **given)
    return contrastive.train(replace(contrastive.RECIPES[row.name], **given, seed=seed, out=out))


def _keep_foreign(out: Path, name: str) -> None:
    """Refuse a folder that holds weights of the name but not the run that made them: they may be the only copy."""
    if (weights := out / f"{name}.safetensors").exists() and not (out / "checkpoint.pt").exists():
        raise ValueError(f"--out: expected a folder for a new run or that of an earlier one, got one with {weights}")


def _log() -> None:
    """Let the steps be read where no bar on a terminal shows them."""
    if not sys.stderr.isatty():
        steps = logging.getLogger("gadkit")
        steps.setLevel(logging.INFO)
        steps.handlers = [logging.StreamHandler()]
        steps.handlers[0].setFormatter(logging.Formatter("gadkit: %(message)s"))
