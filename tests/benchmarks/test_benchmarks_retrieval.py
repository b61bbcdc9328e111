"""Searches and text encodings that are compared give the same, and their ratios are those of their times."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import retrieval, texts
from gadkit.search import approximate


def test_rows_of_retrieval() -> None:
    threads = torch.get_num_threads()
    table = {what: value for what, value, _ in retrieval.rows(3000, 16, rounds=1)}
    assert torch.get_num_threads() == threads
    ratio = table["plain product, a query"] / table["gadkit, exact, a query"]
    assert table["gadkit, exact / plain product"] == pytest.approx(ratio)
    if approximate.available():
        assert 0.5 < table["gadkit by faiss, recall"] <= 1, "there are few centres in 16 dimensions"


def test_without_faiss_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate, "available", lambda: False)
    *_, (what, value, unit) = retrieval.rows(200, 4, rounds=1)
    assert (what, unit) == ("faiss", "not installed")
    assert math.isnan(value)


def test_both_searches_find_the_same(tmp_path: Path) -> None:
    held, query = retrieval.fill(tmp_path / "index", 2500, 8), torch.randn(3, 8)
    for one, two in zip(held.nearest(query, 6), retrieval.plain(query, torch.cat(held.shards), 6), strict=True):
        torch.testing.assert_close(one, two)
    assert len({*held.names}) == 2500


def test_rows_of_texts(tiny_clip: Callable) -> None:
    clip = tiny_clip(text_width=32, text_layers=1)
    table = {what: value for what, value, _ in texts.rows(lambda: clip, 9, rounds=1)}
    assert table["largest gap"] < 1e-5
    ratio = table["gadkit, at once"] / table["open_clip, at once"]
    assert table["gadkit / open_clip"] == pytest.approx(ratio)
    assert len({*texts.prompts(60)}) == 60
