"""The other networks of detectors as they are before training, for the smallest CLIP of the tests."""

from typing import Any

import tiny_objects
import torch

from gadkit.anomaly.detectors import DETECTORS, residual_heads
from gadkit.anomaly.detectors.made_up import Network


def blank(name: str) -> dict[str, Any]:
    """What `build` needs for a detector of that name beside the CLIP of 5 x 5 patches and vectors of 128 numbers.

    Its text tower is 128 wide and has one block, and its patches are 32 wide.
    """
    if DETECTORS[name].objects:
        return {"finder": tiny_objects.finder(), "segmenter": tiny_objects.segmenter()}
    draw = torch.Generator().manual_seed(0)

    def made_up() -> dict[str, torch.Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(2)
            return Network([32], 25).state_dict()

    heads = {
        "made-up": made_up,
        "inctrl": lambda: residual_heads.untrained(25, 128),
        "anomalyclip": lambda: {side: torch.randn(4, 128, generator=draw) for side in ("normal", "anomalous")},
        "uniadet": lambda: {part: torch.randn(2, 32, generator=draw) for part in ("patch.0", "image.0")},
    }
    return {"heads": heads[name]()} if name in heads else {}
