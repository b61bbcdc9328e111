"""The bridge from learning to detecting: one encoding, all blocks, and learnt weights ahead of random ones."""

from collections import Counter

import pytest
import torch

from experiments import representations
from experiments.representations import _measure, evaluate, patch_distances
from gadkit import factory, zoo
from gadkit.anomaly.detectors import KNN, PatchKNN
from gadkit.anomaly.metrics import aupro, auroc
from gadkit.weights import ASSETS


def test_a_row_is_what_the_detectors_find() -> None:
    clip = zoo.load("clip-scratch")
    row = _measure(clip, "leather", 1, "loose", 48)
    data = factory.test_set("leather", 1, 1, "loose", normal=8, per_defect=1, references=64, size=48)
    normal = data.references[:4]
    image = KNN(clip).fit(normal).score(data.images)
    assert row["knn/image_auroc"] == auroc(image.scores, data.labels)
    for i in range(5):
        patch = PatchKNN(clip, (i,)).fit(normal).score(data.images)
        assert row[f"blocks/{i}/image_auroc"] == pytest.approx(auroc(patch.scores, data.labels), abs=0.02)
        assert row[f"blocks/{i}/pixel_auroc"] == pytest.approx(auroc(patch.maps, data.masks), abs=1e-3)
    patch = PatchKNN(clip).fit(normal).score(data.images)
    assert row["patch/image_auroc"] == row["shots/4/image_auroc"] == auroc(patch.scores, data.labels)
    assert row["patch/aupro"] == pytest.approx(aupro(patch.maps, data.masks), abs=1e-3)
    many = PatchKNN(clip).fit(data.references).score(data.images)
    assert row["shots/64/pixel_auroc"] == pytest.approx(auroc(many.maps, data.masks), abs=1e-6)


def test_every_measure_comes_once_a_seed_and_learning_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(representations, "SHOTS", (1, 4))  # 64 good parts are rendered in the test above
    scratch = ASSETS / "clip-scratch.safetensors"
    learnt, random = (
        list(evaluate(zoo.load(name, file=scratch), (0, 1), ("fixture",), ("connector", "cardboard", "mesh"), 48))
        for name in ("clip-scratch", "clip-random")  # the same build, untrained
    )
    assert set(Counter(name for name, _ in learnt).values()) == {2}
    assert {name.split("/")[0] for name, _ in learnt} == {"fixture"}
    means = [sum(v for name, v in side if name == "fixture/patch/image_auroc") / 2 for side in (learnt, random)]
    assert means[0] > means[1] + 0.05


def test_patch_distances_are_to_any_patch_of_any_image(generator: torch.Generator) -> None:
    queries, normal = (torch.randn(n, 5, 3, generator=generator) for n in (2, 4))
    found = patch_distances(queries, normal)
    bank = normal.flatten(0, 1)
    for i in range(2):
        for p in range(5):
            nearest = min(1 - float(torch.cosine_similarity(queries[i, p], b, dim=0)) for b in bank)
            assert float(found[i, p]) == pytest.approx(nearest, abs=1e-5)


def test_nothing_to_do_is_said() -> None:
    with pytest.raises(ValueError, match="expected seeds, regimes and categories"):
        next(evaluate(zoo.load("random"), ()))
