"""The table of measured speeds: it compares like with like, and one failure costs only its own rows."""

import math
from pathlib import Path

import pytest

import benchmarks
from benchmarks.__main__ import format_table, main
from benchmarks.aupro import RANKED, rivals, rows
from gadkit.anomaly.plain import random_maps


@pytest.fixture
def extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two more benchmarks beside the shipped ones: one that measures and one that breaks off."""
    (tmp_path / "aaa_works.py").write_text("def rows():\n    yield 'a thing', 1234.5678, 'images/s'\n")
    (tmp_path / "aab_breaks.py").write_text("def rows():\n    yield 'first', 1.0, 's'\n    raise OSError('no disk')\n")
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(tmp_path)])


def test_what_is_compared_computes_the_same_thing() -> None:
    maps, masks = random_maps(6, 48)
    for rival, measures in rivals().items():
        for name, theirs in measures.items():
            digits = 1e-12 if rival == "scikit-learn" else 1e-5  # anomalib computes in single precision
            assert RANKED[name](maps, masks) == pytest.approx(theirs(masks.ravel(), maps.ravel()), abs=digits)


def test_rows_hold_times_and_their_ratio() -> None:
    values = {what: value for what, value, _ in rows(count=4, size=48, repeats=1)}
    assert values["plain / gadkit"] == pytest.approx(
        values["plain, 200 thresholds"] / values["gadkit, 4 maps of 48 x 48"]
    )
    for name in RANKED:
        ratio = values[f"scikit-learn, {name}"] / values[f"gadkit, {name}"]
        assert values[f"scikit-learn / gadkit, {name}"] == pytest.approx(ratio)
    with pytest.raises(ValueError, match="expected at least 1 each, got 0, 48, 1"):
        next(rows(count=0, size=48, repeats=1))


def test_a_failure_is_shown_and_the_rest_still_measured(extra: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["aab_breaks", "aaa_works"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["aab_breaks", "first", "1", "s"],
        ["aab_breaks", "failed", "-", "OSError:", "no", "disk"],
        ["aaa_works", "a", "thing", "1,235", "images/s"],
    ]
    assert main(["aaa_works"]) == 0


def test_an_unknown_name_is_answered_with_the_known_ones(extra: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing"]) == 2
    assert "expected names among aaa_works, aab_breaks, a" in capsys.readouterr().err


def test_the_table_is_aligned_and_shows_what_is_missing() -> None:
    table = format_table([("a", "long name", 0.01234567, "s"), ("bcd", "x", math.nan, "not installed")])
    assert table == "a    long name  0.01235  s\nbcd  x                -  not installed"
