"""The benchmark encodes once, draws references by seed, and knows folders as it knows the factory."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gadkit import factory
from gadkit.anomaly.benchmark import (
    BATCH,
    MEASURES,
    Case,
    Result,
    factory_cases,
    folder_cases,
    measures,
    run,
    summarise,
    table,
)
from gadkit.anomaly.cost import peak
from gadkit.anomaly.metrics import aupro, auroc, average_precision, f1_max
from gadkit.protocols import AnomalyResult, Encoded, TestSet


class Colours:
    """A memory of mean colours: quick, and what the benchmark asks of a detector."""

    def __init__(self, noun: str) -> None:
        self.noun, self.encoded, self.fitted = noun, 0, []

    def fit(self, normal: Tensor | None = None) -> "Colours":
        self.fitted.append(normal)
        self.memory_ = None if normal is None else self._cells(normal).flatten(0, 2)
        return self

    def encode(self, images: Tensor) -> Encoded:
        self.encoded += len(images) > 1  # a single one is encoded to see what that costs
        return Encoded({"cells": self._cells(images)}, tuple(images.shape[2:]))

    def score(self, encoded: Encoded) -> AnomalyResult:
        cells = encoded.features["cells"]
        memory = cells.flatten(1, 2).median(1).values[:, None] if self.memory_ is None else self.memory_
        far = torch.cdist(cells.flatten(1, 2), memory.expand(len(cells), -1, -1)).amin(2).unflatten(1, cells.shape[1:3])
        maps = F.interpolate(far[:, None], encoded.size, mode="bilinear")[:, 0]
        return AnomalyResult(maps, far.flatten(1).amax(1))

    def _cells(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images / 255, 8).permute(0, 2, 3, 1)  # (b, 8, 8, 3)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two categories in MVTec AD's layout, 48 pixels a side."""
    folder = tmp_path_factory.mktemp("mvtec")
    factory.export(folder, ("mesh", "cookie"), regime="fixture", per_class=6, size=48)
    return folder


def test_a_result_is_what_scoring_by_hand_gives() -> None:
    (row,) = run(Colours, factory_cases(("cookie",), "fixture", 1, (3,), 2, 48), (2,), quiet=True)
    data = factory.test_set("cookie", 0, 3, "fixture", references=2, size=48)
    detector = Colours("cookie").fit(data.references)
    found = detector.score(detector.encode(data.images))
    assert row == Result(
        *("cookie", 0, 3, "fixture", 2, auroc(found.scores, data.labels)),
        *(average_precision(found.scores, data.labels), f1_max(found.scores, data.labels)[0]),
        *(auroc(found.maps, data.masks), average_precision(found.maps, data.masks), aupro(found.maps, data.masks)),
        kind="object",
    )
    assert row.ms > 0
    one = peak(lambda: detector.score(detector.encode(data.images[:1])))[1] / 1e6
    assert one / 4 < row.mb <= one, "of encoding and scoring the worse"


def test_images_are_encoded_once_for_all_shots() -> None:
    made: list[Colours] = []

    def make(noun: str) -> Colours:
        made.append(Colours(noun))
        return made[-1]

    rows = list(run(make, factory_cases(("mesh",), variants=1, seeds=(0, 1), size=48), (0, 1, 4), quiet=True))
    assert [(row.seed, row.shots) for row in rows] == [(0, 0), (0, 1), (0, 4), (1, 0), (1, 1), (1, 4)]
    assert [(one.noun, one.encoded) for one in made] == [("wire mesh", 1)] * 2
    first = made[0].fitted
    assert first[0] is None
    assert torch.equal(first[1], first[2][:1]), "fewer shots are the first of more"


def test_what_is_done_is_not_measured_again() -> None:
    cases = factory_cases(("mesh", "cookie"), variants=1, seeds=(0,), size=48)
    every = list(run(Colours, cases, (0, 2), quiet=True))
    done = {("mesh", "loose", 0, 0, 2), ("cookie", "loose", 0, 0, 0), ("cookie", "fixture", 0, 0, 2)}
    assert list(run(Colours, cases, (0, 2), done, quiet=True)) == [every[0], every[3]]

    def never() -> TestSet:
        raise AssertionError("nothing is left to measure, so nothing is loaded")

    lazy = [replace(cases[0], load=never)]
    assert list(run(Colours, lazy, (2,), {("mesh", "loose", 0, 0, 2)}, quiet=True)) == []


def test_a_seed_draws_the_references_of_a_folder(root: Path) -> None:
    made: list[Colours] = []

    def make(noun: str) -> Colours:
        made.append(Colours(noun))
        return made[-1]

    (case,) = folder_cases(root, ["cookie"], seeds=(0, 1, 2), size=32)
    rows = list(run(make, [case], (0, 2, 6), quiet=True))
    assert [(r.seed, r.shots) for r in rows] == [(0, 0), (0, 2), (0, 6), (1, 2), (1, 6), (2, 2), (2, 6)]
    assert (len(made), made[0].encoded) == (1, 1)
    drawn = [normal for normal in made[0].fitted if normal is not None and len(normal) == 2]
    assert len({tuple(d.flatten().tolist()) for d in drawn}) > 1
    assert all(len({row.image_auroc for row in rows if row.shots == k}) == 1 for k in (0, 6)), "all six are all six"
    again = list(run(Colours, [case], (0, 2, 6), quiet=True))
    assert again == rows


def test_a_seed_alone_draws_what_it_draws_among_others(root: Path) -> None:
    def rows(*seeds: int) -> list[Result]:
        return list(run(Colours, folder_cases(root, ["cookie"], seeds, 32), (2,), quiet=True))

    assert rows(0) + rows(1) == rows(0, 1)


def test_a_folder_is_the_set_that_was_exported(root: Path) -> None:
    cases = folder_cases(root, size=48)
    assert [case.category for case in cases] == ["cookie", "mesh"]
    assert {case.data for case in cases} == {str(root.resolve())}
    for case in cases:
        data, made = case.load(), factory.test_set(case.category, 0, 0, "fixture", 6, 2, 6, 48)
        assert torch.equal(data.references, made.references)
        assert sorted(data.defects) == sorted(made.defects)
        assert data.masks.sum() == made.masks.sum()
        assert data.images.float().mean() == made.images.float().mean()
        assert data.marked.all()


def test_a_defect_without_a_mask_counts_for_images_only(root: Path) -> None:
    (case,) = folder_cases(root, ["mesh"], size=48)
    data = case.load()
    masks = data.masks.clone()
    bare = int(data.labels.nonzero()[0])
    masks[bare] = False
    draw = torch.Generator().manual_seed(0)
    found = AnomalyResult(torch.rand(masks.shape, generator=draw), torch.rand(len(masks), generator=draw))
    some, keep = measures(found, replace(data, masks=masks)), torch.arange(len(masks)) != bare
    assert some["image_auroc"] == auroc(found.scores, data.labels)
    assert some["pixel_auroc"] == auroc(found.maps[keep], masks[keep])
    assert some["aupro"] == aupro(found.maps[keep], masks[keep])
    none = measures(found, replace(data, masks=torch.zeros_like(masks)))
    assert (none["image_ap"], none["pixel_auroc"], none["pixel_ap"], none["aupro"]) == (some["image_ap"], *[None] * 3)


def test_tables_of_results(cells: Callable) -> None:
    rows = [Result("a", 0, seed, "loose", 0, 0.5 + 0.1 * seed, 0.5, 0.5) for seed in (0, 1)]
    assert summarise(rows, "image_auroc") == (pytest.approx(0.55), pytest.approx(0.1 / 2**0.5))
    with pytest.raises(ValueError, match="at least one result with aupro, got none"):
        summarise(rows, "aupro")
    text = table([{"detector": "knn", "shots": 0, "image_auroc": (0.55, 0.0707), "aupro": None}])
    head, line = ["detector", "shots", "image AUROC", "AUPRO"], ["knn", "0", "0.550 ± 0.071", "no masks"]
    assert cells(text) == [head, line]
    assert len(MEASURES) == 6


def test_what_cannot_be_measured(root: Path, tmp_path: Path, untyped: None) -> None:
    with pytest.raises(ValueError, match=r"expected .*, got (float 2\.5|list)"):
        list(run(Colours, [2.5], quiet=True))
    for wrong in ((), (0.5,), ("a", "b")):
        with pytest.raises(ValueError, match="rows: expected a mean and its deviation, got tuple"):
            table([{"aupro": wrong}])
    with pytest.raises(ValueError, match="expected categories and seeds"):
        factory_cases((), seeds=(0,))
    with pytest.raises(ValueError, match="variants: expected a whole number from 1"):
        factory_cases(("mesh",), variants=0)
    with pytest.raises(ValueError, match="categories: expected one of cookie, mesh, got 'nut'"):
        folder_cases(root, ["nut"])
    with pytest.raises(ValueError, match="expected folders that say which parts are good"):
        folder_cases(root / "mesh" / "test" / "good")
    case = Case("mesh", "loose", 0, (0,), lambda: factory.test_set("mesh", references=2, size=48))
    for shots, message in (
        ((), "shots >= 0"),
        ((-2,), "shots >= 0"),
        ((3,), "at most 2, the references of mesh, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            list(run(Colours, [case], shots, quiet=True))


def test_without_references_one_seed_says_it_all() -> None:
    case = Case("mesh", "loose", 0, (3, 1, 2), lambda: factory.test_set("mesh"))
    assert case.cells((0, 4)) == [(3, 0), (3, 4), (1, 4), (2, 4)]
    assert case.cells((2,)) == [(3, 2), (1, 2), (2, 2)]


def test_the_batched_setting_is_fitted_on_the_images_to_score() -> None:
    made: list[Colours] = []

    def make(noun: str) -> Colours:
        made.append(Colours(noun))
        return made[-1]

    case = Case("mesh", "loose", 0, (3, 1), lambda: factory.test_set("mesh", 0, 0, "loose", 2, 1, 2, 24), True)
    (row,) = run(make, [case], (BATCH,), quiet=True)
    assert (row.seed, row.shots) == (3, BATCH), "there is nothing to draw"
    (fitted,) = made[0].fitted
    assert torch.equal(fitted, case.load().images)


def test_cases_are_all_products_under_all_seeds() -> None:
    cases = factory_cases(("mesh", "nut"), variants=2, seeds=(0, 5))
    assert [(c.category, c.variant, c.seeds) for c in cases[:4]] == [
        *(("mesh", 0, (0,)), ("mesh", 0, (5,))),
        *(("mesh", 1, (0,)), ("mesh", 1, (5,))),
    ]
    assert (len(cases), {c.data for c in cases}) == (8, {"loose"})
    for nothing in ((("mesh",), ()), ((), (0,))):
        with pytest.raises(ValueError, match="expected categories and seeds"):
            factory_cases(nothing[0], seeds=nothing[1])


def test_one_seed_has_no_deviation() -> None:
    rows = [Result("a", v, 7, "loose", 0, 0.5 + 0.1 * v, 0.5, 0.5, aupro=None if v else 0.25) for v in (0, 1)]
    assert summarise(rows, "image_auroc") == (pytest.approx(0.55), 0.0)
    assert summarise(rows, "aupro") == (0.25, 0.0)
    with pytest.raises(ValueError, match="rows: expected at least one"):
        table([])


def test_faults_of_the_whole_are_a_protocol_of_their_own() -> None:
    local, everywhere = (factory_cases(("mesh",), "fixture", 1, (0,), 2, 32, *word)[0] for word in ((), ("global",)))
    assert (local.data, everywhere.data) == ("fixture", "fixture, global")
    assert set(everywhere.load().defects) == {"good", *factory.GLOBAL}
    assert torch.equal(local.load().references, everywhere.load().references)
    with pytest.raises(ValueError, match="defects: expected one of local, global, got 'both'"):
        factory_cases(("mesh",), defects="both")
