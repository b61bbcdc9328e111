"""The experiment on costs: which entries there are, that turns are taken, and what its file says."""

import json
from pathlib import Path

import pytest

from experiments import cost
from gadkit.anomaly.benchmark import BATCH, factory_cases, run
from gadkit.anomaly.detectors import DETECTORS, build
from gadkit.zoo import load


def test_every_detector_has_its_entries_and_one_is_a_control() -> None:
    found = cost.entries([*DETECTORS])
    assert {name for name, _, _ in found} == {*DETECTORS}
    assert len(found) == len({*found})
    assert [shots for name, _, shots in found if name == "winclip"] == [0, 4]
    assert [shots for name, _, shots in found if name == "musc"] == [BATCH]
    assert [eyes for name, eyes, _ in found if name == "patch-knn"] == ["efficientnet-lite0", "efficientnet-random"]
    assert cost.entries(["colour"]) == [("colour", "random", 4)]


def test_photographs_are_as_many_as_asked_for_and_not_all_sound() -> None:
    data = cost.photographs(4, 48)
    assert data.images.shape == (4, 3, 48, 48)
    assert len(data.references) == 4
    assert 0 < int(data.labels.sum()) < 4


def test_runs_take_turns_and_the_fewest_seconds_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, order = [0.0], []

    def run(name: str, *took: float) -> float:
        order.append(name)
        clock[0] += took[order.count(name) - 1]
        return clock[0]

    monkeypatch.setattr(cost.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(cost.time, "process_time", lambda: clock[0] / 2)
    runs = {("a",): lambda: run("a", 0.0, 4.0, 3.0), ("b",): lambda: run("b", 9.0, 5.0, 6.0)}
    assert cost.fewest(runs, 2, quiet=True) == {("a",): [3.0, 1.5], ("b",): [5.0, 2.5]}
    assert order == ["a", "b"] * 3


def test_megabytes_are_those_of_the_benchmark() -> None:
    (case,) = factory_cases(["connector"], variants=1, seeds=(0,), size=48)
    detector = build("colour", load("random"))
    (cell,) = run(lambda _: detector, [case], (4,), quiet=True)
    data = case.load()
    assert cost.megabytes(detector.fit(data.references), data.images[:1]) == cell.mb


def test_the_file_says_what_was_measured_and_on_what(tmp_path: Path) -> None:
    out = tmp_path / "new" / "cost.json"
    options = ["--detectors", "colour", "musc", "--images", "2", "--rounds", "1", "--size", "48"]
    assert cost.main(["--out", str(out), *options]) == 0
    held = json.loads(out.read_text())
    assert {"load", "cores", "seconds", "cpu_seconds", "device", "threads", "versions"} <= held.keys()
    assert (held["images"], held["size"], held["rounds"]) == (2, 48, 1)
    ways = {("colour", "pixels", 4), ("musc", "efficientnet-lite0", BATCH)}
    assert {(row["detector"], row["backbone"], row["shots"]) for row in held["rows"]} == ways
    assert all(row["ms"] > 0 and row["cpu_ms"] > 0 and row["mb"] > 0 for row in held["rows"])


@pytest.mark.parametrize("wrong", [("--images", "1"), ("--rounds", "0"), ("--detectors", "winclop")])
def test_wrong_numbers_and_names_are_plain_errors(
    wrong: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cost.main(["--out", str(tmp_path / "cost.json"), *wrong])
    assert "expected" in capsys.readouterr().err
    assert not (tmp_path / "cost.json").exists()
