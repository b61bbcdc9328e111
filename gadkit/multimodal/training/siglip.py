"""Training SigLIP from scratch: CLIP's pairs and towers, and the sigmoid loss.

Source: Zhai et al., ICCV 2023.
Book: multimodal/contrastive
"""

from pathlib import Path

from gadkit.multimodal.training import pairs

RECIPE = pairs.Recipe("sigmoid")


def train(out: Path, seed: int = 0, steps: int | None = None, recipe: pairs.Recipe = RECIPE) -> Path:
    """Train, or go on, and write `out/siglip.safetensors`; returns the path."""
    return pairs.train("siglip", recipe, out, seed, steps)
