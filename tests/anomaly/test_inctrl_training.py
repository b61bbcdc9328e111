"""What InCTRL's heads are taught by, against its equations in loops, and whether they learn."""

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gadkit import weights, zoo
from gadkit.anomaly import training
from gadkit.anomaly.detectors import InCTRL
from gadkit.anomaly.detectors.residual_heads import ResidualHeads, untrained
from gadkit.anomaly.metrics import auroc
from gadkit.anomaly.training import inctrl
from gadkit.anomaly.training.inctrl import Product, batch, compared, focal, learn, photographs
from gadkit.backbones import OpenCLIP
from gadkit.factory.seeds import FIRST_LESSON, FIRST_POOL, FIRST_TEST


def product(seed: int, normal: int = 10, bad: int = 6) -> Product:
    """A made-up product whose anomalous images have one patch that is far from every normal image."""
    draw = torch.Generator().manual_seed(seed)
    distances = 0.1 * torch.rand(normal + bad, normal, 2, 16, generator=draw)
    distances[normal:, :, :, seed % 16] += 0.5
    for i in range(normal):
        distances[i, i] = 0
    vectors = torch.randn(normal + bad, 8, generator=draw)
    return Product("gear", distances, vectors, torch.rand(normal + bad, generator=draw))


@pytest.mark.parametrize("logits", [True, False])
def test_the_focal_loss_is_its_equation(logits: bool) -> None:
    values, labels = torch.tensor([0.1, 0.7, 0.4, 0.9]), torch.tensor([0.0, 0.0, 1.0, 1.0])
    found = []
    for value, label in zip(values.double(), labels, strict=True):
        p = 1 / (1 + torch.exp(-value)) if logits else value
        true = p if label else 1 - p
        found.append(-((1 - true) ** 2) * torch.log(true))
    assert focal(values, labels, logits).item() == pytest.approx(float(sum(found) / 4), abs=1e-6)


def test_a_batch_is_what_it_says() -> None:
    held, rng = [product(0), product(1)], random.Random(3)
    shots = set()
    for _ in range(20):
        residual, vectors, prompts, text, labels = batch(held, rng)
        assert labels.tolist() == [0.0] * 8 + [1.0] * 8
        shots.add(prompts.shape[1])
        for row in range(16):
            one = next(p for p in held if (p.vectors == vectors[row]).all(1).any())
            query = int((one.vectors == vectors[row]).all(1).nonzero())
            context = [int((one.vectors == v).all(1).nonzero()) for v in prompts[row]]
            assert (query >= one.normal) is bool(labels[row])
            assert query not in context
            assert max(context) < one.normal
            assert len({*context}) == len(context)
            near = torch.stack([one.distances[query, r] for r in context]).amin(0).mean(0)
            torch.testing.assert_close(residual[row], near)
            assert text[row] == one.text[query]
    assert shots == {2, 4, 8}


def test_heads_learn_to_compare_and_seeds_decide() -> None:
    held = [product(i) for i in range(6)]
    heads, again, other = (learn(held, 60, seed) for seed in (0, 0, 1))
    assert all(torch.equal(heads[name], again[name]) for name in heads)
    assert not torch.equal(heads["diff_head.projection1.weight"], other["diff_head.projection1.weight"])
    net = ResidualHeads(16, 8)
    weights.fill(net, heads, "InCTRL")
    net.eval()
    residual, vectors, prompts, text, labels = batch([product(7)], random.Random(0))
    found = net(residual, net.compare(vectors, prompts), text)
    assert auroc(found["holistic"].detach(), labels.bool()) > 0.9
    blank = learn(held, 0, 0)
    assert all(torch.equal(value, untrained(16, 8, 0)[name]) for name, value in blank.items())


@pytest.mark.parametrize("terms", [(), ("text",), ("reference",)])
def test_terms_are_those_of_the_detector(terms: tuple[str, ...]) -> None:
    heads = learn([product(i) for i in range(3)], 5, 0, terms)
    plain = learn([product(i) for i in range(3)], 5, 0)
    assert not torch.equal(heads["diff_head.projection1.weight"], plain["diff_head.projection1.weight"])


def test_half_precision_is_enough(tmp_path: Path) -> None:
    held = [product(i) for i in range(6)]
    full = learn(held, 60, 0)
    weights.write(full, tmp_path / "heads.safetensors", {})
    nets = [ResidualHeads(16, 8) for _ in range(2)]
    for net, state in zip(nets, (full, weights.read(tmp_path / "heads.safetensors")), strict=True):
        weights.fill(net, state, "InCTRL")
        net.eval()
    residual, vectors, prompts, text, _ = batch([product(7)], random.Random(0))
    a, b = (net(residual, net.compare(vectors, prompts), text)["score"] for net in nets)
    assert 0 < (a - b).abs().max() < 1e-3


def test_compared_once_is_compared_every_time(backbone: OpenCLIP, photograph: tuple[Tensor, Tensor]) -> None:
    good, bad = photograph
    detector = InCTRL(backbone, "gear", untrained(25, 128))
    one = compared(detector, "gear", good, bad)
    assert detector.shots == 0, "it is left as it was"
    assert one.normal == 4
    found = detector.fit(good[[0, 3]]).intermediates(torch.cat([good, bad]))
    near = one.distances[:, [0, 3]].amin(1).unflatten(2, (5, 5))
    torch.testing.assert_close(near, found["residual_maps"], atol=1e-6, rtol=0)
    torch.testing.assert_close(one.text, found["text"], atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def photograph() -> tuple[Tensor, Tensor]:
    return photographs("gear", 0, 4)


def test_photographs_are_of_a_range_of_their_own(photograph: tuple[Tensor, Tensor]) -> None:
    good, bad = photograph
    assert good.shape == (4, 3, 96, 96)
    assert 6 <= len(bad) <= 9
    assert torch.equal(photographs("gear", 0, 4)[1], bad)
    assert not torch.equal(photographs("gear", 1, 4)[0], good)
    assert FIRST_POOL + (1 << 37) < FIRST_LESSON < FIRST_LESSON + (inctrl.PRODUCTS << 18) < FIRST_TEST


def test_the_shipped_heads_fit_their_eyes(images: Tensor) -> None:
    detector = InCTRL(zoo.load("clip"), "nut", zoo.load("inctrl")).fit(images[:2])
    assert torch.isfinite(detector.score(images).scores).all()


@pytest.mark.slow
def test_training_writes_heads_that_are_read(tmp_path: Path) -> None:
    path = training.train("inctrl", tmp_path, steps=3, backbone="clip-scratch")
    heads = zoo.load("inctrl", file=path)
    assert InCTRL(zoo.load("clip-scratch"), "nut", heads).layers == (2, 3, 4)


def test_eyes_that_do_not_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="backbone: expected a CLIP, got Encoder"):
        training.train("inctrl", tmp_path, steps=1, backbone="random")
