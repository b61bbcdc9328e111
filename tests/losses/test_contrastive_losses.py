"""The contrastive losses: their known values, their laws, and independent implementations."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from gadkit.losses import byol_loss, clip_loss, info_nce, mae_loss, nt_xent, siglip_loss


def pair(n: int = 12, d: int = 7, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, n, d, generator=generator, dtype=torch.float64))


def literal_nt_xent(z0: torch.Tensor, z1: torch.Tensor, temperature: float) -> float:
    """Equation 1 of Chen et al. 2020 in two loops."""
    z = [v / v.norm() for v in (*z0, *z1)]
    n, losses = len(z0), []
    for i in range(2 * n):
        partner = i + n if i < n else i - n
        similar = [math.exp(float(z[i] @ z[k]) / temperature) for k in range(2 * n)]
        losses.append(-math.log(similar[partner] / (sum(similar) - similar[i])))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_nt_xent_is_its_definition(temperature: float) -> None:
    assert nt_xent(*pair(), temperature).item() == pytest.approx(literal_nt_xent(*pair(), temperature), rel=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_agrees_with_two_libraries(temperature: float) -> None:
    from lightly.loss import NTXentLoss
    from pytorch_metric_learning.losses import NTXentLoss as Metric

    z0, z1 = pair()
    ours = nt_xent(z0, z1, temperature)
    assert torch.allclose(ours, NTXentLoss(temperature=temperature)(z0, z1), rtol=1e-6)
    labels = torch.arange(len(z0)).repeat(2)
    assert torch.allclose(ours, Metric(temperature=temperature)(torch.cat([z0, z1]), labels), rtol=1e-6)


@given(n=st.integers(2, 40), temperature=st.floats(0.05, 2))
def test_nt_xent_of_the_collapsed_and_of_the_perfect(n: int, temperature: float) -> None:
    flat = torch.ones(n, 3)
    assert nt_xent(flat, flat, temperature).item() == pytest.approx(math.log(2 * n - 1), rel=1e-4)
    eye = torch.eye(n)
    perfect = math.log1p((2 * n - 2) * math.exp(-1 / temperature))
    assert nt_xent(eye, eye, temperature).item() == pytest.approx(perfect, rel=1e-4, abs=1e-6)


@given(seed=st.integers(0, 999))
def test_nt_xent_does_not_see_order_or_length(seed: int) -> None:
    z0, z1 = pair(seed=seed)
    value = nt_xent(z0, z1)
    assert torch.allclose(value, nt_xent(z1, z0), rtol=1e-9)
    lengths = torch.rand(2, len(z0), 1, generator=torch.Generator().manual_seed(seed)) + 0.1
    assert torch.allclose(value, nt_xent(z0 * lengths[0], z1 * lengths[1]), rtol=1e-9)


def test_info_nce_is_mocos_cross_entropy() -> None:
    q, k = pair()
    losses = []
    for i in range(len(q)):  # algorithm 1 of Chen, Xie and He 2021, a row at a time
        logits = torch.stack([F.cosine_similarity(q[i], key, dim=0) for key in k]) / 0.2
        losses.append(-logits.log_softmax(0)[i])
    assert torch.allclose(info_nce(q, k, 0.2), 2 * 0.2 * torch.stack(losses).mean(), rtol=1e-6)
    flat = torch.ones(8, 3)
    assert info_nce(flat, flat, 0.2).item() == pytest.approx(0.4 * math.log(8), rel=1e-5)


def test_byol_agrees_with_lightly_and_spares_the_target() -> None:
    from lightly.loss import NegativeCosineSimilarity

    p, z = (x.requires_grad_() for x in pair())
    loss = byol_loss(p, z)
    assert torch.allclose(loss, 2 + 2 * NegativeCosineSimilarity()(p, z.detach()), rtol=1e-6)
    loss.backward()
    assert p.grad is not None
    assert z.grad is None
    assert byol_loss(p, 3 * p).item() == pytest.approx(0, abs=1e-5)
    assert byol_loss(p, -p).item() == pytest.approx(4, abs=1e-5)


def test_clip_agrees_with_open_clip() -> None:
    from open_clip.loss import ClipLoss

    a, b = (F.normalize(x, dim=1) for x in pair())
    scale = torch.tensor(14.3, dtype=torch.float64)
    assert torch.allclose(clip_loss(a, b, scale), ClipLoss()(a, b, scale), rtol=1e-6)
    assert torch.allclose(clip_loss(a, b, scale), clip_loss(b, a, scale))
    eye = torch.eye(6)
    assert clip_loss(eye, eye, 3.0).item() == pytest.approx(math.log1p(5 * math.exp(-3)), rel=1e-5)


def test_siglip_agrees_with_open_clip() -> None:
    from open_clip.loss import SigLipLoss

    a, b = (F.normalize(x, dim=1) for x in pair())
    scale, bias = torch.tensor(10.0), torch.tensor(-10.0)
    assert torch.allclose(siglip_loss(a, b, scale, bias), SigLipLoss()(a, b, scale, bias), rtol=1e-6)
    eye, other = torch.eye(8)[:4], torch.eye(8)[4:]  # all pairs orthogonal
    expected = -F.logsigmoid(bias) - 3 * F.logsigmoid(-bias)
    assert torch.allclose(siglip_loss(eye, other, scale, bias), expected, rtol=1e-5)


def test_siglip_agrees_with_transformers() -> None:
    from transformers import SiglipConfig, SiglipModel

    tiny = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    text, vision = tiny | {"vocab_size": 20, "max_position_embeddings": 4}, tiny | {"image_size": 16, "patch_size": 8}
    reference = SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).double().eval()
    with torch.no_grad():
        reference.logit_bias.fill_(-3)
        words, pictures = torch.randint(0, 20, (5, 4)), torch.randn(5, 3, 16, 16, dtype=torch.float64)
        theirs = reference(input_ids=words, pixel_values=pictures, return_loss=True)
        scale, bias = reference.logit_scale[0].exp(), reference.logit_bias[0]
        ours = siglip_loss(theirs.image_embeds, theirs.text_embeds, scale, bias)
    assert torch.allclose(ours, theirs.loss, rtol=1e-6)


class TestMaskedPixels:
    """MAE's loss."""

    @pytest.mark.parametrize("norm_pix", [False, True])
    def test_it_agrees_with_transformers(self, norm_pix: bool) -> None:
        from transformers import ViTMAEConfig, ViTMAEForPreTraining

        tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        tiny |= {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
        config = ViTMAEConfig(**tiny, decoder_intermediate_size=16, image_size=32, patch_size=8, norm_pix_loss=norm_pix)
        reference, pictures = ViTMAEForPreTraining(config).double().eval(), torch.rand(3, 3, 32, 32).double()
        with torch.no_grad():
            theirs = reference(pictures, noise=torch.rand(3, 16))
            target = reference.patchify(pictures)
            ours = mae_loss(theirs.logits, target, theirs.mask, norm_pix)
        assert torch.allclose(ours, theirs.loss, rtol=1e-6)

    @given(seed=st.integers(0, 99))
    def test_only_what_is_hidden_counts(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        prediction, target = torch.randn(2, 3, 5, 12, generator=generator)
        mask = (torch.rand(3, 5, generator=generator) < 0.6).float()
        mask[0, 0] = 1
        noise = torch.randn(3, 5, 12, generator=generator) * (1 - mask)[..., None]
        for norm_pix in (False, True):
            value = mae_loss(prediction, target, mask, norm_pix)
            assert torch.allclose(value, mae_loss(prediction + noise, target, mask, norm_pix), rtol=1e-5)

    def test_predicting_nothing_costs_almost_one(self) -> None:
        target, mask = torch.randn(4, 9, 192), torch.ones(4, 9)
        assert mae_loss(torch.zeros_like(target), target, mask).item() == pytest.approx(191 / 192, rel=1e-4)
        assert mae_loss(target, target, mask, norm_pix=False).item() == 0


def test_half_precision_inside_autocast_changes_nothing() -> None:
    z0, z1 = pair(64, 32)
    expected = nt_xent(z0, z1, 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nt_xent(z0, z1, 0.05), expected)
        assert nt_xent(z0.bfloat16(), z1.bfloat16(), 0.05).dtype == torch.float32
