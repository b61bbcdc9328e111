"""The shipped weights still give the numbers on their card."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cards import clip as card
from gadkit import zoo
from gadkit.anomaly.benchmark import Result, factory_cases, run, summarise
from gadkit.anomaly.detectors import WinCLIP
from gadkit.weights import ASSETS

NAMES = ("clip", "clip-scratch")


def record(name: str) -> dict:
    return json.loads((Path(__file__).parents[2] / "book" / "results" / f"{name}.json").read_text())


def text(name: str) -> str:
    return (ASSETS / f"{name}.md").read_text()


@pytest.mark.parametrize("name", ["clip", pytest.param("clip-scratch", marks=pytest.mark.slow)])
@pytest.mark.parametrize("shots", [(0,), pytest.param((0, 4), marks=pytest.mark.slow)])
def test_the_sample_gives_the_figures_on_the_card(name: str, shots: tuple[int, ...]) -> None:
    measured, sample = card.spot_check(zoo.load(name), shots), record(name)["sample"]
    assert len(measured) == 2 * len(shots)
    for what, value in measured.items():  # other processors round bf16-free sums otherwise
        assert value == pytest.approx(sample[what], abs=0.02), what
        assert f"{what} {sample[what]:.3f}" in text(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_training_is_worth_something_on_the_sample(name: str) -> None:
    sample, control = record(name)["sample"], card.spot_check(card.control(name))
    assert sample["image_auroc at 0 shots"] > control["image_auroc at 0 shots"] + 0.05
    assert sample["pixel_auroc at 4 shots"] > control["pixel_auroc at 4 shots"]


@pytest.mark.parametrize("name", NAMES)
def test_the_card_shows_the_measured_table(name: str) -> None:
    rows = [row | {m: tuple(row[m]) for m in card.MEASURES} for row in record(name)["rows"]]
    assert card.table(rows) in text(name)
    measured = [(r["weights"], r["regime"], r["shots"]) for r in rows]
    assert len(set(measured)) == len(measured)
    assert {("trained", g, k) for g in ("loose", "fixture") for k in (0, 4)} <= {*measured}
    assert all(0 <= value <= 1 and spread >= 0 for r in rows for value, spread in (r[m] for m in card.MEASURES))


def test_the_card_shows_kinds_of_defect_and_development_targets() -> None:
    results, said = Path(__file__).parents[2] / "book" / "results", text("clip")
    assert card.by_kind(results / "failures.json") in said
    line = card.development(results / "detectors.json")
    assert line in said
    assert line.count("target 0.85") == line.count("target 0.88") == 2
    rows = json.loads((results / "failures.json").read_text())["rows"]
    scratch = [
        r["image"]["scratch"] for r in rows if (r["detector"], r["backbone"], r["shots"]) == ("winclip", "clip", 0)
    ]
    every = [value for values in scratch for value in values]
    assert f"scratch {sum(every) / len(every):.2f} / " in said


def test_the_weights_stay_small() -> None:
    sizes = {path.stem: path.stat().st_size for path in ASSETS.glob("*.safetensors")}
    assert sizes["clip"] + sizes["efficientnet-lite0"] < 14e6
    assert sizes["clip-scratch"] < 12e6


def test_an_untrained_network_is_of_the_same_build() -> None:
    for name in NAMES:
        ours, blank = zoo.load(name), card.control(name)
        assert blank.grid == ours.grid
        states = [clip.model.state_dict() for clip in (ours, blank)]
        assert {n: v.shape for n, v in states[0].items()} == {n: v.shape for n, v in states[1].items()}
        assert not torch.equal(*(state["visual.proj"] for state in states))
        if name == "clip":
            assert not torch.equal(*(state["visual.conv1.eyes.start.0.weight"] for state in states))


def test_a_benchmark_row_is_what_scoring_by_hand_gives(tiny_clip: Callable) -> None:
    from gadkit import factory
    from gadkit.anomaly.metrics import auroc

    clip = tiny_clip(image_size=64, width=64, layers=2)
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
