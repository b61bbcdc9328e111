"""The tiny CLIP with real eyes: frozen stages stand in for the patch embedding, and everything else is open_clip's."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from torch import Tensor, nn

from gadkit import zoo
from gadkit.anomaly.detectors import WinCLIP
from gadkit.backbones.openclip import OpenCLIP, embed
from gadkit.backbones.tiny import EYES, REAL, Eyes, RealStem, TinyConfig, build_tiny_clip, save, tokenizer

SMALL = TinyConfig(
    image_size=64,
    patch_size=16,
    width=32,
    layers=1,
    head_width=16,
    text_width=32,
    text_layers=1,
    embed=16,
    stem=EYES[0],
)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return build_tiny_clip(SMALL)


@torch.no_grad()
def test_the_eyes_are_the_stages_of_the_shipped_network() -> None:
    x, network = torch.rand(2, 3, 64, 64) * 2 - 1, zoo.load(EYES[0], "tiny", device="cpu").model
    maps = network.forward_intermediates(x, indices=[2, 3, 4], intermediates_only=True)
    found = Eyes(EYES[0])(x)
    assert [m.shape for m in found] == [(2, 40, 8, 8), (2, 112, 4, 4), (2, 320, 2, 2)]
    for ours, theirs in zip(found, maps, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)  # of values up to 40
    random = Eyes(EYES[1])
    torch.manual_seed(0)
    assert torch.equal(random.start[0].weight, timm.create_model("tf_efficientnet_lite0").conv_stem.weight)


@torch.no_grad()
def test_the_stem_joins_three_strides_on_one_grid(model: nn.Module) -> None:
    stem, x = model.visual.conv1, torch.rand(2, 3, 64, 64)
    fine, middle, coarse = stem.eyes(x)
    joined = stem.join(x)
    assert joined.shape == (2, 4 * 40 + 112 + 320, 4, 4)
    torch.testing.assert_close(torch.pixel_shuffle(joined[:, :160], 2), fine)
    torch.testing.assert_close(joined[:, 160:272], middle)
    torch.testing.assert_close(joined[:, 272:, 0, 0], coarse[:, :, 0, 0])
    assert not any(module.training for module in stem.eyes.modules()), "from the beginning"
    stem.standardise(x)
    z = (stem.join(x) - stem.mean) / stem.std
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(592), atol=1e-4, rtol=0)
    lively = stem.std.flatten() > 0.1  # a channel that hardly moves is not blown up
    torch.testing.assert_close(z.std((0, 2, 3))[lively], torch.ones(int(lively.sum())), atol=0.1, rtol=0)


def test_training_leaves_the_eyes_as_they_are(model: nn.Module) -> None:
    model.train()
    eyes = model.visual.conv1.eyes
    assert not any(module.training for module in eyes.modules())
    before = {name: value.clone() for name, value in eyes.state_dict().items()}
    embed(model.visual, torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(torch.equal(value, eyes.state_dict()[name]) for name, value in before.items())
    assert not any(p.requires_grad or p.grad is not None for p in eyes.parameters())
    assert model.visual.conv1.project.weight.grad.abs().sum() > 0


def test_weights_are_saved_without_the_eyes_and_come_back(model: nn.Module, tmp_path: Path, images: Tensor) -> None:
    save(model, SMALL, tmp_path / "mine.safetensors")
    with safe_open(tmp_path / "mine.safetensors", "pt") as file:
        names = set(file.keys())
    assert not [name for name in names if ".eyes." in name]
    assert {"visual.conv1.mean", "visual.conv1.project.weight", "visual.class_embedding", "text_projection"} <= names
    back, ours = zoo.load("clip", "tiny", file=tmp_path / "mine.safetensors"), OpenCLIP(model, tokenizer())
    x = ours.preprocess(images)
    torch.testing.assert_close(back.encode_image(x).pooled, ours.encode_image(x).pooled, atol=5e-3, rtol=0)
    assert (back.image_size, back.grid, back.preprocess.mean) == (64, (4, 4), (0.45,) * 3)


def test_winclip_runs_on_it_unchanged(model: nn.Module, images: Tensor) -> None:
    detector = WinCLIP(OpenCLIP(model, tokenizer()), "metal nut").fit(images[:2])
    result = detector.score(images)
    assert result.maps.shape == (len(images), *images.shape[2:])
    assert result.scores.std() > 0
    assert isinstance(model.visual.conv1, RealStem)


def test_the_stem_and_the_patches_must_agree() -> None:
    for config in (TinyConfig(patch_size=16), TinyConfig(patch_size=8, stem=EYES[0])):
        stride = 24 - config.patch_size
        with pytest.raises(ValueError, match=f"patch_size: expected {stride}, the stride of the stem, got"):
            build_tiny_clip(config)
    with pytest.raises(ValueError, match="stem: expected one of convolutions, efficientnet-lite0, efficientnet-random"):
        build_tiny_clip(TinyConfig(stem="peephole"))
    assert (REAL.image_size, REAL.patch_size, REAL.stem) == (224, 16, "efficientnet-lite0")
