"""The supervised baseline: its loss is a plain cross-entropy, it learns what labels say, and it is shipped whole."""

import math

import pytest
import torch
from torch import Tensor, nn

from gadkit.data.views import normalise, resize
from gadkit.factory import pool
from gadkit.nn.baselines import ARCHITECTURES
from gadkit.supervised import CLASSES, Supervised
from gadkit.train import Plan, learn


@pytest.fixture
def stripes() -> dict[str, Tensor]:
    """Images whose class is the direction of their stripes, whatever the colours: uint8, (32, 3, 80, 80)."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(32) % 2
    wave = (torch.arange(80)[None] / (3 + torch.rand(32, 1, generator=generator)) + labels[:, None]).sin()  # (32, 80)
    across = wave[:, None, :].expand(-1, 80, -1)
    tilted = torch.where(labels[:, None, None].bool(), across.mT, across)
    tint = torch.rand(32, 3, 1, 1, generator=generator)
    return {"images": (127 + 100 * tilted[:, None] * tint).to(torch.uint8), "labels": labels}


def test_it_knows_the_standard_pool() -> None:
    assert len(pool.unlabelled(1, size=32).classes) == CLASSES
    method = Supervised()
    assert method.collapse(32) == pytest.approx(math.log(CLASSES))
    assert method.needs == ("images", "labels")
    assert sum(p.numel() for p in method.parameters()) < 1.3e6


def test_the_loss_is_what_the_definition_says(stripes: dict[str, Tensor]) -> None:
    method = Supervised("convnext", classes=5, smoothing=0.2).eval()
    views = method.views(stripes)
    with torch.no_grad():
        belief = method(views[0]).log_softmax(1)
        target = torch.full((32, 5), 0.2 / 5)
        target[torch.arange(32), stripes["labels"]] += 0.8
        torch.testing.assert_close(method.loss(views), -(target * belief).sum(1).mean())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_network_that_tells_nothing_apart_loses_what_collapse_says(
    stripes: dict[str, Tensor], smoothing: float
) -> None:
    method = Supervised("swin", classes=7, smoothing=smoothing)
    nn.init.zeros_(method.head.weight)
    nn.init.zeros_(method.head.bias)
    assert method.loss(method.views(stripes)).item() == pytest.approx(method.collapse(32), rel=1e-6)


def test_views_are_normalised_crops_that_differ(stripes: dict[str, Tensor]) -> None:
    method = Supervised("vit", classes=2)
    (first, labels), (second, _) = method.views(stripes), method.views(stripes)
    assert first.shape == (32, 3, 64, 64)
    assert not torch.equal(first, second)
    assert torch.equal(labels, stripes["labels"])
    black, white = normalise(torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2))[0, 0, 0]
    assert black - 1e-5 <= first.min() < first.max() <= white + 1e-5


@pytest.mark.parametrize("architecture", ["convnext", "swin"])  # the transformer learns as well, but not as fast
def test_it_learns_what_the_labels_say(architecture: str, stripes: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    method = Supervised(architecture, classes=2)
    learn(method, stripes, Plan(steps=14, lr=method.lr, warmup=3, batch=32))
    method.eval()
    with torch.no_grad():
        right = method(normalise(resize(stripes["images"], 96))).argmax(1) == stripes["labels"]
    assert right.float().mean() > 0.9


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_part_learns(architecture: str, stripes: dict[str, Tensor]) -> None:
    method = Supervised(architecture, classes=2)
    views = method.views(stripes)
    before = method.loss(views)
    before.backward()
    assert [name for name, p in method.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []
    with torch.no_grad():
        for p in method.parameters():
            p -= 1e-3 * p.grad
    assert method.loss(views) < before


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": torch.zeros(32)}, "labels: expected 32 whole numbers, got Tensor of dtype float32"),
        ({"labels": torch.zeros(31, dtype=torch.long)}, r"expected 32 whole numbers, got .* shape \(31,\)"),
        ({"labels": torch.full((32,), 3)}, "labels: expected numbers from 0 to 2, got 3 to 3"),
        ({"labels": torch.full((32,), -1)}, "labels: expected numbers from 0 to 2, got -1 to -1"),
        ({"images": torch.zeros(32, 3, 80, 80)}, "images: expected dtype uint8"),
    ],
)
def test_bad_batches_are_named(stripes: dict[str, Tensor], change: dict[str, Tensor], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Supervised("convnext", classes=3).views(stripes | change)


@pytest.mark.usefixtures("untyped")
def test_what_is_no_labelled_batch_is_named(stripes: dict[str, Tensor]) -> None:
    method = Supervised("convnext", classes=3)
    with pytest.raises(ValueError, match=r"columns images, labels, got images$"):
        method.views({"images": stripes["images"]})
    with pytest.raises(ValueError, match="columns images, labels, got Tensor"):
        method.views(stripes["images"])


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="classes: expected at least 2, got 1"):
        Supervised(classes=1)
    with pytest.raises(ValueError, match=r"smoothing: expected a share in \[0, 1\), got 1"):
        Supervised(smoothing=1.0)
    with pytest.raises(ValueError, match="architecture: expected one of vit, convnext, swin, got 'mlp'"):
        Supervised("mlp")
