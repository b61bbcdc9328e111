"""The trained parts of detectors as they are before training, for the smallest CLIP of the tests."""

from typing import Any

from gadkit.anomaly.detectors import residual_heads


def blank(name: str) -> dict[str, Any]:
    """What `build` needs for a detector of that name beside the CLIP of 5 x 5 patches and vectors of 128 numbers."""
    return {"heads": residual_heads.untrained(25, 128)} if name == "inctrl" else {}
