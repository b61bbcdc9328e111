"""Probes against scikit-learn: the same optimum, the same votes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from gadkit.evaluation.probes import (
    TOLERANCE,
    accuracy,
    fit_linear,
    knn_accuracy,
    label_efficiency,
    label_subset,
    linear_probe,
)


@pytest.fixture
def clouds(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Four overlapping classes in 6 dimensions of very different scale: (240, 6) and (240,)."""
    labels = torch.arange(4).repeat(60)
    centres = 1.5 * torch.randn(4, 6, generator=generator, dtype=torch.double)
    x = centres[labels] + torch.randn(240, 6, generator=generator, dtype=torch.double)
    return x * torch.tensor([1, 10, 0.1, 3, 1, 100]) + 5, labels


@pytest.mark.parametrize("strength", [0.05, 1.0, 20.0])
def test_the_probe_is_the_optimum_that_scikit_learn_finds(clouds: tuple[Tensor, Tensor], strength: float) -> None:
    x, labels = clouds
    ours = fit_linear(x, labels, 4, strength, tolerance=1e-9)
    scaled = StandardScaler().fit_transform(x)
    theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(scaled, labels)
    torch.testing.assert_close(ours.weight, torch.from_numpy(theirs.coef_), atol=1e-5, rtol=1e-4)
    found = ours.logits(x).softmax(1)
    torch.testing.assert_close(found, torch.from_numpy(theirs.predict_proba(scaled)), atol=1e-6, rtol=0)


def test_at_the_default_tolerance_the_predictions_are_the_optimum_s(clouds: tuple[Tensor, Tensor]) -> None:
    x, labels = clouds
    quick, exact = fit_linear(x.float(), labels, 4), fit_linear(x, labels, 4, tolerance=1e-9)
    share = [head.logits(x.to(head.weight)).softmax(1).double() for head in (quick, exact)]
    torch.testing.assert_close(*share, atol=1e-2, rtol=0)


def test_a_shared_label_is_two_half_votes(clouds: tuple[Tensor, Tensor]) -> None:
    x, labels = clouds
    other = (labels + 1) % 4
    shared = (torch.nn.functional.one_hot(labels, 4) + torch.nn.functional.one_hot(other, 4)) / 2
    once = fit_linear(x, shared.double(), 4, 3.0, tolerance=1e-9)
    twice = fit_linear(torch.cat([x, x]), torch.cat([labels, other]), 4, 1.5, tolerance=1e-9)
    torch.testing.assert_close(once.weight, twice.weight, atol=1e-5, rtol=1e-4)


def test_units_and_dead_features_change_nothing(clouds: tuple[Tensor, Tensor]) -> None:
    x, labels = clouds
    plain = fit_linear(x, labels, 4, tolerance=1e-8).logits(x)
    other = torch.cat([x * 7 - 3, torch.full((240, 1), 2.0, dtype=torch.double)], 1)
    moved = fit_linear(other, labels, 4, tolerance=1e-8).logits(other)
    torch.testing.assert_close(moved, plain, atol=1e-4, rtol=1e-4)


def test_more_features_than_rows(clouds: tuple[Tensor, Tensor], generator: torch.Generator) -> None:
    x, labels = torch.randn(40, 90, generator=generator, dtype=torch.double), clouds[1][:40]
    ours = fit_linear(x, labels, 4, 2.0, tolerance=1e-9)
    theirs = LogisticRegression(C=2.0, tol=1e-10, max_iter=10_000).fit(StandardScaler().fit_transform(x), labels)
    torch.testing.assert_close(ours.weight, torch.from_numpy(theirs.coef_), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_with_one_label_a_class_the_answers_are_nearly_the_optimum_s(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(128, 128, generator=draw))[0]
    turn, labels = (
        torch.logspace(0, -2, 128)[:, None] * turn,
        torch.arange(27),
    )  # features of few dimensions, correlated
    centres = torch.randn(27, 128, generator=draw)
    x, y = ((centres.repeat(n, 1) + torch.randn(27 * n, 128, generator=draw)) @ turn for n in (1, 12))
    optimum = fit_linear(x.double(), labels, 27, tolerance=1e-9).logits(y.double()).argmax(1)
    assert 0.7 < (optimum == labels.repeat(12)).float().mean() < 0.95, "neither hopeless nor settled"
    agreement = {
        tolerance: float((fit_linear(x, labels, 27, tolerance=tolerance).logits(y).argmax(1) == optimum).float().mean())
        for tolerance in (3e-2, TOLERANCE, 3e-5)
    }
    assert agreement[TOLERANCE] >= 0.9
    assert agreement[3e-5] >= 0.98
    assert agreement[3e-2] < 0.9, "what an early end costs"


def test_separable_classes_are_separated(generator: torch.Generator) -> None:
    labels = torch.arange(3).repeat(20)
    x = torch.eye(3)[labels] + 0.05 * torch.randn(60, 3, generator=generator)
    assert linear_probe(x[:30], labels[:30], x[30:], labels[30:]) == 1.0


@given(seed=st.integers(0, 10_000), k=st.integers(1, 12))
def test_the_vote_is_scikit_learn_s(seed: int, k: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    x, test = (torch.randn(n, 5, generator=draw) for n in (40, 30))
    labels, truth = (torch.randint(3, (n,), generator=draw) for n in (40, 30))
    theirs = KNeighborsClassifier(k, metric="cosine", weights=lambda far: np.exp(-far / 0.07), algorithm="brute")
    expected = theirs.fit(x.numpy(), labels.numpy()).score(test.numpy(), truth.numpy())
    assert knn_accuracy(x, labels, test, truth, k) == pytest.approx(expected, abs=1.01 / 30 if k > 1 else 1e-9)


def test_a_feature_s_length_does_not_vote(generator: torch.Generator) -> None:
    x, labels = torch.randn(50, 4, generator=generator), torch.arange(50) % 2
    lengths = torch.rand(50, 1, generator=generator) * 100 + 0.1
    test, truth = torch.randn(50, 4, generator=generator), torch.arange(50) % 2
    assert knn_accuracy(x, labels, test, truth) == knn_accuracy(x * lengths, labels, test / lengths, truth)
    assert knn_accuracy(x, labels, x, labels, k=1) == 1.0


@given(seed=st.integers(0, 1000), share=st.floats(0.001, 1))
def test_a_share_of_labels_keeps_every_class(seed: int, share: float) -> None:
    labels = torch.arange(5).repeat_interleave(torch.tensor([1, 3, 10, 40, 100]))
    rows = label_subset(labels, share, torch.Generator().manual_seed(seed))
    assert len(rows.unique()) == len(rows)
    counts = labels[rows].bincount(minlength=5)
    assert counts.tolist() == [max(1, int(share * n + 0.5)) for n in (1, 3, 10, 40, 100)]


def test_all_labels_are_the_linear_probe_and_the_seed_draws_the_few(clouds: tuple[Tensor, Tensor]) -> None:
    x, labels = (c.float() if c.is_floating_point() else c for c in clouds)
    rows = x[:160], labels[:160], x[160:], labels[160:]
    assert label_efficiency(*rows, shares=(1.0,))[1.0] == pytest.approx(linear_probe(*rows), abs=0.02)
    few = [label_efficiency(*rows, shares=(0.03,), seed=seed)[0.03] for seed in range(6)]
    assert len(set(few)) > 1
    assert few[3] == label_efficiency(*rows, shares=(0.03,), seed=3)[0.03]


@pytest.mark.usefixtures("untyped")
def test_bad_input_is_named() -> None:
    x, labels = torch.randn(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    with pytest.raises(ValueError, match="classes from 0 to 1, got 0 to 2"):
        fit_linear(x, labels, 2)
    with pytest.raises(ValueError, match=r"targets: expected .* beside x \(6, 2\), got .* shape \(5,\)"):
        fit_linear(x, labels[:5], 3)
    with pytest.raises(ValueError, match=r"shape \(n, 3\), got \(6, 2\)"):
        fit_linear(x, torch.rand(6, 2), 3)
    with pytest.raises(ValueError, match="1 NaN or infinite"):
        fit_linear(torch.where(torch.arange(12).view(6, 2) == 3, torch.nan, x), labels, 3)
    with pytest.raises(ValueError, match=r"part: expected a share in \(0, 1\], got int 0"):
        label_subset(labels, 0, torch.Generator())


def test_accuracy_counts_rows() -> None:
    votes = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    assert accuracy(votes, torch.tensor([0, 1, 1, 0])) == 0.75


@pytest.mark.usefixtures("untyped")
def test_labels_that_would_broadcast_or_count_from_the_end_are_refused() -> None:
    x, labels = torch.randn(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    with pytest.raises(ValueError, match=r"labels: expected .* shape \(6, 1\)"):
        accuracy(torch.rand(6, 3), labels[:, None])
    with pytest.raises(ValueError, match=r"test_labels: expected .* shape \(6, 1\)"):
        linear_probe(x, labels, x, labels[:, None])
    with pytest.raises(ValueError, match="labels: expected at least one class number from 0"):
        linear_probe(x, labels - 1, x, labels)
    with pytest.raises(ValueError, match="1 NaN or infinite"):
        knn_accuracy(x, labels, torch.where(torch.arange(12).view(6, 2) == 3, torch.nan, x), labels, k=2)
    with pytest.raises(ValueError, match="temperature: expected a number above 0"):
        knn_accuracy(x, labels, x, labels, k=2, temperature=0)
    with pytest.raises(ValueError, match="k: expected a whole number"):
        knn_accuracy(x, labels, x, labels, k=2.5)
    with pytest.raises(ValueError, match="votes: expected at least one row"):
        accuracy(torch.rand(0, 3), labels[:0])


def test_defaults_of_the_probes_are_ten_neighbours_and_a_strength_of_ten(clouds: tuple[Tensor, Tensor]) -> None:
    x, labels = clouds
    votes = knn_accuracy(x[::2], labels[::2], x[1::2], labels[1::2])
    assert votes == knn_accuracy(x[::2], labels[::2], x[1::2], labels[1::2], k=10, temperature=0.07)
    few, all_ = (fit_linear(x, labels, 4, strength, tolerance=1e-9).weight for strength in (10.0, 11.0))
    ours = fit_linear(x, labels, 4, tolerance=1e-9).weight
    assert torch.equal(ours, few)
    assert not torch.equal(ours, all_)
    assert TOLERANCE == 3e-4
    assert torch.equal(fit_linear(x, labels, 4).weight, fit_linear(x, labels, 4, 10.0, 3e-4).weight)


def test_half_of_a_label_is_rounded_up() -> None:
    labels = torch.arange(2).repeat_interleave(5)
    assert len(label_subset(labels, 0.5, torch.Generator())) == 2 * 3  # 2.5 a class
    assert len(label_subset(labels, 0.1, torch.Generator())) == 2 * 1  # 0.5 a class
    assert len(label_subset(labels, 0.29, torch.Generator())) == 2 * 1  # 1.45 a class


def test_without_shares_a_hundredth_and_a_tenth_of_the_labels_stay(clouds: tuple[Tensor, Tensor]) -> None:
    x, labels = clouds
    assert list(label_efficiency(x, labels, x, labels)) == [0.01, 0.1]
    assert label_efficiency(x, labels, x, labels) == label_efficiency(x, labels, x, labels, seed=0)


def test_a_feature_that_is_no_number_counts_also_where_it_is_not_drawn(clouds: tuple[Tensor, Tensor]) -> None:
    x, labels = clouds
    for row in range(3):
        broken = x.clone()
        broken[row, 0] = float("nan")
        with pytest.raises(ValueError, match="features: expected finite numbers, got 1 NaN"):
            label_efficiency(broken, labels, x, labels, shares=(0.02,))


def test_half_precision_is_probed_like_single() -> None:
    x, labels = torch.randn(30, 4).half(), torch.arange(30) % 3
    assert torch.equal(fit_linear(x, labels, 3).weight, fit_linear(x.float(), labels, 3).weight)


def test_a_dead_feature_says_nothing(clouds: tuple[Tensor, Tensor]) -> None:
    x, labels = clouds
    head = fit_linear(torch.cat([x, torch.full((240, 1), 7.0)], 1), labels, 4, tolerance=1e-9)
    assert head.spread[-1] == 1
    assert head.weight[:, -1].abs().max() < 1e-9
    torch.testing.assert_close(head.weight[:, :-1], fit_linear(x, labels, 4, tolerance=1e-9).weight, atol=1e-6, rtol=0)


def test_what_cannot_be_learnt_from_is_named() -> None:
    x, labels = torch.randn(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    with pytest.raises(ValueError, match=r"at least one row of features, got shape \(0, 2\)"):
        fit_linear(x[:0], labels[:0], 3)
    with pytest.raises(ValueError, match="classes from 0 to 2, got -1 to 1"):
        fit_linear(x, labels - 1, 3)
    shares = torch.full((6, 3), 1 / 3)
    fit_linear(x, shares, 3)
    shares[2, 1] = -0.25
    with pytest.raises(ValueError, match="targets that are distributions, got -0"):
        fit_linear(x, shares, 3)
    for options in ({"strength": 0.0}, {"tolerance": 0.0}):
        with pytest.raises(ValueError, match="expected a number above 0"):
            fit_linear(x, labels, 3, **options)
    for empty in ((x[:0], labels[:0], x, labels), (x, labels, x[:0], labels[:0])):
        with pytest.raises(ValueError, match="at least one class number from 0"):
            linear_probe(*empty)


def test_a_class_that_only_the_test_has_is_missed() -> None:
    x = torch.tensor([[-1.0], [-0.9], [0.9], [1.0]])
    assert linear_probe(x, torch.tensor([0, 0, 1, 1]), x, torch.tensor([0, 0, 1, 3])) == 0.75


def test_a_share_of_labels_may_be_all_and_not_more() -> None:
    labels = torch.tensor([0, 1, 0])
    assert label_subset(labels, 1.0, torch.Generator()).sort().values.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="part: expected a share"):
        label_subset(labels, 1.01, torch.Generator())
    with pytest.raises(ValueError, match="labels: expected at least one class number from 0"):
        label_subset(labels[:0], 0.5, torch.Generator())


def test_a_feature_that_varies_by_rounding_says_nothing(clouds: tuple[Tensor, Tensor]) -> None:
    x, labels = clouds
    head = fit_linear(torch.cat([x, 1e-9 * labels[:, None]], 1), labels, 4, tolerance=1e-6)  # though it knows it all
    assert head.spread[-1] == 1
    assert head.weight[:, -1].abs().max() < 1e-3
