"""Training CLIP from scratch: pairs of photographs and captions, and the softmax loss.

Source: Radford et al., ICML 2021.
Book: multimodal/contrastive
"""

from pathlib import Path

from gadkit.multimodal.training import pairs

RECIPE = pairs.Recipe("softmax")


def train(out: Path, seed: int = 0, steps: int | None = None, recipe: pairs.Recipe = RECIPE) -> Path:
    """Train, or go on, and write `out/clip-pairs.safetensors`; returns the path."""
    return pairs.train("clip-pairs", recipe, out, seed, steps)
