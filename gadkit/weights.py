"""Every set of weights that the book names, in one table, and the rules for getting at them.

The preset decides which ones a chapter gets: `tiny` is shipped with the package, `paper` is what was published.

Book: intro/run-it
"""

import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

ASSETS = Path(__file__).parent / "assets"
PRESETS = ("tiny", "paper")


class WeightsUnavailable(RuntimeError):
    """Published weights were asked for that are neither cached nor reachable."""


@dataclass(frozen=True)
class Weights:
    """Where a set of weights comes from.  `size` is in megabytes, `card` an address or a file beside the weights."""

    library: str
    id: str
    licence: str
    size: float
    card: str


WEIGHTS: dict[tuple[str, str], Weights] = {
    ("clip", "tiny"): Weights("gadkit", "tiny-clip", "MIT", 5.1, "tiny-clip.md"),
    ("clip", "paper"): Weights(
        "open_clip",
        "ViT-B-16-plus-240/laion400m_e31",
        "MIT (open_clip)",
        833.0,
        "https://github.com/mlfoundations/open_clip",
    ),
}


def preset(name: str | None = None) -> str:
    """The preset in force: `name`, else `GADKIT_PRESET`, else "tiny".  Raises ValueError for an unknown one."""
    name = name or os.environ.get("GADKIT_PRESET") or "tiny"
    if name not in PRESETS:
        raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    return name


def lookup(model: str, name: str | None = None) -> Weights:
    """The weights that `model` has under a preset.  Raises ValueError for a model the table does not hold."""
    key = (model, preset(name))
    if key not in WEIGHTS:
        raise ValueError(f"weights: expected one of {sorted({m for m, _ in WEIGHTS})}, got {model!r}")
    return WEIGHTS[key]


def load_state(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file: the only format the project ships, because reading it runs no code."""
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(f"weights: no file {path.name} in {path.parent}")
    return load_file(path)


def unavailable(weights: Weights, missing: str) -> WeightsUnavailable:
    """The error for weights that cannot be had here: which file is missing, and the two ways to get on."""
    return WeightsUnavailable(
        f"the weights {weights.id} ({weights.size:.0f} MB, {weights.library}) are not cached here: {missing} is "
        "missing.  Either run once with a network, so that the library can download them, or use the shipped models "
        "with GADKIT_PRESET=tiny (on the command line: --preset tiny)."
    )
