"""Training the tiny OneFormer once, for three tasks.

Book: objects/universal
"""

from pathlib import Path

from gadkit.objects import eyes, universal
from gadkit.objects.training.lessons import lessons
from gadkit.objects.training.mask_transformers import BATCH, learn

STEPS, SCENES = 3600, 8192


def train(
    out: Path,
    seed: int = 0,
    steps: int | None = None,
    scenes: int = SCENES,
    sight: str = eyes.NAMES[0],
    batch: int = BATCH,
) -> Path:
    """Train, or go on, on so many scenes, `batch` a step, and write `out/oneformer.safetensors`; return the path.

    `sight` is one of `eyes.NAMES`.
    """
    held = lessons(scenes, seed, folder=out, sight=sight)
    network = learn("oneformer", held, out, seed, STEPS if steps is None else steps, sight=sight, size=batch)
    universal.save({"one": network}, "oneformer", path := out / "oneformer.safetensors", sight)
    return path
