"""The real eyes are the published network, under other names and in half precision, and their card is true."""

import hashlib
import io
import re
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor

from cards import efficientnet as card
from gadkit import zoo
from gadkit.protocols import Backbone
from gadkit.weights import ASSETS


def published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state of timm's, under the names that the PyTorch port gives: its blocks are numbered through."""
    firsts = [sum(card.BLOCKS[:stage]) for stage in range(len(card.BLOCKS))]
    names = {}
    for name in state:
        if match := re.fullmatch(r"blocks\.(\d)\.(\d)\.(\w+)\.(\w+)", name):
            stage, block = int(match[1]), int(match[2])
            (inner,) = [k for k, v in (card.INVERTED if stage else card.SEPARABLE).items() if v == match[3]]
            names[name] = f"_blocks.{firsts[stage] + block}.{inner}.{match[4]}"
        else:
            head, _, tail = name.partition(".")
            (outer,) = [k for k, v in card.OUTSIDE.items() if v == head]
            names[name] = f"{outer}.{tail}"
    return {names[name]: value for name, value in state.items()}


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("tf_efficientnet_lite0").eval()


def test_the_wheel_is_converted_whole(network: torch.nn.Module, tmp_path: Path) -> None:
    content, wheel = io.BytesIO(), tmp_path / "some.whl"
    torch.save(published(network.state_dict()), content)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(card.MEMBER, content.getvalue())
    found = card.converted(wheel, hashlib.sha256(content.getvalue()).hexdigest())
    assert found.keys() == network.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in network.state_dict().items())
    card.write(found, tmp_path / "eyes.safetensors")
    assert torch.equal(load_file(tmp_path / "eyes.safetensors")["classifier.bias"], found["classifier.bias"].half())
    with pytest.raises(ValueError, match=f"expected the checksum {card.SHA256}, got "):
        card.converted(wheel)


@torch.no_grad()
def test_the_backbone_gives_what_timms_network_gives(network: torch.nn.Module) -> None:
    eyes = zoo.load("efficientnet-lite0", "tiny", device="cpu")
    network.load_state_dict(load_file(ASSETS / "efficientnet-lite0.safetensors"))  # strict: every tensor is there
    pixels = torch.rand(2, 3, 224, 224) * 2 - 1
    tokens = eyes.encode_image(pixels, range(5))
    x = network.bn1(network.conv_stem(pixels))
    stages = [x := stage(x) for stage in network.blocks]
    assert isinstance(eyes, Backbone)
    torch.testing.assert_close(
        tokens.pooled, network.forward_head(network.bn2(network.conv_head(x)), True), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(eyes.model(pixels), network(pixels), atol=1e-6, rtol=0)
    torch.testing.assert_close(eyes.model.get_classifier()(tokens.pooled), network(pixels), atol=1e-6, rtol=0)
    for layer, (stage, stride) in enumerate(zip((0, 1, 2, 4, 6), (2, 4, 8, 16, 32), strict=True)):
        own, grid = stages[stage], tokens.patches[layer].transpose(1, 2).unflatten(2, (14, 14))
        assert own.shape[2] == 224 // stride
        if stride <= 16:
            torch.testing.assert_close(torch.pixel_shuffle(grid, 16 // stride), own, atol=1e-6, rtol=0)
        else:
            assert grid.shape[1] == own.shape[1] == 320  # the stage itself, not the head's 1,280
    assert (eyes.image_size, eyes.patch_size, eyes.grid) == (224, 16, (14, 14))
    assert (eyes.strides, eyes.patch_layers, eyes.embed_dim, eyes.depth) == ((2, 4, 8, 16, 32), (1, 2, 3, 4), 1280, 5)
    assert eyes.preprocess.mean == eyes.preprocess.std == (0.5,) * 3


def test_random_eyes_are_the_same_network_untrained() -> None:
    random, again = (zoo.load("efficientnet-random", device="cpu") for _ in range(2))
    real = zoo.load("efficientnet-lite0", "tiny", device="cpu")
    states = [eyes.model.state_dict() for eyes in (random, again, real)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert {n: v.shape for n, v in states[0].items()} == {n: v.shape for n, v in states[2].items()}
    assert not torch.equal(states[0]["conv_stem.weight"], states[2]["conv_stem.weight"])
    assert random.patch_layers == real.patch_layers
    assert zoo.find("efficientnet-random").trained_on == "nothing"


def test_the_card_is_what_the_eyes_see() -> None:
    eyes = zoo.load("efficientnet-lite0", "tiny", device="cpu")
    whole, cut = card.answers(eyes), card.answers(eyes, cut=True)
    text = (ASSETS / "efficientnet-lite0.md").read_text()
    assert "**The one encoder here that has seen real photographs.**" in text.split("\n")[2]
    for found in (whole, cut):
        for name, classes in found.items():
            assert re.search(rf"\| {name} .*{re.escape(classes[0])}", text), name
    assert f"with a class of their own, {card.right(whole)} are right" in text
    assert card.right(cut) >= 6  # random weights: one photograph of 7 at the very best
    assert card.table(whole, cut).split("\n")[0] in text
    assert {"LICENSE", "NOTICE"} <= {path.suffix[1:] for path in ASSETS.glob("efficientnet-lite0.*")}
