"""CLIP and SigLIP from pairs: what they learn from, the library's losses, resuming, a GPU, and what is written."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss
from pretend_cuda import CUDA, pretend_cuda

from gadkit import runtime, weights
from gadkit.backbones import tiny
from gadkit.backbones.openclip import OpenCLIP
from gadkit.backbones.tiny import TinyConfig, build_tiny_clip
from gadkit.cli.train import _train
from gadkit.factory import scenes
from gadkit.multimodal import training
from gadkit.multimodal.captioned import Captioned, beside, captioned, distinct, named, relations
from gadkit.multimodal.training import clip_pairs, pairs, siglip
from gadkit.zoo import row

SMALL = TinyConfig(image_size=32, width=32, layers=1, text_width=32, text_layers=1, embed=16)
EYED = replace(tiny.REAL, image_size=32, width=32, layers=1, text_width=32, text_layers=1, embed=16)
PLAN = replace(pairs.PLAN, steps=3, batch=8, warmup=1, save_every=2)
RECIPE = pairs.Recipe("sigmoid", {"seen": 8, "randomised": 4}, 6, 4, SMALL, PLAN)


@pytest.fixture(scope="module")
def shown() -> Captioned:
    """A few small photographs and scenes."""
    return captioned({"development": 8}, 12, wordings=3, size=32)


@pytest.fixture
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bfloat16, which would hide small differences, and which a pretended GPU can't be asked about."""
    monkeypatch.setattr(runtime, "has_bf16", lambda where: False)


def thing(noun: str, colour: str, left: float, top: float, category: str = "gear") -> scenes.Thing:
    box = (float(left), float(top), left + 10.0, top + 10.0)
    return scenes.Thing(category, noun, colour, box, 1.0, "", (), ())


GEAR, BOLT = thing("gear", "red", 0, 40), thing("bolt", "blue", 60, 44, "screw")


def test_pairs_are_the_same_again_and_all_of_one_length(shown: Captioned) -> None:
    again = captioned({"development": 8}, 12, wordings=3, size=32)
    assert torch.equal(shown.images, again.images)
    assert shown.captions == again.captions
    assert len(shown) == len(shown.captions) > 8, "no scene was of use"
    assert {len(some) for some in shown.captions} == {3}
    assert all(" and " in text or any(f" {w} " in text for w, *_ in relations_of()) for text in shown.captions[-1])


def relations_of() -> tuple[tuple[str, int, int], ...]:
    from gadkit.multimodal.captioned import RELATIONS

    return RELATIONS


def test_what_is_said_of_two_parts_is_true() -> None:
    assert relations(GEAR, BOLT, 96) == ["left of"]
    assert relations(BOLT, GEAR, 96) == ["right of"]
    assert relations(GEAR, thing("bolt", "blue", 4, 0), 96) == ["below"]
    assert named(GEAR) == "a red gear"
    assert named(GEAR, "orange") == "an orange gear"
    said = {beside([GEAR, BOLT], random.Random(i), 96).removeprefix("a photo of ") for i in range(60)}
    either = {"a red gear and a blue bolt", "a blue bolt and a red gear"}
    assert said == either | {"a red gear left of a blue bolt", "a blue bolt right of a red gear"}


def test_scenes_are_of_use_where_names_and_colours_differ() -> None:
    assert distinct([GEAR, BOLT])
    assert not distinct([GEAR])
    assert not distinct([GEAR, thing("bolt", "red", 60, 44, "screw")])
    assert not distinct([GEAR, thing("bolt", "", 60, 44, "screw")])
    assert not distinct([GEAR, thing("cog wheel", "blue", 60, 44)])


@pytest.mark.parametrize("config", [SMALL, EYED])
def test_vectors_are_those_of_the_frozen_backbone(config: TinyConfig, shown: Captioned) -> None:
    torch.manual_seed(0)
    method = pairs.Pairs(build_tiny_clip(config), "softmax").eval()
    pairs.standardise(method.clip, shown)
    data = pairs.prepare(method.clip, shown, 5)
    frozen = OpenCLIP(method.clip, tiny.tokenizer())
    with torch.no_grad():
        images, texts = method.encode_maps(data.maps), method.encode_tokens(data.tokens[:, 1])
    expected = frozen.encode_image(frozen.preprocess(shown.images)).pooled
    assert torch.allclose(images, expected, atol=2e-2 * float(expected.abs().max()))  # maps are kept in half precision
    assert torch.allclose(texts, frozen.encode_text([some[1] for some in shown.captions]), atol=1e-5)


@pytest.mark.parametrize("loss", pairs.LOSSES)
@pytest.mark.usefixtures("_exact")
def test_a_step_is_that_of_open_clips_loss(loss: str, shown: Captioned) -> None:
    """In value and in the gradient of every parameter."""
    torch.manual_seed(0)
    clip = build_tiny_clip(SMALL)
    method = pairs.Pairs(clip, loss).eval()
    with torch.no_grad():
        clip.logit_scale.add_(0.3)
    data = pairs.prepare(clip, shown)
    tokens = data.tokens[:, 0]
    value = method(data.maps, tokens)
    value.backward()
    ours = {name: p.grad.clone() for name, p in clip.named_parameters() if p.grad is not None}
    clip.zero_grad()
    images = clip.encode_image(data.maps.float(), normalize=True)
    texts = clip.encode_text(F.pad(tokens, (0, SMALL.context - tokens.shape[1])), normalize=True)
    scale = clip.logit_scale.exp()
    theirs = (
        ClipLoss()(images, texts, scale) if loss == "softmax" else SigLipLoss()(images, texts, scale, clip.logit_bias)
    )
    theirs.backward()
    assert value.item() == pytest.approx(theirs.item(), rel=1e-5)
    found = {name: p.grad for name, p in clip.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert found.keys() <= ours.keys()
    assert ("logit_bias" in ours) == (loss == "sigmoid")
    for name, gradient in found.items():
        assert torch.allclose(ours[name], gradient, atol=1e-5, rtol=1e-3), name


def test_losses_begin_as_published() -> None:
    for loss, (scale, bias) in {"softmax": (1 / 0.07, 0.0), "sigmoid": (10.0, -10.0)}.items():
        clip = pairs.Pairs(build_tiny_clip(SMALL), loss).clip
        assert clip.logit_scale.exp().item() == pytest.approx(scale)
        assert clip.logit_bias.item() == bias
    with pytest.raises(ValueError, match="loss: expected one of softmax, sigmoid, got 'hinge'"):
        pairs.Pairs(build_tiny_clip(SMALL), "hinge")


def test_training_writes_a_clip_that_loads_and_a_killed_run_goes_on(tmp_path: Path) -> None:
    path = siglip.train(tmp_path / "whole", recipe=RECIPE)
    assert path.name == "siglip.safetensors"
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert {"scale", "bias", "image_to_text", "text_to_image", "loss"} <= log[-1].keys()
    source = weights.Weights("gadkit", "siglip", "MIT", 0.1, "siglip.md", "the factory", "tiny-clip")
    model = tiny.load(source, torch.device("cpu"), path)
    assert model.encode_text(["a red gear"]).shape == (1, 16)
    assert model.model.logit_bias.item() == pytest.approx(-10, abs=0.1)
    cut = replace(RECIPE, plan=replace(PLAN, steps=3))
    checks = []

    class Cut(Exception):
        pass

    real = pairs.objective

    def dies(*given):
        loss = real(*given)

        def step(number: int) -> torch.Tensor:
            checks.append(number)
            if number == 2 and checks.count(2) == 1:
                raise Cut
            return loss(number)

        return step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "objective", dies)
        with pytest.raises(Cut):
            siglip.train(tmp_path / "cut", recipe=cut)
        again = siglip.train(tmp_path / "cut", recipe=cut)
    assert checks == [0, 1, 2, 2]
    whole, resumed = weights.read(path), weights.read(again)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_the_command_reaches_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"clip-pairs", "siglip"} <= {*training.names()}
    reached = []
    monkeypatch.setattr(
        pairs, "train", lambda name, recipe, *rest: reached.append((name, recipe.loss, *rest)) or tmp_path
    )
    for name in ("clip-pairs", "siglip"):
        _train(row(name), tmp_path, 3, {"steps": 2})
    assert reached == [("clip-pairs", "softmax", tmp_path, 3, 2), ("siglip", "sigmoid", tmp_path, 3, 2)]
    assert replace(siglip.RECIPE, loss="softmax") == clip_pairs.RECIPE  # nothing else differs


@pytest.mark.usefixtures("_exact")
def test_a_step_on_a_gpu_is_that_on_a_cpu(shown: Captioned) -> None:
    torch.manual_seed(0)
    clip = build_tiny_clip(SMALL)
    here = pairs.objective(pairs.Pairs(clip, "sigmoid").eval(), pairs.prepare(clip, shown), 4, 0)(1).item()
    with pretend_cuda():
        clip.to("cuda")
        data = pairs.prepare(clip, shown)
        method = pairs.Pairs(clip, "sigmoid").eval()
        assert (data.maps.device, data.tokens.device) == (CUDA, CUDA)
        there = pairs.objective(method, data, 4, 0)(1)
        assert there.device == CUDA
        assert {*pairs.glance(method, data)} == {"scale", "bias", "image_to_text", "text_to_image"}
        assert math.isclose(there.item(), here, rel_tol=1e-4)


@pytest.mark.usefixtures("untyped")
def test_bad_orders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="counts: expected photographs of at least one split"):
        captioned({})
    with pytest.raises(ValueError, match="wordings: expected a whole number from 1"):
        captioned({"seen": 2}, wordings=0)
    with pytest.raises(ValueError, match=r"model: expected one of .*siglip.*, got 'clip'"):
        training.train("clip", tmp_path)
