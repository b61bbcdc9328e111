"""The shipped weights still give the numbers on their card."""

import json
from pathlib import Path

import pytest

from cards import clip as card
from gadkit import zoo
from gadkit.anomaly.benchmark import Result, factory_cases, run, summarise
from gadkit.anomaly.detectors import WinCLIP
from gadkit.weights import ASSETS

RESULTS = Path(__file__).parents[2] / "book" / "results" / "clip-scratch.json"


@pytest.fixture(scope="module")
def record() -> dict:
    return json.loads(RESULTS.read_text())


@pytest.mark.parametrize("shots", [(0,), pytest.param((0, 4), marks=pytest.mark.slow)])
def test_the_sample_gives_the_figures_on_the_card(shots: tuple[int, ...], record: dict) -> None:
    measured, text = card.spot_check(zoo.load("clip"), shots), (ASSETS / "clip-scratch.md").read_text()
    assert len(measured) == 2 * len(shots)
    for what, value in measured.items():  # other processors round bf16-free sums otherwise
        assert value == pytest.approx(record["sample"][what], abs=0.02), what
        assert f"{what} {record['sample'][what]:.3f}" in text


@pytest.mark.slow
def test_training_is_worth_something_on_the_sample(record: dict) -> None:
    control = card.spot_check(zoo.load("clip-random"))
    assert record["sample"]["image_auroc at 0 shots"] > control["image_auroc at 0 shots"] + 0.05
    assert record["sample"]["pixel_auroc at 4 shots"] > control["pixel_auroc at 4 shots"]


def test_the_card_shows_the_measured_table(record: dict) -> None:
    rows = [row | {m: tuple(row[m]) for m in card.MEASURES} for row in record["rows"]]
    assert card.table(rows) in (ASSETS / "clip-scratch.md").read_text()
    assert {(r["weights"], r["regime"], r["shots"]) for r in rows} == {
        (w, g, k) for w in ("trained", "random") for g in ("loose", "fixture") for k in (0, 4)
    }
    assert all(0 <= value <= 1 and spread >= 0 for r in rows for value, spread in (r[m] for m in card.MEASURES))


def test_the_weights_stay_small() -> None:
    assert (ASSETS / "clip-scratch.safetensors").stat().st_size < 12e6


def test_a_benchmark_row_is_what_scoring_by_hand_gives() -> None:
    from gadkit import factory
    from gadkit.anomaly.metrics import auroc

    clip = zoo.load("clip")
    cases = factory_cases(("mesh",), variants=1, seeds=(0,), references=2)
    (row,) = run(lambda noun: WinCLIP(clip, noun), cases, (2,), quiet=True)
    data = factory.test_set("mesh", references=2)
    found = WinCLIP(clip, "wire mesh").fit(data.references).score(data.images)
    assert row.image_auroc == pytest.approx(auroc(found.scores, data.labels))
    assert row.pixel_auroc == pytest.approx(auroc(found.maps, data.masks), abs=1e-4)


def test_spread_is_over_seeds_not_products() -> None:
    rows = [Result("a", v, s, "loose", 0, 0.5 + 0.1 * s + 0.2 * v, 0.5, 0.5) for v in (0, 1) for s in (0, 1)]
    mean, spread = summarise(rows, "image_auroc")
    assert mean == pytest.approx(0.65)
    assert spread == pytest.approx(0.1 / 2**0.5)
    assert summarise(rows[:1], "image_auroc")[1] == 0
    with pytest.raises(ValueError, match="at least one result"):
        summarise([], "image_auroc")
    with pytest.raises(ValueError, match="expected categories and seeds"):
        factory_cases(())
    with pytest.raises(ValueError, match="expected cases and shots"):
        list(run(lambda noun: None, (), quiet=True))
