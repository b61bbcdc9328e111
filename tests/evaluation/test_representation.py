"""Rank, alignment, uniformity and pictures, against literal forms and the laws they obey."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import nn

from gadkit.backbones import Encoder
from gadkit.evaluation.representation import (
    alignment,
    attention_maps,
    effective_rank,
    fit_colours,
    kernels,
    nearest,
    pca_colours,
    uniformity,
)
from gadkit.nn.vit import ViT

seeds = st.integers(0, 10_000)


@given(seed=seeds, n=st.integers(2, 30), d=st.integers(1, 12))
def test_effective_rank_is_the_exponential_of_an_entropy(seed: int, n: int, d: int) -> None:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    values = np.linalg.svd((x - x.mean(0)).double().numpy(), compute_uv=False)
    share = values[values > 1e-12] / values.sum()
    expected = math.exp(-sum(p * math.log(p) for p in share))
    assert effective_rank(x) == pytest.approx(expected, rel=1e-3)
    assert 1 - 1e-6 <= effective_rank(x) <= min(n - 1, d) + 1e-3
    assert effective_rank(100 * x + 7) == pytest.approx(effective_rank(x), rel=1e-2)


def test_effective_rank_counts_equal_directions() -> None:
    cross = torch.cat([torch.eye(6), -torch.eye(6)])[:, :4]
    assert effective_rank(cross) == pytest.approx(4)
    assert effective_rank(torch.arange(9.0)[:, None] * torch.tensor([[1.0, 2.0, -1.0]])) == pytest.approx(1, abs=1e-4)
    assert effective_rank(torch.full((9, 3), 0.7)) == 0.0
    with pytest.raises(ValueError, match="1 NaN or infinite"):
        effective_rank(torch.tensor([[1.0, torch.inf], [0.0, 1.0]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_effective_rank_counts_no_rounding(dtype: torch.dtype, generator: torch.Generator) -> None:
    noise = torch.randn(128, 127, generator=generator, dtype=torch.float64)
    eps = torch.finfo(dtype).eps
    alike = torch.full_like(noise, 0.7)
    assert effective_rank((alike * (1 + 8 * eps * noise)).to(dtype)) == 0
    assert effective_rank((alike * (1 + 1e5 * eps * noise)).to(dtype)) > 80, "little, but no rounding"


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1e6])
def test_effective_rank_knows_no_unit(scale: float, generator: torch.Generator) -> None:
    x = torch.randn(40, 8, generator=generator) + 3
    assert effective_rank(scale * x) == pytest.approx(effective_rank(x), rel=1e-4)
    assert effective_rank(scale * torch.ones(40, 8)) == 0


def test_a_collapsed_network_has_no_rank(generator: torch.Generator) -> None:
    vit = ViT(image_size=32, patch_size=8, width=64, depth=4, heads=4).eval()
    x = torch.randn(48, 3, 32, 32, generator=generator)
    with torch.no_grad():
        assert effective_rank(vit(x)[:, 0]) > 5
        next(m for m in vit.modules() if isinstance(m, nn.Linear)).weight.mul_(1e-7)  # it no longer sees the image
        features = vit(x)[:, 0]
    assert features.std(0).max() > 0, "there is rounding"
    assert effective_rank(features) == 0


@given(seed=seeds, n=st.integers(2, 12))
def test_alignment_and_uniformity_are_their_double_loops(seed: int, n: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, n, 5, generator=draw)
    u, v = ([row / row.norm() for row in z] for z in (x, y))
    assert alignment(x, y) == pytest.approx(
        sum(float((a - b).norm()) ** 2 for a, b in zip(u, v, strict=True)) / n, rel=1e-4
    )
    pairs = [math.exp(-2 * float((u[i] - u[j]).norm()) ** 2) for i in range(n) for j in range(n) if i != j]
    assert uniformity(x) == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-3, abs=1e-5)


def test_collapse_shows() -> None:
    alike = torch.tensor([[1.0, 2.0, 3.0]]).expand(10, -1)
    assert alignment(alike, 5 * alike) == pytest.approx(0, abs=1e-10)
    assert uniformity(alike) == pytest.approx(0, abs=1e-5)
    assert effective_rank(alike) == 0
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert alignment(opposite, -opposite) == pytest.approx(4)
    assert uniformity(opposite) == pytest.approx(-8)
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        uniformity(alike[:1])


@pytest.fixture
def patches(generator: torch.Generator) -> torch.Tensor:
    """Skewed tokens with a clear order of variances: (5, 12, 8)."""
    x = torch.randn(5, 12, 8, generator=generator).exp() * torch.tensor([9.0, 5, 3, 1, 0.5, 0.3, 0.2, 0.1])
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    return x @ turn + 3


def test_colours_are_principal_components(patches: torch.Tensor) -> None:
    colours = fit_colours(patches, margin=0.0)
    theirs = PCA(3).fit(patches.flatten(0, 1).numpy())
    cosines = (colours.axes * torch.from_numpy(theirs.components_)).sum(1).abs()
    torch.testing.assert_close(cosines, torch.ones(3), atol=1e-4, rtol=0)
    maps = colours(patches, (3, 4))
    assert maps.shape == (5, 3, 3, 4)
    assert maps.amin((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert maps.amax((0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    scores = theirs.transform(patches.flatten(0, 1).numpy()).reshape(5, 3, 4, 3)[1, 2, 3]
    signs = np.sign((theirs.components_ * colours.axes.numpy()).sum(1))
    expected = (
        scores * signs - colours.low.numpy() + (theirs.mean_ - colours.centre.numpy()) @ colours.axes.numpy().T
    ) / (colours.high - colours.low).numpy()
    np.testing.assert_allclose(maps[1, :, 2, 3].numpy(), expected, atol=1e-3)


def test_colours_keep_sign_and_order(patches: torch.Tensor, generator: torch.Generator) -> None:
    plain, order = pca_colours(patches, (3, 4)), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(pca_colours(patches[order], (3, 4)), plain[order], atol=1e-4, rtol=0)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    torch.testing.assert_close(pca_colours(5 * patches @ turn - 1, (3, 4)), plain, atol=2e-3, rtol=0)
    flipped = pca_colours(-patches, (3, 4))  # the long tail stays bright
    torch.testing.assert_close(flipped, plain, atol=1e-4, rtol=0)


def test_colours_of_one_batch_paint_another(patches: torch.Tensor) -> None:
    colours = fit_colours(patches)
    torch.testing.assert_close(colours(patches[2:3], (4, 3)), pca_colours(patches, (4, 3))[2:3])
    assert torch.isfinite(pca_colours(torch.ones(2, 4, 5), (2, 2))).all()
    with pytest.raises(ValueError, match="at least 3 dimensions, got 2"):
        pca_colours(patches[..., :2], (3, 4))


def test_kernels_are_the_first_layer_s() -> None:
    conv = nn.Conv2d(3, 5, 4)
    picture = kernels(nn.Sequential(nn.Identity(), conv, nn.Conv2d(5, 3, 1)))
    assert picture.shape == (5, 3, 4, 4)
    norms = conv.weight.detach().flatten(1).norm(dim=1)
    strongest = conv.weight.detach()[norms.argmax()]
    torch.testing.assert_close(picture[0], 0.5 + 0.5 * strongest / strongest.abs().max())
    assert (picture - 0.5).abs().amax((1, 2, 3)).tolist() == pytest.approx([0.5] * 5)


def test_kernels_of_a_patch_embedding_are_the_convolution_s() -> None:
    conv, linear = nn.Conv2d(3, 6, 4, stride=4, bias=False), nn.Linear(3 * 4 * 4, 6, bias=False)
    with torch.no_grad():
        linear.weight.copy_(conv.weight.permute(0, 2, 3, 1).flatten(1))  # a patch as (row, column, channel)
    torch.testing.assert_close(kernels(linear), kernels(conv))
    with pytest.raises(ValueError, match="with RGB input, found none"):
        kernels(nn.Linear(10, 2))


def test_the_nearest_are_others(generator: torch.Generator) -> None:
    x = torch.randn(12, 4, generator=generator)
    cosines = F.normalize(x, dim=1) @ F.normalize(x, dim=1).T
    expected = cosines.fill_diagonal_(-9).topk(3).indices
    queries = torch.tensor([5, 0, 11])
    assert torch.equal(nearest(queries, x, 3), expected[queries])
    doubles = x[:1].repeat(6, 1)
    found = nearest(torch.arange(6), doubles, 2)
    assert (found != torch.arange(6)[:, None]).all()
    assert (found[:, 0] != found[:, 1]).all()
    with pytest.raises(ValueError, match="from 1 to 11 neighbours, got 12"):
        nearest(queries, x, 12)


def test_attention_is_what_the_class_token_looks_at() -> None:
    vit = ViT(image_size=16, patch_size=4, width=16, depth=2, heads=2, registers=2)
    backbone = Encoder(vit, image_size=24)
    images = torch.randint(256, (2, 3, 16, 24), dtype=torch.uint8)
    maps = attention_maps(backbone, images)
    assert maps.shape == (2, 2, 6, 6)
    with torch.no_grad():
        whole = vit.attention(backbone.preprocess(images))[:, :, 0]  # (b, heads, tokens)
    torch.testing.assert_close(maps.sum((2, 3)) + whole[:, :, :3].sum(2), torch.ones(2, 2))
    torch.testing.assert_close(maps[1, 0, 2, 3], whole[1, 0, 3 + 2 * 6 + 3])


def test_a_backbone_without_attention_is_named() -> None:
    with pytest.raises(ValueError, match="backbone: expected Encoder, got object"):
        attention_maps(object(), torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_nothing_has_no_rank_and_no_neighbour() -> None:
    assert effective_rank(torch.zeros(4, 3)) == 0.0
    for call in (effective_rank, uniformity, lambda x: alignment(x, x), lambda x: fit_colours(x[None])):
        with pytest.raises(ValueError, match="at least one row of features"):
            call(torch.zeros(0, 3))
    assert nearest(torch.zeros(0).long(), torch.eye(4), 3).shape == (0, 3)


def test_uniformity_by_hand() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 3.0]])  # their squared distance on the circle is 2
    assert uniformity(x) == pytest.approx(-4)
    assert uniformity(x, t=0.5) == pytest.approx(-1)
    for t in (0.0, -1.0):
        with pytest.raises(ValueError, match="t: expected a number above 0"):
            uniformity(x, t)


@pytest.mark.parametrize("wrong", [-1, 12])
def test_rows_that_do_not_exist_are_named(wrong: int, generator: torch.Generator) -> None:
    x = torch.randn(12, 4, generator=generator)
    ends = f"{min(3, wrong)} to {max(3, wrong)}"
    with pytest.raises(ValueError, match=f"queries: expected rows from 0 to 11, got {ends}"):
        nearest(torch.tensor([3, wrong]), x, 2)
    with pytest.raises(ValueError, match="k: expected from 1 to 11 neighbours, got 0"):
        nearest(torch.tensor([3]), x, 0)
    assert sorted(nearest(torch.tensor([3]), x, 11)[0].tolist()) == [0, 1, 2, *range(4, 12)]
    assert len(nearest(torch.tensor([0, 11]), x, 1)) == 2


def test_a_share_of_the_scores_is_clipped_at_either_end(patches: torch.Tensor) -> None:
    colours = fit_colours(patches, margin=0.1)
    scores = ((patches - colours.centre) @ colours.axes.T).flatten(0, 1).numpy()
    np.testing.assert_allclose(colours.low.numpy(), np.quantile(scores, 0.1, axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(colours.high.numpy(), np.quantile(scores, 0.9, axis=0), rtol=1e-4, atol=1e-4)
    assert ((scores**3).sum(0) > 0).all()
    for margin in (-0.01, 0.5):
        with pytest.raises(ValueError, match="margin: expected a share from 0 to below"):
            fit_colours(patches, margin)
    assert pca_colours(patches[..., :3], (3, 4)).shape == (5, 3, 3, 4)
    with pytest.raises(ValueError, match=r"grid: expected one of 12 patches, got \(3, 5\)"):
        pca_colours(patches, (3, 5))


def test_a_kernel_of_zeros_is_grey_and_layers_that_see_no_rgb_are_passed_over() -> None:
    linear = nn.Linear(3 * 2 * 2, 5)
    with torch.no_grad():
        linear.weight[1] = 0
    network = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Linear(15, 4), nn.Linear(14, 4), linear)
    picture = kernels(network)  # 15 is three times 5, which is no square
    assert picture.shape == (5, 3, 2, 2)
    assert (picture[-1] == 0.5).all(), "the weakest is the last"
    assert picture[:-1].amax() <= 1
    assert picture.amin() >= 0
