"""Recall@k against its literal form and by lot, and the gap between pictures and texts."""

import math
from itertools import permutations

import pytest
import torch

from gadkit.evaluation.retrieval import modality_gap, recall, recalls


def by_lot(similarities: torch.Tensor, right: torch.Tensor, k: int) -> float:
    """The literal form: sort by similarity in every order of equal ones, and look at the first k."""
    found = []
    for row, good in zip(similarities.tolist(), right.tolist(), strict=True):
        hits = [
            any(good[i] for i in sorted(order, key=lambda i: -row[i])[:k]) for order in permutations(range(len(row)))
        ]
        found.append(sum(hits) / len(hits))
    return sum(found) / len(found)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_recall_is_that_of_a_random_order_among_equals(k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    similarities = torch.randint(3, (6, 5), generator=generator).float()
    right = torch.rand(6, 5, generator=generator) < 0.4
    right[:, 0] |= ~right.any(1)
    assert math.isclose(recall(similarities, right, k), by_lot(similarities, right, k), abs_tol=1e-9)


def test_equal_similarities_have_the_recall_of_chance() -> None:
    found = recalls(torch.zeros(10, 10), (1, 5, 10))
    assert found == pytest.approx(
        {f"{way}@{k}": k / 10 for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)}
    )


def test_both_ways_are_told_apart() -> None:
    similarities = torch.tensor([[0.9, 0.1], [0.8, 0.2]])  # both images find text 0, and both texts their own image
    assert recalls(similarities, (1,)) == pytest.approx({"image_to_text@1": 0.5, "text_to_image@1": 1.0})


def test_one_text_may_be_true_of_several_images() -> None:
    right = torch.tensor([[True], [True], [False]])
    similarities = torch.tensor([[0.1], [0.9], [0.5]])
    assert recall(similarities.T, right.T, 1) == 1
    assert recall(-similarities.T, right.T, 1) == 1
    assert recall(torch.tensor([[0.1, 0.2, 0.5]]), right.T, 2) == 1
    assert recall(torch.tensor([[0.1, 0.2, 0.5]]), right.T, 1) == 0


@pytest.mark.usefixtures("untyped")
def test_bad_input_is_refused() -> None:
    eye = torch.eye(3, dtype=torch.bool)
    with pytest.raises(ValueError, match="got none for 1"):
        recall(torch.rand(3, 3), eye & torch.tensor([[True], [True], [False]]), 1)
    with pytest.raises(ValueError, match="k: expected a whole number from 1 to 3"):
        recall(torch.rand(3, 3), eye, 4)
    with pytest.raises(ValueError, match="finite"):
        recall(torch.full((3, 3), math.nan), eye, 1)
    with pytest.raises(ValueError, match="as many images as texts"):
        recalls(torch.rand(3, 4))


def test_the_gap_is_that_of_the_means() -> None:
    x, y = torch.tensor([[2.0, 0.0], [3.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert modality_gap(x, y) == pytest.approx({"gap": math.sqrt(2), "images": 1, "texts": 1, "across": 0})
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    found = modality_gap(z, 3 * z)
    unit = torch.nn.functional.normalize(z, dim=1)
    assert found["gap"] == pytest.approx(0, abs=1e-6)
    assert found["across"] == pytest.approx(float((unit @ unit.T).mean()), abs=1e-6)
