"""Training the tiny Mask2Former three times, once for each task.

Book: objects/universal
"""

from pathlib import Path

from gadkit.objects import universal
from gadkit.objects.segments import TASKS
from gadkit.objects.training.lessons import lessons
from gadkit.objects.training.mask_transformers import learn
from gadkit.objects.training.oneformer import SCENES, STEPS


def train(out: Path, seed: int = 0, steps: int | None = None, scenes: int = SCENES) -> Path:
    """Train, or go on, on so many scenes and write `out/mask2former.safetensors`; return the path.

    The three trainings share `steps` evenly, by default those of OneFormer's one.
    """
    held, each = lessons(scenes, seed, folder=out), -(-(STEPS if steps is None else steps) // len(TASKS))
    networks = {task: learn("mask2former", held, out / task, seed, each, (task,)) for task in TASKS}
    universal.save(networks, "mask2former", path := out / "mask2former.safetensors")
    return path
