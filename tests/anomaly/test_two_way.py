"""The losses of AnomalyCLIP against its authors' formulas written out, and what training does with them."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gadkit import zoo
from gadkit.anomaly.detectors import DETECTORS
from gadkit.anomaly.detectors.anomalyclip import AnomalyCLIP, learnt_text
from gadkit.anomaly.detectors.uniadet import UniADet
from gadkit.anomaly.training import anomalyclip, uniadet
from gadkit.anomaly.training.two_way import Lessons, dice, focal, glocal, lessons, logits_of, teach
from gadkit.backbones import OpenCLIP


@pytest.fixture(scope="module")
def clip(tiny_clip: Callable) -> OpenCLIP:
    return tiny_clip(image_size=64, width=64, layers=2, text_layers=2)


def test_focal_is_the_sum_over_pixels(generator: torch.Generator) -> None:
    wrong, masks = torch.rand(2, 3, 4, generator=generator), torch.rand(2, 3, 4, generator=generator) > 0.5
    total = 0.0
    for p, m in zip(wrong.flatten().tolist(), masks.flatten().tolist(), strict=True):
        one_hot = [1e-5, 1 - 1e-5] if m else [1 - 1e-5, 1e-5]
        true = one_hot[0] * (1 - p) + one_hot[1] * p + 1e-5
        total -= (1 - true) ** 2 * math.log(true)
    assert focal(wrong, masks).item() == pytest.approx(total / 24, rel=1e-5)
    assert focal(masks.float(), masks).item() == pytest.approx(0, abs=1e-6)


def test_dice_is_the_mean_over_images(generator: torch.Generator) -> None:
    found, truth = torch.rand(2, 3, 4, generator=generator), (torch.rand(2, 3, 4, generator=generator) > 0.5).float()
    by_hand = [1 - (2 * (f * t).sum() + 1) / (f.sum() + t.sum() + 1) for f, t in zip(found, truth, strict=True)]
    assert dice(found, truth).item() == pytest.approx(float(sum(by_hand)) / 2, rel=1e-5)
    assert dice(torch.zeros(1, 3, 4), torch.zeros(1, 3, 4)).item() == 0  # nothing to find, nothing found


def test_the_glocal_loss_adds_images_and_layers(generator: torch.Generator) -> None:
    logits, labels = torch.randn(2, 2, generator=generator), torch.tensor([False, True])
    maps = [torch.rand(2, 2, 3, generator=generator) for _ in range(2)]
    masks = torch.rand(2, 6, 6, generator=generator) > 0.5
    expected = -(logits[0].log_softmax(0)[0] + logits[1].log_softmax(0)[1]) / 2
    for grid in maps:
        wrong = F.interpolate(grid[:, None], (6, 6), mode="bilinear", align_corners=False)[:, 0]
        expected += 4 * (focal(wrong, masks) + dice(wrong, masks.float()) + dice(1 - wrong, 1 - masks.float()))
    assert glocal(logits, maps, labels, masks).item() == pytest.approx(expected.item(), rel=1e-5)


def test_lessons_are_pairs_of_products_that_no_clip_was_shown() -> None:
    held = lessons(lambda images: {"images": images}, pairs=12)
    images = held.features["images"]
    assert len(images) == len(held.labels) == len(held.masks)
    assert held.labels.sum() == (~held.labels).sum()
    assert torch.equal(held.masks.flatten(1).any(1), held.labels)
    again, other = (lessons(lambda images: {"images": images}, pairs=12, seed=s) for s in (0, 1))
    assert torch.equal(again.features["images"], images)
    assert not torch.equal(other.features["images"][:2], images[:2])


@pytest.mark.parametrize("module", [anomalyclip, uniadet], ids=["anomalyclip", "uniadet"])
def test_training_lowers_the_loss_and_repeats_itself(clip: OpenCLIP, module: object) -> None:
    """On the images that it was taught by; the seed decides on everything."""
    held = module.encoded(clip, 12)
    runs = ((0, 0), (20, 0), (20, 0), (20, 1))
    before, heads, again, other = (module.learn(clip, steps, seed=seed, held=held) for steps, seed in runs)
    assert all(torch.equal(heads[name], again[name]) for name in heads)
    assert not any(torch.equal(heads[name], other[name]) for name in heads)
    images = lessons(lambda images: {"images": images}, 12)

    def losses(heads: dict[str, Tensor]) -> float:
        kind = AnomalyCLIP if module is anomalyclip else UniADet
        options = {"sigma": 0.0} | ({} if module is anomalyclip else {"peak": 0.0})
        found = kind(clip, heads, **options).fit().score(images.features["images"])
        logits = torch.stack([1 - found.scores, found.scores], 1).log()
        return glocal(logits, [found.maps], images.labels, images.masks).item()

    assert losses(heads) < losses(before)


def test_gradients_reach_every_head_and_nothing_else(clip: OpenCLIP) -> None:
    heads = anomalyclip.untrained(clip, **anomalyclip.sizes(clip))
    assert {name: tuple(value.shape) for name, value in heads.items()} == {
        "normal": (2, 128),
        "anomalous": (2, 128),
        "deep": (1, 1, 128),
    }
    own = {name: value.requires_grad_() for name, value in heads.items()}
    gradients = torch.autograd.grad(
        learnt_text(clip, own).square().sum() + learnt_text(clip, own)[0, 0], [*own.values()]
    )
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    assert all(p.grad is None for p in clip.model.parameters())


@pytest.mark.parametrize("name", ["anomalyclip", "uniadet"])
def test_a_file_is_written_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    module = {"anomalyclip": anomalyclip, "uniadet": uniadet}[name]
    monkeypatch.setattr(module, "PAIRS", 12)
    path = module.train(tmp_path, steps=1, backbone=DETECTORS[name].backbone)
    assert path == tmp_path / f"{name}.safetensors"
    shapes = [{k: v.shape for k, v in zoo.load(name, gives=zoo.HEADS, file=f).items()} for f in (path, None)]
    assert shapes[0] == shapes[1]


def test_too_few_images_are_named() -> None:
    held = Lessons({"x": torch.zeros(3, 2)}, torch.zeros(3, dtype=torch.bool), torch.zeros(3, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="batch: expected a whole number from 1 to 3, got int 16"):
        teach({"w": torch.zeros(2, 2)}, lambda heads, features: (heads["w"], []), held, 1)


def test_a_loss_that_is_not_finite_ends_training() -> None:
    held = Lessons({"x": torch.full((3, 2), torch.nan)}, torch.zeros(3, dtype=torch.bool), torch.zeros(3, 4, 4) > 0)

    def answer(heads: dict[str, Tensor], features: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        return logits_of(features["x"], heads["w"], 0.07), []

    with pytest.raises(FloatingPointError, match="got nan at step 0"):
        teach({"w": torch.ones(2, 2)}, answer, held, 1, batch=3)


@pytest.mark.usefixtures("untyped")
def test_a_backbone_without_words_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="backbone: expected a CLIP, got Timm"):
        anomalyclip.train(tmp_path, steps=0, backbone="efficientnet-random")
