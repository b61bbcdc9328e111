"""Photographs to write, and what comes back."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Run = Callable[..., tuple[int, str, str]]


def photograph(path: Path, height: int = 40, width: int = 56, spot: int = 0, mode: str = "RGB", seed: int = 0) -> Path:
    """Write a picture of soft waves with some noise, and a black square of `spot` pixels as its defect."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    noise = np.random.default_rng(seed).uniform(0, 12, (height, width, 3))
    pixels = 130 + 60 * np.sin(9 * x + 4 * y)[..., None] * [1, 0.8, 0.6] + noise  # (h, w, 3)
    pixels[height // 3 : height // 3 + spot, width // 2 : width // 2 + spot] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode).save(path)
    return path


def written(path: Path) -> np.ndarray:
    """A saved map."""
    return np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
