"""UniADet's pairs of vectors, learnt on seen categories of the factory by AnomalyCLIP's losses.

Book: anomaly/language
"""

import time
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from gadkit import runtime, weights, zoo
from gadkit.anomaly.detectors import DETECTORS
from gadkit.anomaly.detectors.uniadet import UniADet, untrained
from gadkit.anomaly.training.two_way import Answer, Lessons, lessons, logits_of, teach
from gadkit.checks import checked, whole
from gadkit.protocols import Backbone

STEPS, PAIRS, BATCH, LR = 400, 600, 16, 1e-2


def detector_of(backbone: Backbone, heads: Mapping[str, Tensor]) -> UniADet:
    """The detector as it is built by default, with heads."""
    return UniADet(backbone, heads, **DETECTORS["uniadet"].parameters)


@checked
def encoded(backbone: Backbone, pairs: int = PAIRS, seed: int = 0) -> Lessons:
    """What is learnt from, as the detector encodes it."""
    detector = detector_of(backbone, untrained(backbone))
    return lessons(lambda images: detector.encode(images.to(backbone.device)).features, pairs, seed)


@checked
def learn(
    backbone: Backbone, steps: int = STEPS, pairs: int = PAIRS, seed: int = 0, held: Lessons | None = None
) -> dict[str, Tensor]:
    """Heads for any backbone, trained on images that `encoded` gave, or on that many pairs encoded now."""
    where = backbone.device
    heads = {name: value.to(where) for name, value in untrained(backbone, seed=seed).items()}
    detector = detector_of(backbone, heads)
    numbers = range(len(detector.layers))

    held = held or encoded(backbone, pairs, seed)

    def logits(heads: Mapping[str, Tensor], features: Mapping[str, Tensor], what: str) -> list[Tensor]:
        names = [f"{what}.{i}" for i in numbers]
        return [logits_of(features[name], heads[name], detector.temperature) for name in names]

    def images(heads: Mapping[str, Tensor], features: Mapping[str, Tensor] = held.features) -> Tensor:
        """The logarithm of a mean of probabilities, which is what the detector takes."""
        return (sum(x.softmax(-1) for x in logits(heads, features, "image")) / len(numbers)).log()

    def answer(heads: Mapping[str, Tensor], features: Mapping[str, Tensor]) -> Answer:
        maps = [x.softmax(-1)[..., 1].unflatten(1, backbone.grid) for x in logits(heads, features, "patch")]
        return images(heads, features), maps

    # 16 images are too few for the image's vectors: on the development categories they learnt next to nothing
    return teach(heads, answer, held, steps, BATCH, LR, seed, whole_set=images)


def train(out: Path, seed: int = 0, steps: int | None = None, backbone: str = "efficientnet-lite0") -> Path:
    """Train the pairs for a backbone of the zoo and write `out/uniadet.safetensors`; the path."""
    count, start = STEPS if steps is None else whole("steps", steps, 0), time.monotonic()
    heads = learn(zoo.load(backbone, device=str(runtime.device())), count, PAIRS, seed)
    facts = {"backbone": backbone, "seed": seed, "steps": count, "pairs": PAIRS}
    facts |= {"seconds": round(time.monotonic() - start)}
    return weights.write_heads(heads, "uniadet", out, facts)
