"""The protocol from end to end: every evaluator, every seed, and learnt weights ahead of random ones."""

from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from gadkit import zoo
from gadkit.backbones import OpenCLIP
from gadkit.evaluation import EVALUATORS, Sizes, evaluate
from gadkit.protocols import Tokens
from gadkit.weights import ASSETS

FEW = Sizes(48, (2, 1), (1, 1), (16, 8), (16, 8))


class Counting:
    """A backbone that counts the images it encodes."""

    def __init__(self, backbone: OpenCLIP) -> None:
        self.backbone, self.count = backbone, 0
        for name in ("image_size", "patch_size", "embed_dim", "grid", "depth", "strides", "patch_layers", "device"):
            setattr(self, name, getattr(backbone, name))

    def preprocess(self, images: Tensor) -> Tensor:
        return self.backbone.preprocess(images)

    def encode_image(self, images: Tensor, layers: Sequence[int] = (-1,)) -> Tokens:
        self.count += len(images)
        return self.backbone.encode_image(images, layers)


def test_every_evaluator_speaks_once_a_seed(small: OpenCLIP) -> None:
    backbone = Counting(small)
    state = torch.get_rng_state()
    values = list(evaluate(backbone, (0, 1), sizes=FEW))
    assert torch.equal(state, torch.get_rng_state()), "nothing global is touched"
    counts = Counter(name for name, _ in values)
    assert set(counts.values()) == {2}
    assert {name.split("/")[0] for name in counts} == set(EVALUATORS)
    expected = {"parts/knn", "parts/labels/1%", "blocks/0/knn", "blocks/1/linear", "health/effective_rank"}
    expected |= {
        "segmentation/miou",
        "detection/ap50",
        "actions/linear",
        "actions/still",
        "digits/linear",
        "photographs/knn",
        "faces/linear",
    }
    assert expected <= set(counts)
    shares = [v for name, v in values if name.split("/")[0] != "health"]
    assert all(0 <= v <= 1 for v in shares)
    once = backbone.count
    assert len(list(evaluate(backbone, (0,), ("parts", "blocks", "health"), sizes=FEW))) > 0
    assert backbone.count - once == 27 * 2 * (2 + 1), "three evaluators, one look"


def test_the_same_seeds_give_the_same_values(small: OpenCLIP) -> None:
    first, again = (list(evaluate(small, (1,), ("faces",), sizes=FEW)) for _ in range(2))
    assert first == again
    assert len({v for name, v in evaluate(small, (0, 1, 2), ("photographs",), sizes=FEW) if name.endswith("knn")}) > 1


def test_learnt_weights_find_defects_that_random_ones_do_not() -> None:
    scratch = ASSETS / "clip-scratch.safetensors"
    found = [
        dict(evaluate(zoo.load(name, file=scratch), (0,), ("segmentation",), Sizes(defects=(3, 1))))[
            "segmentation/iou/defect"
        ]
        for name in ("clip-scratch", "clip-random")  # the same build, untrained
    ]
    assert found[0] > found[1] + 0.1


def test_unknown_names_are_named(small: OpenCLIP) -> None:
    with pytest.raises(ValueError, match="got colours, taste"):
        next(evaluate(small, (0,), ("parts", "taste", "colours")))
    with pytest.raises(ValueError, match="at least one, got none"):
        next(evaluate(small, ()))
