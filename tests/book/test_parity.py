"""The page about evidence names tests that there are, and options that the detectors have."""

import inspect
import json
import re
from pathlib import Path

import jupytext
import pytest

import survey
from gadkit.anomaly import detectors
from gadkit.anomaly.hybrid import HybridPrompts
from gadkit.files import find_results

ROOT = Path(__file__).parents[2]
HELD = json.loads((ROOT / "book" / "survey" / "parity.json").read_text(encoding="utf-8"))


def test_every_test_that_is_named_is_there() -> None:
    missing = [row["test"] for row in HELD["evidence"] if not (ROOT / row["test"]).is_file()]
    assert not missing


def test_every_option_that_is_named_is_an_argument() -> None:
    known = {"learn"} | {name for row in detectors.DETECTORS.values() for name in arguments(row.kind)}
    known |= {*inspect.signature(HybridPrompts).parameters}
    named = {name for row in HELD["quirks"] for name in re.findall(r"\b(\w+)=", row["option"])}
    assert named <= known | {"logits"}
    assert len(named) > 8


def test_a_quirk_without_an_option_has_its_reason() -> None:
    for row in HELD["quirks"]:
        assert (row["option"] == "none") == ("why" in row), row["quirk"]
        assert len(row.get("why", "a reason of some length")) > 20


def arguments(kind: str) -> list[str]:
    return [*inspect.signature(getattr(detectors, kind)).parameters]


def bare() -> set[str]:
    """Detectors that are held against no reference."""
    tested = " ".join(row["test"] for row in HELD["evidence"])
    return {name for name, row in detectors.DETECTORS.items() if f"test_{row.module}.py" not in tested}


def test_a_detector_without_evidence_stands_on_the_page_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(detectors.DETECTORS, "guess", detectors.DetectorSpec("guess", "Guess", "guesses"))
    (cell,) = [cell for cell in code("anomaly/parity") if 'held["evidence"]' in cell]
    shown = {"json": json, "find_results": find_results, "Markdown": str, "DETECTORS": detectors.DETECTORS}
    exec(cell, shown)
    told = {line for line in shown["lines"] if "not held against a reference" in line}
    assert told == {f"| `{name}` | | not held against a reference | | |" for name in bare()}
    assert "guess" in bare()


def code(page: str) -> list[str]:
    """The code cells of a page."""
    cells = jupytext.read(ROOT / "book" / f"{page}.md").cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def test_a_detector_that_is_held_against_a_reference_has_a_record() -> None:
    named = {name for table in survey.everything().values() for record in table for name in record.here}
    assert {*detectors.DETECTORS} - bare() <= named
