"""The measurement, at a size that a test can afford: what is compared, and that it is compared fairly."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments import curation as experiment
from gadkit.evaluation.results import merge, read
from gadkit.factory.pool import RANDOMISED
from gadkit.factory.seeds import FIRST_COLLECTION, FIRST_POOL, FIRST_TEST

SMALL = experiment.Setting(photographs=240, keep=130, steps=1, products=(1, 1))


@pytest.fixture(scope="module")
def world() -> experiment.World:
    return experiment.world(SMALL, 3)


def test_a_long_tail(world: experiment.World) -> None:
    counts = world.pool.labels.bincount().tolist()
    assert len(world.pool.images) == sum(counts) == 240
    known = counts[:-3]
    assert known == sorted(known, reverse=True), "classes stand in the order of their counts"
    assert world.pool.classes[-3:] == RANDOMISED
    assert sum(counts[-3:]) == 48
    assert known[0] == pytest.approx(2 * known[1], abs=2)
    assert known[0] == pytest.approx(9 * known[8], abs=9), "each is a whole number"
    again, products = experiment.long_tail(SMALL, 3)
    assert torch.equal(again.images, world.pool.images)
    assert torch.equal(products, world.products)
    assert experiment.long_tail(SMALL, 4)[0].classes != world.pool.classes
    first = FIRST_COLLECTION + int(world.products.min())
    assert FIRST_POOL + (1 << 36) <= first < FIRST_COLLECTION + int(world.products.max()) < FIRST_TEST


def test_repeats_are_nearly_the_same_and_never_the_same(world: experiment.World) -> None:
    numbers, counts = world.products.unique(return_counts=True)
    assert 0.6 < len(numbers) / 240 < 0.85
    rows = (world.products == numbers[counts.argmax()]).nonzero()[:, 0]
    one, two = world.pool.images[rows[:2]].float()
    assert 0 < (one - two).abs().mean() < 40
    assert len(world.pool.labels[rows].unique()) == 1


def test_the_collections(world: experiment.World) -> None:
    assert tuple(world.rows) == experiment.COLLECTIONS
    held = {name: experiment.statistics(world.pool, world.products, rows) for name, rows in world.rows.items()}
    assert [h["photographs"] for h in held.values()] == [240, 130, 130, 130]
    assert all(len(rows) == len(rows.unique()) for rows in world.rows.values())
    assert held["by labels"]["entropy"] == max(h["entropy"] for h in held.values())
    assert held["curated"]["products"] > held["random subset"]["products"]
    assert sum(list(held["by labels"]["counts"].values())[-3:]) == 0
    assert held["uncurated"]["most"] == pytest.approx(27 * int(world.pool.labels.bincount()[0]) / 192, abs=1e-6)


def test_a_row_of_the_results(world: experiment.World, tmp_path: Path) -> None:
    out, run = tmp_path / "results" / "curation.json", tmp_path / "run"
    arguments = ["curated", "--out", str(out), "--run", str(run), "--seeds", "3"]
    assert experiment.main(arguments, SMALL) == 0
    (row,) = read(out)
    assert (row["collection"], row["seed"], row["setting"]["steps"]) == ("curated", 3, 1)
    assert {"seconds", "training_seconds", "device", "processor", "threads", "versions"} <= row.keys()
    assert set(row["values"]) == {a + b for a in ("knn", "linear") for b in ("", "/head", "/middle", "/tail")}
    assert row["values"]["knn"] == pytest.approx(
        sum(row["values"][f"knn/{part}"] for part in ("head", "middle", "tail")) / 3, abs=1e-4
    )
    kept = experiment.world(SMALL, 3, run)
    assert torch.equal(kept.pool.images, world.pool.images)
    assert all(torch.equal(kept.rows[name], rows) for name, rows in world.rows.items())

    merge(out, [row | {"seconds": 1.0}], experiment.key)
    merge(out, [row | {"seed": 4}], experiment.key)
    assert [(r["seed"], r["seconds"]) for r in read(out)] == [(3, 1.0), (4, row["seconds"])]
    assert json.loads(out.read_text())["what"]
    assert [path.name for path in out.parent.iterdir()] == ["curation.json"]


def test_collections_of_another_setting_are_not_taken_for_one_s_own(tmp_path: Path) -> None:
    few = replace(SMALL, photographs=180, keep=30)
    made = experiment.world(few, 5, tmp_path)
    again = experiment.world(replace(few, steps=9, products=(3, 3)), 5, tmp_path)
    assert torch.equal(again.pool.images, made.pool.images), "how long one learns from them does not matter"
    with pytest.raises(
        ValueError, match=r"world-5.pt was made with photographs 180 \(now 190\), again 0.3 \(now 0.1\);"
    ):
        experiment.world(replace(few, photographs=190, again=0.1), 5, tmp_path)
    kept = torch.load(tmp_path / "world-5.pt", weights_only=True)
    torch.save({name: value for name, value in kept.items() if name != "setting"}, tmp_path / "world-5.pt")
    with pytest.raises(ValueError, match=r"photographs unknown \(now 180\)"):
        experiment.world(few, 5, tmp_path)
    with pytest.raises(SystemExit, match="2"):
        experiment.main(["--run", str(tmp_path), "--out", str(tmp_path / "x.json"), "--seeds", "5"], few)


def test_a_method_is_asked_by_the_vector_that_it_has_trained(
    world: experiment.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def answers(encoder, *_):
        seen.append(encoder.pool)
        return [("knn", 0.5)]

    monkeypatch.setattr(experiment, "answers", answers)
    for method in ("simclr", "mae"):
        experiment.measure("curated", world, replace(SMALL, method=method))
    assert seen == ["cls", "mean"]


def test_unknown_collections(world: experiment.World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="collection: expected one of uncurated, random subset, curated, by labels"):
        experiment.measure("best", world, SMALL)
    with pytest.raises(SystemExit, match="2"):
        experiment.main(["curated", "best", "--out", str(tmp_path / "x.json")], SMALL)
    assert "error: COLLECTION: expected one of uncurated, random subset, curated, by labels, got 'best'" in (
        capsys.readouterr().err
    )
    assert read(tmp_path / "x.json") == []
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(SystemExit, match="2"):
        experiment.main(["curated", "--out", str(tmp_path / "list.json")], SMALL)
    assert "expected a results file" in capsys.readouterr().err
