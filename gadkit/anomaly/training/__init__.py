"""The trained parts of detectors: what each learns from the factory's seen categories, one module a detector.

    >>> from gadkit.anomaly import training
    >>> training.train("inctrl", "runs/inctrl")  # doctest: +SKIP

A module is called as its detector, `-` as `_`, and has a function `train` with the arguments of the one here.

Book: anomaly/measuring
"""

import importlib
from pathlib import Path

from gadkit import files
from gadkit.anomaly.detectors import DETECTORS
from gadkit.checks import one_of


def train(name: str, out: Path | str, seed: int = 0, steps: int | None = None, backbone: str | None = None) -> Path:
    """Train the part of a detector that learns before it is used, or go on, and write `out/NAME.safetensors`.

    `steps` are by default those of its recipe, and `backbone` is the name of the eyes, by default the detector's own.
    Returns the path.  Raises ValueError for a detector that has no such part, or a folder that can't be written to.
    """
    one_of("detector", name, [known for known, row in DETECTORS.items() if row.heads])
    files.writable(Path(out), "out")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    return module.train(Path(out), seed=seed, steps=steps, backbone=backbone or DETECTORS[name].backbone)
