"""The page about evidence names tests that there are, and options that the detectors have."""

import inspect
import json
import re
from pathlib import Path

from gadkit.anomaly import detectors
from gadkit.anomaly.hybrid import HybridPrompts

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


def test_every_detector_has_its_evidence() -> None:
    told = " ".join(row["test"] for row in HELD["evidence"])
    assert [row.module for row in detectors.DETECTORS.values() if f"test_{row.module}.py" not in told] == []
