"""The published numbers of the anomaly detection part: whole rows, sources that exist, no number twice."""

import json
from collections import Counter
from pathlib import Path

from pybtex.database import parse_file

BOOK = Path(__file__).parents[2] / "book"
FIELDS = {"method", "setting", "dataset", "shots", "measure", "value", "source", "protocol", "verified"}
SETTINGS = {"zero-shot", "few-shot", "batched", "full-shot", "generalist"}
ROWS = json.loads((BOOK / "survey" / "anomaly-numbers.json").read_text(encoding="utf-8"))["rows"]


def test_every_number_says_what_it_is_and_where_it_was_read() -> None:
    known = set(parse_file(BOOK / "references.bib").entries)
    for row in ROWS:
        assert set(row) == FIELDS, row
        assert row["source"] in known, row
        assert all(row[name] for name in ("method", "protocol", "verified")), row
        assert 0 < row["value"] <= 100, row


def test_the_setting_and_the_good_parts_agree() -> None:
    for row in ROWS:
        assert row["setting"] in SETTINGS, row
        if row["setting"] == "full-shot":
            assert row["shots"] is None, row
        elif row["setting"] == "few-shot":
            assert row["shots"] > 0, row
        elif row["setting"] in ("zero-shot", "batched"):
            assert row["shots"] == 0, row


def test_no_number_stands_twice() -> None:
    counts = Counter((r["method"], r["dataset"], r["shots"], r["measure"]) for r in ROWS)
    assert not [key for key, count in counts.items() if count > 1]
