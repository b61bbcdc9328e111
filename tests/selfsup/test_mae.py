"""MAE: its masks, the whole method, and its pictures."""

import math
from collections.abc import Callable

import pytest
import torch

from gadkit.nn import patchify, sincos_positions
from gadkit.selfsup import MAE
from gadkit.selfsup.mae import random_masking


@pytest.fixture
def make(small: Callable) -> Callable:
    """A function that makes a small masked autoencoder."""
    return lambda **options: MAE(small(), width=24, depth=1, heads=2, **options)


def as_transformers(mae: MAE, patch: int) -> dict[str, torch.Tensor]:
    """A state of our masked autoencoder by the names of transformers' one."""
    vit = mae.encoder
    kernel = vit.patch.weight.unflatten(1, (patch, patch, 3)).permute(0, 3, 1, 2)
    state = {
        "vit.embeddings.cls_token": vit.cls,
        "vit.embeddings.patch_embeddings.projection.weight": kernel,
        "vit.embeddings.patch_embeddings.projection.bias": vit.patch.bias,
        "decoder.mask_token": mae.mask_token,
    }
    tables = {"vit.embeddings.position_embeddings": vit.width, "decoder.decoder_pos_embed": mae.embed.out_features}
    for name, width in tables.items():  # a class token's position is zero
        state[name] = torch.cat([torch.zeros(1, width), sincos_positions(4, 4, width)])[None]
    modules = {"vit.layernorm": vit.norm, "decoder.decoder_embed": mae.embed}
    modules |= {"decoder.decoder_norm": mae.paint[0], "decoder.decoder_pred": mae.paint[1]}
    blocks = {f"vit.layers.{i}": block for i, block in enumerate(vit.blocks)}
    blocks |= {f"decoder.decoder_layers.{i}": block for i, block in enumerate(mae.decoder)}
    for name, block in blocks.items():
        parts = {"attention.o_proj": block.proj, "layernorm_before": block.norm1, "layernorm_after": block.norm2}
        parts |= {"mlp.fc1": block.mlp[0], "mlp.fc2": block.mlp[2]}
        modules |= {f"{name}.{part}": module for part, module in parts.items()}
        for kind in ("weight", "bias"):
            for part, piece in zip("qkv", getattr(block.qkv, kind).chunk(3), strict=True):
                state[f"{name}.attention.{part}_proj.{kind}"] = piece
    return state | {f"{name}.{kind}": getattr(m, kind) for name, m in modules.items() for kind in ("weight", "bias")}


@pytest.mark.parametrize(("patches", "kept"), [(196, 49), (49, 12), (64, 16)])
def test_masking_agrees_with_transformers(patches: int, kept: int) -> None:
    from transformers import ViTMAEConfig
    from transformers.models.vit_mae.modeling_vit_mae import ViTMAEEmbeddings

    noise = torch.rand(3, patches)
    theirs = ViTMAEEmbeddings(ViTMAEConfig(mask_ratio=0.75, hidden_size=8))
    tokens = torch.randn(3, patches, 8)
    visible, mask, restore = theirs.random_masking(tokens, noise)
    keep, our_mask, our_restore = random_masking(3, patches, 0.75, noise)
    assert keep.shape == (3, kept)
    assert torch.equal(mask, our_mask)
    assert torch.equal(restore, our_restore)
    assert torch.equal(visible, torch.gather(tokens, 1, keep[..., None].expand(-1, -1, 8)))
    shuffle = noise.argsort(1)
    assert torch.equal(torch.gather(shuffle, 1, our_restore), torch.arange(patches).expand(3, -1))


@pytest.mark.parametrize("norm_pix", [True, False])
def test_the_whole_method_agrees_with_transformers(make: Callable, norm_pix: bool) -> None:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    ours = make(norm_pix=norm_pix).eval()
    encoder = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    decoder = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 96}
    decoder = {f"decoder_{key}": value for key, value in decoder.items()}
    sizes = {"image_size": 32, "patch_size": 8, "norm_pix_loss": norm_pix, "layer_norm_eps": 1e-5}
    theirs = ViTMAEForPreTraining(ViTMAEConfig(**encoder, **decoder, **sizes)).eval()
    theirs.load_state_dict(as_transformers(ours, theirs.config.patch_size))
    images = torch.randn(2, 3, 32, 32)
    torch.manual_seed(1)
    noise = torch.rand(2, 16)
    prediction, mask = ours(images, noise)
    output = theirs(images, noise=noise)
    assert torch.equal(mask, output.mask)
    assert torch.allclose(prediction, output.logits, atol=1e-5)
    torch.manual_seed(1)  # the same noise, drawn by the method itself
    assert torch.allclose(ours.loss([images]), output.loss, rtol=1e-5)


def test_hidden_patches_do_not_reach_the_encoder(make: Callable) -> None:
    method = make()
    view, noise = torch.randn(2, 3, 32, 32), torch.rand(2, 16)
    hidden = random_masking(2, 16, 0.75, noise)[1].bool()
    other = view.clone()
    for i in range(2):
        for n in hidden[i].nonzero()[:, 0].tolist():
            y, x = divmod(n, 4)
            other[i, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = torch.randn(3, 8, 8)
    assert torch.allclose(method(view, noise)[0], method(other, noise)[0], atol=1e-6)


def test_pictures_keep_what_was_visible(make: Callable) -> None:
    method, view, noise = make(), torch.randn(2, 3, 32, 32), torch.rand(2, 16)
    visible = random_masking(2, 16, 0.75, noise)[1] == 0
    seen, painted, undone = (patchify(p, 8) for p in method.reconstruct(view, noise))
    truth = patchify(view, 8)
    for picture in (seen, painted, undone):
        assert torch.equal(picture[visible], truth[visible])
    assert (seen[~visible] == 0).all()
    spread = truth.std(2, keepdim=True)
    expected = painted * (spread**2 + 1e-6).sqrt() + truth.mean(2, keepdim=True)
    assert torch.allclose(undone[~visible], expected[~visible], atol=1e-5)


def test_plain_pixels_are_painted_as_they_are(make: Callable) -> None:
    _, painted, undone = make(norm_pix=False).reconstruct(torch.randn(2, 3, 32, 32))
    assert torch.equal(painted, undone)


def test_nothing_left_to_see_is_an_error() -> None:
    with pytest.raises(ValueError, match="keeps some of 4 patches"):
        random_masking(1, 4, 0.9)


@pytest.mark.parametrize("side", [2, 4, 6])
def test_the_decoder_places_patches_as_the_encoder_does(side: int, make: Callable) -> None:
    """A picture of another size covers the area that the network was trained on, its patches centred."""
    mae = make()
    mae.decoder, mae.paint = torch.nn.ModuleList(), torch.nn.Identity()
    n, width = side * side, mae.embed.out_features
    with torch.no_grad():
        mae.mask_token.zero_()
        placed = mae.decode(torch.zeros(1, 1, width), torch.arange(n)[None], (side, side))
    torch.testing.assert_close(placed[0], sincos_positions(side, side, width, 4 / side))


@pytest.mark.parametrize(("ratio", "kept"), [(0.75, 1), (0.5, 2), (0.4, 2), (0.25, 3)])
def test_what_stays_by_hand(ratio: float, kept: int) -> None:
    noise = torch.tensor([[0.3, 0.1, 0.9, 0.2]])
    keep, mask, restore = random_masking(1, 4, ratio, noise)
    assert keep.tolist() == [[1, 3, 0, 2][:kept]]
    assert restore.tolist() == [[2, 0, 3, 1]]
    assert mask.tolist() == [[float(place >= kept) for place in (2, 0, 3, 1)]]
    for all_or_nothing in (0.0, 0.8):
        with pytest.raises(ValueError, match="keeps some of 4 patches"):
            random_masking(1, 4, all_or_nothing)


def test_what_is_visible_lies_where_it_was(make: Callable) -> None:
    method, view = make(), torch.randn(1, 3, 24, 24)
    prediction, mask = method(view)
    assert (prediction.shape, mask.shape, mask.sum()) == ((1, 9, 192), (1, 9), 7)
    visible = method.reconstruct(view, torch.tensor([[5.0, 1, 6, 7, 3, 8, 9, 2, 4]]))[0]  # patches 1 and 7 of 9 stay
    assert torch.equal(visible[..., :8, 8:16], view[..., :8, 8:16])
    assert torch.equal(visible[..., 16:, 8:16], view[..., 16:, 8:16])
    assert not visible[..., :8].any()
    assert not visible[..., 8:16, :].any()
    assert not visible[..., 16:].any()


def test_the_start_and_the_views(small: Callable) -> None:
    method = MAE(small(), width=4096, depth=0, heads=1)
    assert float(method.mask_token.detach().std()) == pytest.approx(0.02, rel=0.05)
    view = MAE(small()).view
    assert (view.size, view.scale, view.strength) == (32, (0.2, 1.0), 0.0)


def test_collapse_is_every_patch_in_its_mean(make: Callable) -> None:
    assert make().collapse(16) == pytest.approx(191 / 192)  # 3 x 8 x 8 numbers a patch
    assert math.isnan(make(norm_pix=False).collapse(16))
