"""Two probes of a frozen representation: its nearest neighbours, and one linear layer on top of it.

A linear probe is a convex problem, so no learning rate, no number of epochs and no seed stands between a representation
and its score: it is solved until no entry of the gradient exceeds TOLERANCE.  That is near the optimum and not quite
there.  For the shipped networks, of predictions among 27 classes 1 to 7 % differ from those of the optimum (tolerance
1e-9 in double precision) with one label a class, up to 4 % with four or ten, and up to 2 % with a hundred.  They err to
either side alike: an accuracy moves by 0.02 at most with one label a class, else by about 0.01.  With a tolerance of
3e-5 fewer than 1 % differ.

Source: Alain and Bengio 2016 (linear probes); Wu et al. 2018, section 3.4 (the weighted vote of neighbours).
Book: selfsup/representations
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.checks import check_finite, checked, describe, positive, share, whole
from gadkit.search.neighbors import knn_vote

STRENGTH = 10.0  # scikit-learn's C: the data's weight against that of the squared weights
TOLERANCE = 3e-4  # the gradient's largest entry, where curvature is about one, at which the search for the optimum ends


@dataclass(frozen=True)
class Linear:
    """One linear layer on standardised features: class logits are (x - centre) / spread @ weight.T + bias."""

    centre: Float[Tensor, "d"]
    spread: Float[Tensor, "d"]
    weight: Float[Tensor, "k d"]
    bias: Float[Tensor, "k"]

    def logits(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n k"]:
        """Class logits of features."""
        return (x - self.centre) / self.spread @ self.weight.T + self.bias


@checked
def fit_linear(
    x: Float[Tensor, "n d"],
    targets: Int[Tensor, "n"] | Float[Tensor, "n k"],
    classes: int,
    strength: float = STRENGTH,
    tolerance: float = TOLERANCE,
) -> Linear:
    """The multinomial logistic regression of `targets` (class numbers, or a distribution a row) on features.

    It minimises  sum_i CE(W x_i + b, t_i) + |W|^2 / (2 strength)  over standardised features, by L-BFGS from zero until
    the gradient is at most `tolerance`; the module says how far from the optimum the default ends.
    Raises ValueError for features that are not finite, or targets of another number or outside the classes.
    """
    _check(x, targets, classes)
    positive("strength", strength), positive("tolerance", tolerance)
    x = x.detach().cpu()
    x = x if x.dtype == torch.float64 else x.float()  # half precision has no eigenvectors
    centre, spread = x.mean(0), x.std(0, correction=0)
    spread = torch.where(spread > 1e-6 * spread.max().clamp(min=1e-12), spread, 1.0)  # a dead feature says nothing
    z = (x - centre) / spread  # (n, d)
    t = F.one_hot(targets, classes) if targets.ndim == 1 else targets
    weight, bias = _solve(z, t.to(z), 1 / (strength * len(z)), tolerance)
    return Linear(centre, spread, weight, bias)


def _solve(z: Float[Tensor, "n d"], t: Float[Tensor, "n k"], penalty: float, tolerance: float) -> tuple[Tensor, Tensor]:
    """Weight (k, d) and bias (k,) that minimise  mean CE + penalty |W|^2 / 2.

    Correlated features make L-BFGS slow, so it works in coordinates v = B'z in which the curvature at W = 0, which is
    V (variances / k + penalty) V', becomes the identity: W = w B' has |W|^2 = |w diag(scale)|^2.
    """
    k = t.shape[1]
    variances, axes = _principal(z)
    scale = (variances / k + penalty).rsqrt()  # (r,)
    basis = axes * scale  # (d, r)
    v = z @ basis
    w, bias = (z.new_zeros(shape).requires_grad_() for shape in ((k, len(scale)), (k,)))
    optimiser = torch.optim.LBFGS(
        [w, bias], max_iter=1000, tolerance_grad=tolerance, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(v @ w.T + bias, t) + penalty / 2 * (w * scale).square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(objective)
    return w.detach() @ basis.T, bias.detach()


def _principal(z: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor]:
    """Variances (r,) and orthonormal axes (d, r) of features; for n < d only the directions that they span."""
    n, d = z.shape
    if n >= d:
        variances, axes = torch.linalg.eigh(z.T @ z / n)
        return variances.clamp(min=0), axes
    variances, rows = torch.linalg.eigh(z @ z.T / n)
    some = variances > 1e-6 * variances[-1]
    return variances[some], z.T @ rows[:, some] / (variances[some] * n).sqrt()


def _check(x: Tensor, targets: Tensor, classes: int) -> None:
    whole("classes", classes)
    if not x.numel():
        raise ValueError(f"probe: expected at least one row of features, got shape {tuple(x.shape)}")
    if targets.ndim == 2:
        if targets.shape[1] != classes:
            raise ValueError(f"probe: expected targets of shape (n, {classes}), got {tuple(targets.shape)}")
        if (check_finite(targets, "targets") < 0).any():
            raise ValueError(f"probe: expected targets that are distributions, got {targets.min():.3g}")
    if targets.ndim == 1 and not 0 <= int(targets.min()) <= int(targets.max()) < classes:
        raise ValueError(
            f"probe: expected classes from 0 to {classes - 1}, got {int(targets.min())} to {int(targets.max())}"
        )
    check_finite(x, "features")


def _check_labels(labels: Int[Tensor, "n"], what: str) -> None:
    if not len(labels) or labels.min() < 0:
        raise ValueError(f"{what}: expected at least one class number from 0, got {describe(labels)}")


@checked
def linear_probe(
    x: Float[Tensor, "n d"],
    labels: Int[Tensor, "n"],
    test: Float[Tensor, "m d"],
    test_labels: Int[Tensor, "m"],
    strength: float = STRENGTH,
) -> float:
    """Accuracy on `test` of the linear layer that fits `x` best.

    Raises ValueError as `fit_linear` does, for an empty test and for labels below 0.
    """
    _check_labels(labels, "labels"), _check_labels(test_labels, "test_labels")
    check_finite(test, "test")
    classes = 1 + int(max(labels.max(), test_labels.max()))
    return accuracy(fit_linear(x, labels, classes, strength).logits(test.cpu()), test_labels)


@checked
def knn_accuracy(
    x: Float[Tensor, "n d"],
    labels: Int[Tensor, "n"],
    test: Float[Tensor, "m d"],
    test_labels: Int[Tensor, "m"],
    k: int = 10,
    temperature: float = 0.07,
) -> float:
    """Accuracy on `test` of the vote of its k nearest neighbours in `x` by cosine, weighted by exp(cos / temperature).

    Nothing is learnt.  Raises ValueError for fewer than k features, an empty test and a temperature that isn't above 0.
    """
    return accuracy(knn_vote(test, x, labels, k=k, temperature=temperature), test_labels)


@checked
def accuracy(votes: Float[Tensor, "n k"], labels: Int[Tensor, "n"]) -> float:
    """The share of rows whose largest entry is that of their class.  Raises ValueError for no rows, or NaN."""
    if not votes.numel():
        raise ValueError(f"votes: expected at least one row and class, got shape {tuple(votes.shape)}")
    check_finite(votes, "votes")
    return float((votes.argmax(1) == labels.to(votes.device)).double().mean())


@checked
def label_subset(labels: Int[Tensor, "n"], part: float, generator: torch.Generator) -> Int[Tensor, "_"]:
    """Rows that keep their label when only a share of each class does: drawn at random, at least one a class.

    Raises ValueError for no labels, or a `part` outside (0, 1].
    """
    share("part", part)
    _check_labels(labels, "labels")
    rows = []
    for c in labels.unique():
        members = (labels == c).nonzero()[:, 0]
        keep = max(1, math.floor(part * len(members) + 0.5))
        rows.append(members[torch.randperm(len(members), generator=generator)[:keep]])
    return torch.cat(rows)


@checked
def label_efficiency(
    x: Float[Tensor, "n d"],
    labels: Int[Tensor, "n"],
    test: Float[Tensor, "m d"],
    test_labels: Int[Tensor, "m"],
    shares: Sequence[float] = (0.01, 0.1),
    seed: int = 0,
) -> dict[float, float]:
    """Linear-probe accuracy when only a share of the training set has labels; the seed draws which.

    Raises ValueError as `linear_probe` does, also for features that are not drawn, and for a share outside (0, 1].
    """
    check_finite(x, "features")
    generator, found = torch.Generator().manual_seed(seed), {}
    for part in shares:
        rows = label_subset(labels, part, generator)
        found[part] = linear_probe(x[rows], labels[rows], test, test_labels)
    return found
