"""AnomalyCLIP's prompts, learnt on seen categories of the factory.

The numbers of learnt tokens are in proportion to the text tower, of which the published one has 12 blocks and prompts
12 tokens long.

Book: anomaly/anomalyclip
"""

import time
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from gadkit import runtime, weights, zoo
from gadkit.anomaly.detectors import DETECTORS
from gadkit.anomaly.detectors.anomalyclip import AnomalyCLIP, learnt_text, untrained
from gadkit.anomaly.training.two_way import Answer, Lessons, lessons, logits_of, teach
from gadkit.backbones import OpenCLIP
from gadkit.checks import checked, describe, whole

STEPS, PAIRS, BATCH, LR = 300, 600, 16, 1e-3  # 1,200 steps were worse on the development categories
SIZES = {"context": 12, "rows": 8, "tokens": 4}  # of the published prompts, for a text tower of 12 blocks


def sizes(clip: OpenCLIP) -> dict[str, int]:
    """How many tokens a text tower of this depth gets: the published ones for 12 blocks, a third of them for 4."""
    blocks = len(clip.text.transformer.resblocks)
    return {name: max(1, round(count * blocks / 12)) for name, count in SIZES.items()}


def detector_of(clip: OpenCLIP, heads: Mapping[str, Tensor]) -> AnomalyCLIP:
    """The detector as it is built by default, with heads."""
    return AnomalyCLIP(clip, heads, **DETECTORS["anomalyclip"].parameters)


@checked
def encoded(clip: OpenCLIP, pairs: int = PAIRS, seed: int = 0) -> Lessons:
    """What is learnt from, as the detector encodes it."""
    detector = detector_of(clip, untrained(clip, **sizes(clip)))
    return lessons(lambda images: detector.encode(images.to(clip.device)).features, pairs, seed)


@checked
def learn(
    clip: OpenCLIP, steps: int = STEPS, pairs: int = PAIRS, seed: int = 0, held: Lessons | None = None
) -> dict[str, Tensor]:
    """Heads for a CLIP, trained on images that `encoded` gave, or on that many pairs encoded now."""
    heads = {name: value.to(clip.device) for name, value in untrained(clip, **sizes(clip), seed=seed).items()}
    detector = detector_of(clip, heads)

    def answer(heads: Mapping[str, Tensor], features: Mapping[str, Tensor]) -> Answer:
        text = learnt_text(clip, heads)
        maps = logits_of(features["patches"], text, detector.temperature).softmax(-1)[..., 1]  # (b, l, n)
        layers = maps.unflatten(2, clip.grid).unbind(1)
        return logits_of(features["vectors"], text, detector.temperature), layers

    return teach(heads, answer, held or encoded(clip, pairs, seed), steps, BATCH, LR, seed)


def train(out: Path, seed: int = 0, steps: int | None = None, backbone: str = "clip") -> Path:
    """Train the prompts for a CLIP of the zoo and write `out/anomalyclip.safetensors`; the path.

    Raises ValueError for a backbone that is no CLIP.
    """
    count, start = STEPS if steps is None else whole("steps", steps, 0), time.monotonic()
    clip = zoo.load(backbone, device=str(runtime.device()))
    if not isinstance(clip, OpenCLIP):
        raise ValueError(f"backbone: expected a CLIP, got {describe(clip)}")
    heads = learn(clip, count, PAIRS, seed)
    facts = {"backbone": backbone, "seed": seed, "steps": count, "pairs": PAIRS}
    facts |= {"seconds": round(time.monotonic() - start)}
    return weights.write_heads(heads, "anomalyclip", out, facts)
