"""DeepCluster: whitened features, classes that start from zero, clusters that may not lean on colour."""

import math

import pytest
import torch

from gadkit.pretext.clusters import DeepCluster


def explained(labels: torch.Tensor, x: torch.Tensor) -> float:
    """The share of the variance of x that lies between clusters."""
    within = sum(((x[labels == k] - x[labels == k].mean(0)) ** 2).sum() for k in labels.unique())
    return 1 - (within / ((x - x.mean(0)) ** 2).sum()).item()


def test_the_first_batch_is_clustered_and_the_loss_is_log_k_exactly(parts, small) -> None:
    method = DeepCluster(small(), clusters=8, components=16, bank=128)
    assert method.loss(method.views({"images": parts})).item() == pytest.approx(math.log(8), rel=1e-6)
    assert method.clusterings == 1
    assert method.filled == 64
    assert method.sizes.sum() == 64


def test_a_full_bank_is_clustered_anew_and_the_classifier_starts_again(parts, small) -> None:
    method = DeepCluster(small(), clusters=8, components=16, bank=100)
    for turn in range(2):
        method.loss(method.views({"images": parts}))
        torch.nn.init.ones_(method.head.weight)
        anew = method.after_step(0.1)
        assert [id(p) for p in anew] == [[], [id(p) for p in method.head.parameters()]][turn]
        assert method.filled == (64, 0)[turn]
        assert method.clusterings == (1, 2)[turn]
    assert not method.head.weight.any()
    assert method.sizes.sum() == 100


def test_labels_stand_still_while_the_network_moves(parts, small) -> None:
    method, named = DeepCluster(small(), clusters=8, components=16, bank=128), []
    method.labels = lambda features, own=method.labels: named.append(own(features)) or named[-1]
    views = method.views({"images": parts})
    method.loss(views)
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(0.5 * torch.randn_like(p))
    method.loss(views)
    assert torch.equal(*named)
    method.recluster(method.features(views[0]))
    method.loss(views)
    assert not torch.equal(named[1], named[2])


def test_evaluation_changes_nothing(parts, small) -> None:
    method = DeepCluster(small(), clusters=8, components=16, bank=128)
    method.loss(method.views({"images": parts}))
    before = {k: v.clone() for k, v in method.state_dict().items()}
    method.eval()
    method.loss(method.views({"images": parts}))
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())


def test_whitened_features_are_uncorrelated_and_of_unit_length(small) -> None:
    method = DeepCluster(small(), clusters=4, components=8, bank=512)
    features = torch.randn(512, 64) @ torch.randn(64, 64) + 3
    method.recluster(features)
    raw = (features - method.mean) @ method.whitening
    assert torch.allclose(torch.cov(raw.T), torch.eye(8), atol=1e-3)
    assert torch.allclose(method.whiten(features).norm(dim=1), torch.ones(512), atol=1e-5)


def test_the_same_features_give_the_same_clusters_whatever_was_drawn_before(small) -> None:
    method = DeepCluster(small(), clusters=4, components=8, bank=64)
    features, found = torch.randn(64, 64), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        method.clusterings.zero_()
        method.recluster(features)
        found.append(method.centres.clone())
    assert torch.equal(*found)


def test_clusters_lean_on_colour_until_colour_goes(parts, small) -> None:
    photographs = parts.clone()  # red, green and blue change places, so that colour says nothing about the kind of part
    for i, order in enumerate([(0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)] * 16):
        photographs[i] = parts[i, list(order)]
    x = photographs.float() / 255
    hue = torch.stack([x[:, 0] - x[:, 1], x[:, 1] - x[:, 2]], 1).mean((2, 3))
    share = {"keep": 0.0, "grey": 0.0}
    for colour in share:
        for seed in range(4):
            torch.manual_seed(seed)
            method = DeepCluster(small(), clusters=8, components=8, bank=128, colour=colour)
            views = method.views({"images": photographs})
            method.loss(views)
            share[colour] += explained(method.labels(method.features(views[0])), hue) / 4
    assert share["keep"] > share["grey"] + 0.1  # seven of 63 degrees of freedom explain a ninth by chance


def test_balance_takes_the_gain_out_of_naming_the_largest_cluster(parts, small) -> None:
    lost = {}
    for balance in (True, False):
        method = DeepCluster(small(), clusters=4, components=8, bank=128, balance=balance).eval()
        method.recluster(torch.randn(128, 64))
        labels = torch.tensor([0] * 61 + [1, 2, 3])
        method.labels = lambda features, labels=labels: labels
        method.sizes.copy_(labels.bincount())
        method.head.bias.data = torch.tensor([5.0, 0, 0, 0])  # always answers the largest
        lost[balance] = method.loss(method.views({"images": parts})).item()
    assert lost[False] < 0.3 < math.log(4) < lost[True]
