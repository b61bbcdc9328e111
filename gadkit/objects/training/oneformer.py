"""Training the tiny OneFormer once, for three tasks.

Book: objects/universal
"""

from pathlib import Path

from gadkit.objects import universal
from gadkit.objects.training.lessons import lessons
from gadkit.objects.training.mask_transformers import learn

STEPS, SCENES = 3600, 8192


def train(out: Path, seed: int = 0, steps: int | None = None, scenes: int = SCENES) -> Path:
    """Train, or go on, on so many scenes and write `out/oneformer.safetensors`; return the path."""
    held = lessons(scenes, seed, folder=out)
    network = learn("oneformer", held, out, seed, STEPS if steps is None else steps)
    universal.save({"one": network}, "oneformer", path := out / "oneformer.safetensors")
    return path
