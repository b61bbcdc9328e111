"""Training the models of pictures and words, one module a model: readers, and the CLIPs that learn from pairs.

    >>> from gadkit.multimodal import training
    >>> training.train("blip", "runs/blip")  # doctest: +SKIP

A module is called as its model, `-` as `_`, and has a function `train` with the arguments of the one here.  The CLIPs
that WinCLIP stands on have a recipe of their own, in `gadkit.multimodal.contrastive`.

Book: multimodal/words
"""

import importlib
from pathlib import Path

from gadkit import files, zoo
from gadkit.checks import one_of

PAIRS = ("clip-pairs", "siglip")  # text and image encoders that are trained here


def names() -> tuple[str, ...]:
    """The models that are trained here."""
    return tuple(r.name for r in zoo.ROWS if r.trains and (r.gives[0] == zoo.READER or r.name in PAIRS))


def train(name: str, out: Path | str, seed: int = 0, steps: int | None = None) -> Path:
    """Train a model, or go on, and write `out/NAME.safetensors`; `steps` are by default those of its recipe.

    Returns the path.  Raises ValueError for a model that is not trained here, or a folder that can't be written to.
    """
    one_of("model", name, names())
    files.writable(Path(out), "out")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    return module.train(Path(out), seed=seed, steps=steps)
