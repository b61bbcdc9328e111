"""Learning from made-up defects: the network against a literal form, its losses by hand, a short training."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from gadkit import factory, zoo
from gadkit.anomaly import training
from gadkit.anomaly.detectors import build
from gadkit.anomaly.detectors.made_up import MadeUp, Network, layers_of, maps_of, network_for
from gadkit.anomaly.training import made_up
from gadkit.backbones import Timm


@pytest.fixture(scope="module")
def eyes() -> Timm:
    return zoo.load("efficientnet-lite0")


@pytest.fixture(scope="module")
def network() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network([5, 7], 16)
        for p in network.parameters():
            if p.ndim == 1 and p.requires_grad:
                p.data += 0.1 * torch.randn(p.shape)
        network.mean[0].data += 0.3
        network.std[1].data *= 2
    return network.eval()


def literal(net: Network, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The network of one image, a token at a time: maps (5, 8, 8) and (7, 4, 4) in."""
    state = {name: value.double() for name, value in net.state_dict().items()}

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].flatten(1).T + state[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        x = (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()
        return x * state[f"{name}.weight"] + state[f"{name}.bias"]

    scaled = [
        (x.double() - state[f"mean.{i}"][:, None, None]) / state[f"std.{i}"][:, None, None]
        for i, x in enumerate((fine, coarse))
    ]
    seen = [linear(x.permute(1, 2, 0), f"project.{i}") for i, x in enumerate(scaled)]  # (8, 8, w), (4, 4, w)
    means = seen[0].unflatten(0, (4, 2)).unflatten(2, (4, 2)).mean((1, 3))
    tokens = (means + seen[1]).flatten(0, 1) + state["position"][0]
    for i in range(len(net.adapter)):
        rows = torch.stack([norm(t, f"adapter.{i}.norm1") for t in tokens])
        q, k, v = linear(rows, f"adapter.{i}.qkv").chunk(3, 1)
        heads = []
        for h in range(4):
            part = slice(24 * h, 24 * (h + 1))
            heads.append((q[:, part] @ k[:, part].T / math.sqrt(24)).softmax(-1) @ v[:, part])
        tokens = tokens + linear(torch.cat(heads, 1), f"adapter.{i}.proj")
        inner = torch.stack([norm(t, f"adapter.{i}.norm2") for t in tokens])
        tokens = tokens + linear(F.gelu(linear(inner, f"adapter.{i}.mlp.0")), f"adapter.{i}.mlp.2")
    tokens = torch.stack([norm(t, "norm") for t in tokens])
    score = linear(torch.cat([tokens.mean(0), tokens.amax(0)]), "image")[0]

    def convolved(x: Tensor, name: str) -> Tensor:
        for at in (0, 3):
            weight = state[f"{name}.{at}.weight"]
            padded = F.pad(x, (1, 1, 1, 1))
            rows, columns = x.shape[1:]
            y = sum(
                torch.einsum("oi,irc->orc", weight[:, :, a, b], padded[:, a : a + rows, b : b + columns])
                for a in range(3)
                for b in range(3)
            )
            y = y + state[f"{name}.{at}.bias"][:, None, None]
            groups = y.unflatten(0, (8, -1))
            deviation = (groups.var((1, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
            y = ((groups - groups.mean((1, 2, 3), keepdim=True)) / deviation).flatten(0, 1)
            y = y * state[f"{name}.{at + 1}.weight"][:, None, None] + state[f"{name}.{at + 1}.bias"][:, None, None]
            x = y.clamp(min=0)
        return x

    x = convolved(tokens.T.unflatten(1, (4, 4)), "bottleneck")
    grown = x.repeat_interleave(2, 1).repeat_interleave(2, 2)
    past = linear(scaled[0].permute(1, 2, 0), "skip").permute(2, 0, 1)
    x = convolved(torch.cat([grown, past]), "decoder")
    maps = [linear(x.permute(1, 2, 0), name)[..., 0] for name in ("map", "confidence")]
    return score, *maps


def test_the_network_is_its_literal_form(network: Network) -> None:
    draw = torch.Generator().manual_seed(1)
    fine, coarse = torch.randn(3, 5, 8, 8, generator=draw), torch.randn(3, 7, 4, 4, generator=draw)
    with torch.no_grad():
        found = network([fine, coarse])
        for i in range(3):
            for ours, theirs in zip(found, literal(network, fine[i], coarse[i]), strict=True):
                torch.testing.assert_close(ours[i].sigmoid().double(), theirs.sigmoid(), atol=1e-6, rtol=0)


def test_layers_come_in_their_own_resolution(eyes: Timm) -> None:
    assert layers_of(eyes) == (2, 3, 4)
    x = eyes.preprocess(factory.render("gear", torch.arange(2)).images)
    _, theirs = eyes.model.forward_intermediates(x, indices=[2, 3, 4], output_fmt="NCHW")
    ours = maps_of(eyes.encode_image(x, (2, 3, 4)).patches, [2, 1, 1], eyes.grid)
    assert [tuple(m.shape[1:]) for m in ours] == [(40, 28, 28), (112, 14, 14), (320, 14, 14)]
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(a, b)


def test_scores_and_maps_come_of_the_network(eyes: Timm) -> None:
    images = factory.render("gear", torch.arange(2)).images
    heads = Network([40, 112, 320], 196).state_dict()
    tokens = eyes.encode_image(eyes.preprocess(images), (2, 3, 4))
    score, logits, _ = network_for(heads)(maps_of(tokens.patches, [2, 1, 1], eyes.grid))
    for blend in (0.0, 0.3):
        found = MadeUp(eyes, heads, blend=blend).fit().score(images)
        best = (1 - blend) * score.sigmoid() + blend * logits.sigmoid().flatten(1).amax(1)
        torch.testing.assert_close(found.scores, best, atol=1e-6, rtol=0)
        grown = F.interpolate(logits.sigmoid()[:, None], (96, 96), mode="bilinear", align_corners=False)[:, 0]
        torch.testing.assert_close(found.maps, grown, atol=1e-6, rtol=0)


def test_the_losses_by_hand() -> None:
    logits, target = torch.tensor([2.0, -1.0]), torch.tensor([1.0, 0.0])
    p = logits.sigmoid()
    by_hand = [0.25 * (1 - p[0]) ** 2 * -p[0].log(), 0.75 * p[1] ** 2 * -(1 - p[1]).log()]
    torch.testing.assert_close(made_up.focal(logits, target), torch.stack(by_hand))
    masks, confidence = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.5, -0.5]]])
    found = made_up.objective(torch.tensor([0.3]), logits.view(1, 1, 2), confidence, masks)
    image = 0.25 * (1 - torch.tensor(0.3).sigmoid()) ** 2 * -torch.tensor(0.3).sigmoid().log()
    pixels = [5 * by_hand[0] + (0.9 - 1 if p[0] > 0.9 else p[0] - 1).abs(), 5 * by_hand[1] + p[1]]
    weights = [1 + math.exp(0.5), 1 + math.exp(-0.5)]
    terms = [w * float(x) - 0.1 * math.log(w) for w, x in zip(weights, pixels, strict=True)]
    assert float(found) == pytest.approx(float(image) + sum(terms) / 2, abs=1e-5)


def test_a_batch_has_twins_turned_alike() -> None:
    draw = torch.Generator().manual_seed(0)
    marks = torch.arange(16.0).view(1, 1, 4, 4).repeat(4, 1, 1, 1)  # two pairs, all alike
    kept = [{"layer0": marks, "masks": torch.arange(16.0).view(1, 4, 4).repeat(2, 1, 1)}]
    seen = set()
    for _ in range(60):
        (x,), masks = made_up.batch(kept, ["layer0"], draw)
        assert (len(x), len(masks)) == (2 * made_up.PAIRS, 2 * made_up.PAIRS)
        assert not masks[: made_up.PAIRS].any()
        assert torch.equal(x[made_up.PAIRS :, 0], masks[made_up.PAIRS :])
        seen.add(tuple(x[0, 0].flatten().tolist()))
    assert len(seen) == 8


def test_a_short_training_writes_a_part_that_fits_and_gives_the_same_again(tmp_path: Path, eyes: Timm) -> None:
    paths = [training.train("made-up", tmp_path / str(i), seed=1, steps=1) for i in range(2)]
    heads = [zoo.load("made-up", file=path) for path in paths]
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])
    assert not (tmp_path / "0" / "seen-efficientnet-lite0-1").exists()
    with safe_open(paths[0], "pt") as file:
        facts = json.loads(file.metadata()["facts"])
    assert (facts["backbone"], facts["seed"], facts["steps"]) == ("efficientnet-lite0", 1, 1)
    images = factory.render("gear", torch.arange(2)).images
    assert build("made-up", eyes, heads=paths[0]).fit().score(images).scores.shape == (2,)


def test_pictures_that_are_there_are_not_made_again(tmp_path: Path, eyes: Timm) -> None:
    path = made_up._chunk(eyes, tmp_path, 0, 0)
    before = path.stat().st_mtime_ns
    assert made_up._chunk(eyes, tmp_path, 0, 0) == path
    assert path.stat().st_mtime_ns == before


@pytest.mark.usefixtures("untyped")
def test_bad_arguments_are_named(eyes: Timm) -> None:
    heads = Network([40, 112, 320], 196).state_dict()
    with pytest.raises(ValueError, match=r"blend: expected a share in \[0, 1\], got 2"):
        MadeUp(eyes, heads, blend=2)
    with pytest.raises(ValueError, match=r"heads: expected tensors named mean.0 and position, got nothing"):
        MadeUp(eyes, {"nothing": torch.zeros(1)})
    with pytest.raises(ValueError, match="expected 3 layers on 196 patches, as these eyes have, got 1 on 25"):
        MadeUp(eyes, Network([32], 25).state_dict())
    with pytest.raises(ValueError, match="so it takes none"):
        MadeUp(eyes, heads).fit(factory.render("gear", torch.arange(2)).images)
