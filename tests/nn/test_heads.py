"""Heads: where they normalise, and what that makes of their outputs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gadkit.nn import DINOHead, Prototypes, mlp
from gadkit.nn.heads import BatchNorm


def test_an_mlp_normalises_between_its_layers_and_after_the_last_if_asked() -> None:
    kinds = [type(layer) for layer in mlp([8, 6, 6, 4])]
    hidden = [nn.Linear, BatchNorm, nn.ReLU]
    assert kinds == [*hidden, *hidden, nn.Linear]
    assert [type(layer) for layer in mlp([8, 6, 4], last_norm=True)] == [*hidden, nn.Linear, BatchNorm]
    assert [type(layer) for layer in mlp([8, 6, 4], norm=False)] == [nn.Linear, nn.ReLU, nn.Linear]


def test_a_last_norm_leaves_columns_of_mean_0_and_deviation_1() -> None:
    head = mlp([8, 6, 4], last_norm=True)
    z = head(5 + 3 * torch.randn(4096, 8))
    torch.testing.assert_close(z.mean(0), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(4), rtol=0, atol=1e-3)
    assert head[-1].weight is None


def test_no_layer_has_a_bias_that_a_norm_takes_away() -> None:
    assert [layer.bias is not None for layer in mlp([8, 6, 6, 4]) if isinstance(layer, nn.Linear)] == [0, 0, 1]


def test_prototypes_give_cosines() -> None:
    prototypes, z = Prototypes(8, 5), torch.randn(3, 8)
    expected = F.cosine_similarity(z[:, None], prototypes.weight[None], dim=2)
    torch.testing.assert_close(prototypes(z), expected)
    torch.testing.assert_close(prototypes(7 * z), prototypes(z))


def test_prototypes_return_to_length_1_after_a_step() -> None:
    prototypes = Prototypes(8, 5)
    optimiser = torch.optim.SGD(prototypes.parameters(), lr=1.0)
    prototypes(torch.randn(3, 8)).square().sum().backward()
    optimiser.step()
    moved = prototypes.weight.detach().clone()
    assert (moved.norm(dim=1) - 1).abs().max() > 1e-3
    prototypes.normalise()
    torch.testing.assert_close(prototypes.weight.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(F.cosine_similarity(prototypes.weight, moved), torch.ones(5))


def test_dinos_logits_are_cosines_with_prototypes_whatever_their_length() -> None:
    head, x = DINOHead(16, prototypes=32, bottleneck=8), torch.randn(4, 9, 16)
    logits = head(x)
    assert logits.shape == (4, 9, 32)
    expected = F.cosine_similarity(head.mlp(x)[..., None, :], head.direction, dim=-1)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        head.direction.mul_(torch.rand(32, 1) + 0.5)
    torch.testing.assert_close(head(x), logits, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")  # theirs
@pytest.mark.parametrize("norm", [False, True])
def test_dinos_head_is_lightlys(norm: bool) -> None:
    from lightly.models.modules import DINOProjectionHead

    theirs = DINOProjectionHead(16, 12, 8, 32, batch_norm=norm)
    ours, x = DINOHead(16, prototypes=32, hidden=12, bottleneck=8, norm=norm), torch.randn(10, 16)
    ours.mlp.load_state_dict(theirs.layers.state_dict())
    with torch.no_grad():
        ours.direction.copy_(theirs.last_layer.weight_v)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)


def test_dinos_norm_takes_all_leading_axes_as_one_batch() -> None:
    head, x = DINOHead(16, prototypes=32, norm=True), torch.randn(4, 9, 16)
    torch.testing.assert_close(head(x).flatten(0, 1), head(x.flatten(0, 1)))


@pytest.mark.parametrize("head", [mlp([16, 8, 4]), Prototypes(16, 4), DINOHead(16, 4), DINOHead(16, 4, norm=True)])
def test_every_weight_of_a_head_learns(head: nn.Module) -> None:
    (head(torch.randn(32, 16)) * torch.randn(32, 4)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())
