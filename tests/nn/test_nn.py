"""The teaching networks: positions, patches, the transformer, heads and teachers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gadkit.nn import (
    DINOHead,
    Prototypes,
    ViT,
    cosine_momentum,
    ema_update,
    mlp,
    patchify,
    sincos_positions,
    teacher_of,
    unpatchify,
)


@given(rows=st.integers(1, 5), columns=st.integers(1, 5), patch=st.sampled_from([1, 2, 4]))
def test_patches_are_cut_row_by_row_and_put_back(rows: int, columns: int, patch: int) -> None:
    images = torch.randn(2, 3, rows * patch, columns * patch)
    patches = patchify(images, patch)
    for n in range(rows * columns):
        y, x = divmod(n, columns)
        part = images[:, :, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch]
        assert torch.equal(patches[:, n], part.permute(0, 2, 3, 1).flatten(1))
    assert torch.equal(unpatchify(patches, patch, (rows, columns)), images)


def test_patches_agree_with_transformers() -> None:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    small = {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    config = ViTMAEConfig(image_size=16, patch_size=4, decoder_intermediate_size=8, **sizes, **small)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(patchify(images, 4), ViTMAEForPreTraining(config).patchify(images))


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: patchify(torch.zeros(1, 3, 9, 8), 4), "multiples of 4, got"),
        (lambda: unpatchify(torch.zeros(1, 4, 12), 2, (2, 3)), r"\(b, 6, 12\), got \(1, 4, 12\)"),
        (lambda: sincos_positions(2, 2, 6), "multiple of 4, got 6"),
        (lambda: ViT(positions="rotary"), "sincos or learnt, got 'rotary'"),
        (lambda: ViT(image_size=60), "image_size a multiple of patch_size"),
        (lambda: ema_update(nn.Linear(1, 1), nn.Linear(1, 1), 1.5), "from 0 to 1, got 1.5"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


class TestPositions:
    """Waves along x and y."""

    def test_one_position_by_hand(self) -> None:
        table = sincos_positions(3, 4, 8)
        x, y, omega = 2.0, 1.0, (1.0, 10000 ** (-1 / 2))
        expected = [f(c * o) for c in (x, y) for f in (math.sin, math.cos) for o in omega]
        assert torch.allclose(table[1 * 4 + 2], torch.tensor(expected), atol=1e-6)

    def test_they_agree_with_lightly(self) -> None:
        from lightly.models.utils import get_2d_sine_cosine_positional_embedding as theirs

        expected = torch.as_tensor(theirs(16, 5, cls_token=True)).float()
        assert (expected[0] == 0).all()
        assert torch.allclose(sincos_positions(5, 5, 16), expected[1:], atol=1e-6)

    def test_a_finer_grid_spans_the_same_range(self) -> None:
        fine, coarse = sincos_positions(12, 12, 16, scale=8 / 12), sincos_positions(8, 8, 16)
        assert torch.allclose(fine[3 * 12 + 6], coarse[2 * 8 + 4], atol=1e-6)


class TestViT:
    """The small vision transformer."""

    def test_its_size_and_shapes(self) -> None:
        vit = ViT(registers=2)
        assert 1.1e6 < sum(p.numel() for p in vit.parameters()) < 1.3e6
        images = torch.randn(2, 3, 64, 96)
        assert vit(images).shape == (2, 3 + 8 * 12, 128)
        outs = vit.blocks_out(images)
        assert len(outs) == 6
        assert torch.equal(outs[-1], vit(images))
        attention = vit.attention(images[:, :, :64, :64])
        assert attention.shape == (2, 4, 67, 67)
        assert torch.allclose(attention.sum(3), torch.ones(2, 4, 67), atol=1e-5)

    def test_a_block_is_pytorchs_transformer_layer(self) -> None:
        vit = ViT(width=32, heads=2, depth=1)
        block = vit.blocks[0]
        theirs = nn.TransformerEncoderLayer(32, 2, 128, 0.0, "gelu", batch_first=True, norm_first=True)
        theirs.load_state_dict(
            {
                "self_attn.in_proj_weight": block.qkv.weight,
                "self_attn.in_proj_bias": block.qkv.bias,
                "self_attn.out_proj.weight": block.proj.weight,
                "self_attn.out_proj.bias": block.proj.bias,
                "linear1.weight": block.mlp[0].weight,
                "linear1.bias": block.mlp[0].bias,
                "linear2.weight": block.mlp[2].weight,
                "linear2.bias": block.mlp[2].bias,
                **{f"norm{i}.{n}": getattr(getattr(block, f"norm{i}"), n) for i in (1, 2) for n in ("weight", "bias")},
            }
        )
        x = torch.randn(3, 5, 32)
        assert torch.allclose(block(x), theirs(x), atol=1e-5)

    def test_kept_patches_are_those_asked_for(self) -> None:
        vit = ViT(width=32, heads=2, depth=1)
        images, keep = torch.randn(2, 3, 64, 64), torch.tensor([[5, 0], [63, 7]])
        whole, some = vit.embed(images), vit.embed(images, keep=keep)
        assert torch.equal(some[:, 1:], torch.stack([whole[i, 1 + keep[i]] for i in range(2)]))

    def test_a_swapped_patch_keeps_its_position_and_nothing_else(self) -> None:
        vit = ViT(width=32, heads=2, depth=1)
        images, other = torch.randn(2, 2, 3, 64, 64)
        swap = torch.zeros(2, 64, dtype=torch.bool)
        swap[:, 9] = True
        a, b = (vit.embed(x, swap=swap, token=torch.ones(32)) for x in (images, other))
        assert torch.equal(a[:, 10], b[:, 10])
        assert torch.allclose(a[0, 10], torch.ones(32) + vit.position((8, 8))[9])
        assert not torch.equal(a[:, 11], b[:, 11])

    def test_learnt_positions_stretch(self) -> None:
        vit = ViT(width=32, heads=2, depth=1, positions="learnt")
        assert torch.equal(vit.position((8, 8)), vit.positions[0])
        assert vit(torch.randn(1, 3, 96, 96)).shape == (1, 145, 32)


class TestTeachers:
    """Copies that follow."""

    def test_the_average_is_pytorchs(self) -> None:
        student = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        teacher = teacher_of(student)
        theirs = torch.optim.swa_utils.AveragedModel(
            student, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=False
        )
        theirs.update_parameters(student)  # the first call copies
        for _ in range(5):
            with torch.no_grad():
                for p in student.parameters():
                    p.add_(torch.randn_like(p))
            student(torch.randn(8, 3))  # moves the statistics
            ema_update(teacher, student, 0.9)
            theirs.update_parameters(student)
        for a, b in zip(teacher.parameters(), theirs.module.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-6)
        assert torch.equal(teacher[1].running_mean, student[1].running_mean)
        assert not any(p.requires_grad for p in teacher.parameters())

    @given(m=st.floats(0, 1), t=st.integers(1, 20))
    def test_towards_a_constant(self, m: float, t: int) -> None:
        teacher, student = nn.Linear(1, 1, bias=False).double(), nn.Linear(1, 1, bias=False).double()
        nn.init.constant_(teacher.weight, 3.0)
        nn.init.constant_(student.weight, -1.0)
        for _ in range(t):
            ema_update(teacher, student, m)
        assert teacher.weight.item() == pytest.approx(m**t * 3 + (1 - m**t) * -1, abs=1e-9)

    @given(base=st.floats(0.5, 0.999), progress=st.floats(0, 0.999))
    def test_the_schedule_rises_and_reaches_one_at_the_end_only(self, base: float, progress: float) -> None:
        assert cosine_momentum(0.0, base) == pytest.approx(base)
        assert base - 1e-12 <= cosine_momentum(progress, base) < 1
        assert cosine_momentum(progress, base) <= cosine_momentum(progress + 0.001, base) + 1e-12
        assert cosine_momentum(1.0, base) == 1


class TestHeads:
    """What is thrown away afterwards."""

    def test_layers_and_norms(self) -> None:
        head = mlp((8, 16, 4), last_norm=True)
        assert [type(layer).__name__ for layer in head] == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
        assert head[-1].weight is None
        assert [type(layer).__name__ for layer in mlp((8, 16, 4), norm=False)] == ["Linear", "ReLU", "Linear"]

    def test_prototypes_are_compared_by_cosine(self) -> None:
        prototypes = Prototypes(5, 3)
        with torch.no_grad():
            prototypes.weight.mul_(7)
        prototypes.normalise()
        z = torch.randn(4, 5)
        assert torch.allclose(prototypes.weight.norm(dim=1), torch.ones(3))
        assert torch.allclose(prototypes(z), torch.cosine_similarity(z[:, None], prototypes.weight, dim=2), atol=1e-6)

    def test_dinos_logits_are_cosines(self) -> None:
        head = DINOHead(8, prototypes=6)
        logits = head(100 * torch.randn(4, 9, 8))
        assert logits.shape == (4, 9, 6)
        assert logits.abs().max() <= 1 + 1e-5
