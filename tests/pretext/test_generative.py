"""Colourisation, inpainting and autoencoders: exact colours, holes of known shape, shortcuts open and closed."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gadkit.pretext.adversarial import Decoder, add_gradient, adversarial, critic
from gadkit.pretext.base import unexplained_variance
from gadkit.pretext.colour import lab_to_rgb, nearest_colour, palette, rgb_to_lab
from gadkit.pretext.generative import Autoencoder, Colourisation, Inpainting, holes
from gadkit.pretext.shortcuts import diffuse, mosaic, read_mosaic

# -------------------------------------------------------------------------------------------------- colour


def test_lab_agrees_with_scikit_image_and_comes_back(generator) -> None:
    from skimage.color import rgb2lab

    x = torch.rand(2, 3, 16, 16, generator=generator)
    x[0, :, 0], x[0, :, 1], x[0, :, 2] = 0, 1, x[0, :, 2] * 0.02  # black, white and the linear foot of both curves
    lab = rgb_to_lab(x)
    assert np.abs(lab.movedim(1, -1).numpy() - rgb2lab(x.movedim(1, -1).numpy())).max() < 1e-3
    assert torch.allclose(lab_to_rgb(lab), x, atol=1e-5)


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_every_colour_has_a_near_one_in_the_palette(r: int, g: int, b: int) -> None:
    ab = rgb_to_lab(torch.tensor([r, g, b]).view(1, 3, 1, 1) / 255)[:, 1:, 0, 0]
    colours = palette(20.0)
    far = (ab - colours[nearest_colour(ab, colours)]).abs().max()
    with pytest.raises(ValueError, match=r"colours: expected at least one, got shape \(0, 2\)"):
        nearest_colour(ab, colours[:0])
    assert far <= 20.0 / 2 + 4  # in the middle between two corners at most, but for the cube's last shades


def test_a_finer_palette_has_more_colours() -> None:
    with pytest.raises(ValueError, match="positive"):
        palette(0.0)
    assert len(palette(10.0)) > 3 * len(palette(20.0)) > 100


def test_grey_views_hold_no_colour_and_the_answers_do(parts, small) -> None:
    grey, lab = Colourisation(small()).views({"images": parts[::8]})
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 0], grey[:, 2])
    assert lab.shape == (8, 3, 16, 16)
    assert lab[:, 1:].abs().max() > 20


def test_perfect_logits_give_the_photograph_its_colours_back(parts, small) -> None:
    method = Colourisation(small()).eval()
    views = method.views({"images": parts[::8]})
    truth = nearest_colour(views[1][:, 1:].movedim(1, -1).flatten(0, -2), method.colours).view(8, 16, 16)
    method.answers = lambda grey: 50.0 * torch.nn.functional.one_hot(truth, method.outputs).movedim(-1, 1)
    assert method.loss(views) < 1e-6
    painted = rgb_to_lab(method.predict(views))[:, 1:]
    assert unexplained_variance(torch.nn.functional.avg_pool2d(painted, 4), views[1][:, 1:]) < 0.4


def test_rare_colours_weigh_more(parts, small) -> None:
    method = Colourisation(small())
    uniform = method.frequency.clone()
    for _ in range(60):
        method.loss(method.views({"images": parts[::8]}))
    assert method.frequency.sum() == pytest.approx(1, rel=1e-4)
    assert not torch.allclose(method.frequency, uniform)
    grey = nearest_colour(torch.zeros(1, 2), method.colours)
    assert method.frequency[grey] > 3 * uniform[grey]
    method.eval()
    before = method.frequency.clone()
    method.loss(method.views({"images": parts[::8]}))
    assert torch.equal(method.frequency, before)


def test_a_sensor_s_raw_image_gives_its_colours_away(parts, generator) -> None:
    x = parts.float() / 255
    raw = mosaic(x)
    assert torch.equal(raw[:, 0, ::2, ::2], x[:, 0, ::2, ::2])
    assert torch.equal(raw[:, 0, 1::2, ::2], x[:, 1, 1::2, ::2])
    assert torch.equal(raw[:, 0, 1::2, 1::2], x[:, 2, 1::2, 1::2])
    pool = torch.nn.functional.avg_pool2d
    truth = pool(rgb_to_lab(x)[:, 1:], 4)
    assert unexplained_variance(pool(rgb_to_lab(read_mosaic(raw))[:, 1:], 4), truth) < 0.2
    assert unexplained_variance(pool(rgb_to_lab(read_mosaic(rgb_to_lab(x)[:, :1] / 100))[:, 1:], 4), truth) > 0.9


def test_a_network_reads_the_mosaic_and_cannot_read_lightness(parts, small, learn) -> None:
    _, open_ = learn(Colourisation(small(), "regression", "mosaic"), parts)
    _, closed = learn(Colourisation(small(), "regression", "lightness"), parts)
    assert open_ < 0.4 < 0.7 < closed


# -------------------------------------------------------------------------------------------------- inpainting


@pytest.mark.parametrize("kind", ["blocks", "centre", "specks"])
def test_holes_take_about_a_quarter_and_differ_unless_they_are_central(kind: str, generator) -> None:
    hole = holes(50, 64, kind, generator=generator)
    share = hole.float().flatten(1).mean(1)
    assert hole.shape == (50, 1, 64, 64)
    assert 0.15 < share.mean() <= 0.26
    if kind != "specks":
        assert share.max() <= 0.25
    assert (hole[0] == hole[1]).all() == (kind == "centre")
    if kind == "centre":
        assert hole[0, 0, 16:48, 16:48].all()


def test_a_hole_shows_the_mean_colour_and_the_rest_the_photograph(parts, small) -> None:
    holed, whole, hole = Inpainting(small()).views({"images": parts[::8]})
    assert torch.equal(holed, torch.where(hole, 0.0, whole))


def test_only_the_hole_counts_and_only_it_is_painted(parts, small) -> None:
    method = Inpainting(small())
    views = method.views({"images": parts[::8]})
    filled = method.fill(views)
    outside = ~views[2].expand_as(filled)
    assert torch.equal(filled[outside], views[1][outside])
    inside = views[2].expand_as(filled)
    assert method.loss(views).item() == pytest.approx(
        ((filled - views[1])[inside] ** 2).mean().item() / views[1][inside].var(correction=0).item(), rel=1e-5
    )
    assert method.predict(views).shape == (8, 3, 64, 64)


def test_a_blur_fills_specks_and_not_a_large_hole(parts) -> None:
    x = parts[::2].float() / 255
    left = {}
    for kind, steps in (("specks", 20), ("centre", 100)):
        hole = holes(len(x), 96, kind)
        left[kind] = unexplained_variance(diffuse(x, hole, steps), x, hole.expand_as(x)).item()
    assert left["specks"] < 0.15 < 0.35 < left["centre"]


@pytest.mark.parametrize("kind", ["specks", "blocks", "centre", "at the border", "none"])
def test_heat_is_the_mean_of_neighbours_again_and_again(kind) -> None:
    torch.manual_seed(0)
    x = torch.rand(3, 3, 32, 32)
    hole = holes(3, 32, kind).clone() if kind in ("specks", "blocks", "centre") else torch.zeros(3, 1, 32, 32).bool()
    hole[:2, :, :9, -5:] |= kind == "at the border"
    slow = torch.where(hole, x.mean((2, 3), keepdim=True), x)
    for steps in range(31):
        if steps in (0, 1, 30):
            assert torch.allclose(diffuse(x, hole, steps), slow, atol=1e-6)
        around = torch.nn.functional.pad(slow, (1, 1, 1, 1), mode="replicate").unfold(2, 3, 1).unfold(3, 3, 1)
        slow = torch.where(hole, around.mean((4, 5)), x)


def test_heat_rests_and_the_photograph_is_left_alone() -> None:
    x, hole = torch.ones(1, 3, 16, 16), torch.zeros(1, 1, 16, 16).bool()
    x[..., 8:], hole[..., 5:9, 5:9] = 0.0, True
    kept = x.clone()
    found = diffuse(x, hole, 5000)
    assert torch.equal(found, diffuse(x, hole, 10000))  # long at rest
    assert torch.equal(x, kept)
    assert (found[0, 0, 6, 5:9].diff() < 0).all()


# -------------------------------------------------------------------------------------------------- autoencoder, critic


def test_a_wide_code_without_noise_copies(parts, small, learn) -> None:
    _, copies = learn(Autoencoder(small(), code=None, noise=0.0), parts)
    _, narrow = learn(Autoencoder(small(), code=8), parts)
    assert copies < 0.35 < 0.5 < narrow


def test_noise_is_on_the_input_only(parts, small) -> None:
    noisy, clean = Autoencoder(small(), noise=0.5).views({"images": parts})
    assert (noisy - clean).std() == pytest.approx(0.5, rel=0.02)
    noisy, clean = Autoencoder(small(), noise=0.0).views({"images": parts})
    assert torch.equal(noisy, clean)


def test_codes_are_standardised_and_normal_numbers_are_drawn(parts, small) -> None:
    method = Autoencoder(small(), code=16)
    code = method.squeeze(method.features(method.views({"images": parts})[0]))
    assert code.mean(0).abs().max() < 1e-4
    assert torch.allclose(code.std(0), torch.ones(16), atol=0.05)
    one, same = (method.generate(5, torch.Generator().manual_seed(1)) for _ in range(2))
    assert one.shape == (5, 3, 64, 64)
    assert torch.equal(one, same)
    with pytest.raises(ValueError, match="code"):
        Autoencoder(small(), code=None).generate(5)


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_the_decoder_reaches_its_size(size: int) -> None:
    assert Decoder(6, size)(torch.randn(2, 6)).shape == (2, 3, size, size)


def test_an_undecided_critic_gives_two_log_2_and_log_2() -> None:
    discriminator = critic(8)
    torch.nn.init.zeros_(discriminator[-1].weight)
    torch.nn.init.zeros_(discriminator[-1].bias)
    discriminating, deceiving = adversarial(discriminator, torch.randn(2, 3, 32, 32), torch.randn(3, 3, 32, 32))
    assert discriminating.item() == pytest.approx(2 * math.log(2))
    assert deceiving.item() == pytest.approx(math.log(2))


def test_each_side_of_the_game_moves_itself_alone() -> None:
    discriminator, fake = critic(8), torch.randn(2, 3, 32, 32, requires_grad=True)
    discriminating, deceiving = adversarial(discriminator, torch.randn(2, 3, 32, 32), fake)
    assert torch.autograd.grad(discriminating, fake, retain_graph=True, allow_unused=True)[0] is None
    weights = list(discriminator.parameters())
    assert all(g is None for g in torch.autograd.grad(deceiving, weights, retain_graph=True, allow_unused=True))
    assert torch.autograd.grad(deceiving, fake)[0].abs().sum() > 0
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(discriminating, weights))


def test_a_hidden_loss_pulls_without_showing() -> None:
    x = torch.tensor(2.0, requires_grad=True)
    value = add_gradient(3 * x, x**2)
    assert value.item() == 6
    assert torch.autograd.grad(value, x)[0].item() == 3 + 4


@pytest.mark.parametrize("build", [Inpainting, Autoencoder])
def test_with_a_critic_the_loss_is_the_same_and_the_critic_learns(build, parts, small) -> None:
    torch.manual_seed(0)
    plain = build(small())
    torch.manual_seed(0)
    method = build(small(), adversary=0.1)
    torch.manual_seed(1)
    views = method.views({"images": parts[::8]})
    loss = method.loss(views)
    assert loss.item() == pytest.approx(plain.loss(views).item(), rel=1e-5)
    loss.backward()
    assert all(p.grad.any() for p in method.critic.parameters())
    assert all(k.startswith(method.transient) for k in method.state_dict() if k not in plain.state_dict())
