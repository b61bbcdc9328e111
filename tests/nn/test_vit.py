"""The teaching vision transformer: torch's own block, lightly's positions, and sizes it was not trained at."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gadkit.nn import ViT, patchify, sincos_positions
from gadkit.nn.vit import Block


@pytest.fixture
def vit() -> ViT:
    """A small one with larger weights than at the start, so that differences show."""
    network = ViT(image_size=32, patch_size=8, width=32, depth=3, heads=2)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return network.eval()


@pytest.fixture
def pictures() -> torch.Tensor:
    """Noise at the small network's size: (2, 3, 32, 32)."""
    return torch.randn(2, 3, 32, 32)


def test_positions_are_lightlys() -> None:
    from lightly.models.utils import get_2d_sincos_pos_embed

    reference = torch.from_numpy(get_2d_sincos_pos_embed(24, 5, cls_token=False)).float()
    torch.testing.assert_close(sincos_positions(5, 5, 24), reference, rtol=1e-6, atol=1e-6)


def test_positions_are_what_their_formula_says() -> None:
    """[sin x, cos x, sin y, cos y], which timm and MoCo v3 order otherwise; the grid is not square."""
    rows, columns, width = 3, 4, 16
    y, x = (torch.arange(rows * columns) // columns).double(), (torch.arange(rows * columns) % columns).double()
    waves = [wave(c * 10000 ** (-i / 4)) for c in (x, y) for wave in (torch.sin, torch.cos) for i in range(4)]
    expected = torch.stack(waves, 1).float()
    torch.testing.assert_close(sincos_positions(rows, columns, width), expected, rtol=1e-6, atol=1e-7)


def test_a_finer_grid_spans_the_range_of_a_coarser_one() -> None:
    coarse, fine = sincos_positions(4, 4, 32), sincos_positions(8, 8, 32, scale=0.5)
    at = torch.arange(8).double() / 2 - 0.25  # four fine patches lie round the centre of a coarse one
    expected = torch.stack([at.sin(), at.cos()], 1).float()  # the waves of frequency 1 along x
    torch.testing.assert_close(fine.view(8, 8, 32)[3][:, [0, 8]], expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(coarse.view(4, 4, 32)[2, :, 0], torch.arange(4.0).sin())
    network = ViT(image_size=64, patch_size=8, width=32, heads=2)
    assert torch.equal(network.position((12, 12)), sincos_positions(12, 12, 32, scale=8 / 12))


@pytest.mark.parametrize("side", [2, 4, 12, 16])
def test_both_kinds_of_positions_lie_at_the_same_places(side: int) -> None:
    """A learnt table that holds its own coordinates is stretched to the coordinates that the waves are made of."""
    network = ViT(image_size=64, patch_size=8, width=4, heads=1, depth=1, positions="learnt")
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    with torch.no_grad():
        network.positions.copy_(torch.stack([x, y, x, y], -1).flatten(0, 1)[None])
    at = network.position((side, side)).view(side, side, 4)[side // 2, 1:-1, 0].double()  # the rim is clamped
    waves = sincos_positions(side, side, 4, 8 / side).view(side, side, 4)[side // 2, 1:-1]
    inner = (at >= 1) & (at <= 6)  # where the cubic has all four of its points, which bend a line a little
    torch.testing.assert_close(waves[inner, 0], at[inner].sin().float(), rtol=0, atol=0.06)


def test_a_block_is_torchs_pre_norm_encoder_layer() -> None:
    block = Block(24, 3)
    reference = nn.TransformerEncoderLayer(24, 3, 96, 0.0, "gelu", batch_first=True, norm_first=True)
    names = {
        "self_attn.in_proj_": "qkv.",
        "self_attn.out_proj.": "proj.",
        "linear1.": "mlp.0.",
        "linear2.": "mlp.2.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    ours = dict(block.named_parameters())
    reference.load_state_dict({a + end: ours[b + end] for a, b in names.items() for end in ("weight", "bias")})
    x = torch.randn(2, 7, 24)
    torch.testing.assert_close(block(x), reference(x), rtol=1e-5, atol=1e-5)


def test_the_default_is_small_and_starts_as_papers_do() -> None:
    network = ViT()
    assert sum(p.numel() for p in network.parameters()) == 1_214_720
    weights = torch.cat([m.weight.flatten() for m in network.modules() if isinstance(m, nn.Linear)])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    assert all((m.bias == 0).all() for m in network.modules() if isinstance(m, nn.Linear))
    assert network(torch.randn(1, 3, 64, 64)).shape == (1, 65, 128)


def test_patches_are_embedded_as_a_strided_convolution_would(vit: ViT, pictures: torch.Tensor) -> None:
    kernel = vit.patch.weight.view(32, 8, 8, 3).permute(0, 3, 1, 2)  # (w, 3, p, p)
    expected = F.conv2d(pictures, kernel, vit.patch.bias, stride=8).flatten(2).mT + sincos_positions(4, 4, 32)
    torch.testing.assert_close(vit.embed(pictures)[:, 1:], expected, rtol=1e-5, atol=1e-5)


def test_prefix_tokens_come_first_and_do_not_depend_on_the_image(pictures: torch.Tensor) -> None:
    network = ViT(image_size=32, patch_size=8, width=32, depth=2, heads=2, registers=4)
    assert network.prefix == 5
    tokens = network.embed(pictures)
    assert tokens.shape == (2, 5 + 16, 32)
    assert torch.equal(tokens[0, :5], torch.cat([network.cls, network.registers], 1)[0])
    assert torch.equal(tokens[0, :5], tokens[1, :5])
    assert len(network.registers[0].unique(dim=0)) == 4  # registers that start alike would stay alike


def test_every_way_through_gives_the_same_tokens(vit: ViT, pictures: torch.Tensor) -> None:
    outputs, tokens = vit.blocks_out(pictures), vit.embed(pictures)
    assert torch.equal(outputs[-1], vit(pictures))
    assert torch.equal(vit.run(tokens, (0, -2))[1], outputs[1])
    for block, output in zip(vit.blocks, outputs[:-1], strict=False):
        tokens = block(tokens)
        assert torch.equal(tokens, output)
    assert torch.equal(vit.norm(vit.blocks[-1](tokens)), outputs[-1])


def test_attention_is_a_distribution_and_mixes_what_the_last_block_sees(vit: ViT, pictures: torch.Tensor) -> None:
    look = vit.attention(pictures)
    assert look.shape == (2, 2, 17, 17)
    torch.testing.assert_close(look.sum(3), torch.ones(2, 2, 17))
    x, block = vit.blocks_out(pictures)[1], vit.blocks[-1]
    values = block.qkv(block.norm1(x))[..., 64:].unflatten(2, (2, 16)).transpose(1, 2)
    y = x + block.proj((look @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(vit.norm(y + block.mlp(block.norm2(y))), vit(pictures), rtol=1e-5, atol=1e-5)


def test_without_positions_patches_may_come_in_any_order(vit: ViT) -> None:
    order, tokens = torch.randperm(16), torch.randn(2, 17, 32)
    shuffled = torch.cat([tokens[:, :1], tokens[:, 1:][:, order]], 1)
    whole = vit.run(tokens)
    torch.testing.assert_close(vit.run(shuffled)[:, 1:], whole[:, 1:][:, order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vit.run(shuffled)[:, 0], whole[:, 0], rtol=1e-4, atol=1e-5)


def test_keep_leaves_patches_with_the_positions_they_had(vit: ViT, pictures: torch.Tensor) -> None:
    keep = torch.tensor([[3, 0, 11], [15, 2, 4]])
    whole, some = vit.embed(pictures), vit.embed(pictures, keep=keep)
    assert some.shape == (2, 4, 32)
    assert torch.equal(some[:, 0], whole[:, 0])
    assert torch.equal(some[0, 1:], whole[0, 1:][keep[0]])
    assert torch.equal(some[1, 1:], whole[1, 1:][keep[1]])


def test_a_swapped_patch_tells_where_it_was_and_nothing_else(vit: ViT, pictures: torch.Tensor) -> None:
    swap, token = torch.rand(2, 16) < 0.5, torch.randn(32)
    whole, swapped = vit.embed(pictures), vit.embed(pictures, swap=swap, token=token)
    expected = (token + vit.position((4, 4))).expand(2, -1, -1)
    assert torch.equal(swapped[:, 1:][swap], expected[swap])
    assert torch.equal(swapped[:, 1:][~swap], whole[:, 1:][~swap])


@pytest.mark.parametrize("positions", ["sincos", "learnt"])
def test_other_sizes_work_square_or_not(positions: str) -> None:
    network = ViT(image_size=32, patch_size=8, width=32, depth=1, heads=2, positions=positions)
    for height, width in ((32, 32), (48, 48), (16, 40)):
        assert network(torch.randn(1, 3, height, width)).shape == (1, 1 + height * width // 64, 32)


def test_learnt_positions_are_stretched_bicubically() -> None:
    network = ViT(image_size=32, patch_size=8, width=32, depth=1, heads=2, positions="learnt")
    assert torch.equal(network.position((4, 4)), network.positions[0])
    table = network.positions[0].view(4, 4, 32).permute(2, 0, 1)[None]
    expected = F.interpolate(table, (6, 5), mode="bicubic")[0].permute(1, 2, 0).reshape(30, 32)
    assert torch.equal(network.position((6, 5)), expected)
    with torch.no_grad():
        network.positions.fill_(0.7)
    torch.testing.assert_close(network.position((6, 6)), torch.full((36, 32), 0.7))


@pytest.mark.parametrize(("positions", "registers"), [("sincos", 0), ("learnt", 2)])
def test_every_weight_learns(positions: str, registers: int) -> None:
    network = ViT(32, 8, 32, 2, 2, positions, registers)
    (network(torch.randn(2, 3, 32, 32)) * torch.randn(32)).sum().backward()
    still = [n for n, p in network.named_parameters() if p.numel() and (p.grad is None or not p.grad.any())]
    assert not still


def test_its_config_builds_it_again(vit: ViT, pictures: torch.Tensor) -> None:
    twin = ViT(**vit.config).eval()
    twin.load_state_dict(vit.state_dict())
    assert torch.equal(twin(pictures), vit(pictures))


@pytest.mark.usefixtures("untyped")
def test_impossible_networks_and_images_are_refused(vit: ViT) -> None:
    with pytest.raises(ValueError, match="expected image_size a multiple of patch_size"):
        ViT(image_size=60)
    with pytest.raises(ValueError, match="positions: expected one of sincos, learnt, got 'rotary'"):
        ViT(positions="rotary")
    with pytest.raises(ValueError, match="width: expected a multiple of 4, got 6"):
        sincos_positions(2, 2, 6)
    with pytest.raises(ValueError, match="multiples of 8"):
        vit(torch.randn(1, 3, 36, 32))


def test_a_patch_reaches_the_encoder_as_patchify_cut_it(vit: ViT, pictures: torch.Tensor) -> None:
    """A change of one patch changes one embedded token, the one of its number."""
    patches = patchify(pictures, 8)
    other = pictures.clone()
    other[0, :, 8:16, 16:24] += 1
    changed = (vit.embed(other) != vit.embed(pictures)).any(2)
    assert changed.nonzero().tolist() == [[0, 1 + 6]]
    assert (patchify(other, 8) != patches).any(2).nonzero().tolist() == [[0, 6]]
