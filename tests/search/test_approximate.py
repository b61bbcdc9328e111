"""faiss answers as the exact search does, from codes that grow with the index."""

from pathlib import Path

import pytest
import torch

from gadkit.search import approximate
from gadkit.search.index import Index, Origin

pytest.importorskip("faiss")


def clusters(count: int, seed: int) -> torch.Tensor:
    """Vectors around 40 centres, as those of photographs are."""
    middles = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(seed)
    return middles[torch.randint(40, (count,), generator=draw)] + 0.4 * torch.randn(count, 16, generator=draw)


def grown(index: Index, count: int, seed: int) -> Index:
    index.append([f"{seed}/{i}" for i in range(count)], [(0, 0)] * count, clusters(count, seed))
    return index


@pytest.fixture
def held(tmp_path: Path) -> Index:
    """2,500 vectors in two shards."""
    index = Index(tmp_path / "index", Origin("dino", "tiny", "", "0", ""))
    return grown(grown(index, 1500, 1), 1000, 2)


def same(index: Index, codes: object, live: torch.Tensor | None = None, k: int = 10) -> None:
    queries = clusters(20, 9)
    (values, rows), (wanted, places) = (
        approximate.nearest(index, codes, queries, k, live),
        index.nearest(queries, k, live),
    )
    torch.testing.assert_close(values, wanted)
    assert torch.equal(rows.sort(1).values, places.sort(1).values), "rounding may turn neighbours of one cosine round"


def test_it_finds_what_the_exact_search_finds(held: Index) -> None:
    codes = approximate.codes(held)
    assert (codes.nlist, codes.ntotal, codes.nprobe) == (50, 2500, 7)
    same(held, codes)
    same(held, codes, torch.arange(2500) % 2 == 0)
    same(held, codes, torch.arange(2500) < 3)  # fewer than were asked for
    same(held, codes, torch.zeros(2500, dtype=torch.bool))


def test_all_lists_are_looked_into_where_few_would_not_do(held: Index) -> None:
    codes = approximate.codes(held, probes=1e-9)
    assert codes.nprobe == 1
    same(held, codes, k=2500)


def test_codes_are_kept_and_what_is_new_is_added(held: Index) -> None:
    approximate.codes(held)
    path = held.folder / approximate.FILE
    before = path.stat().st_mtime_ns
    same(held, approximate.codes(held))
    assert path.stat().st_mtime_ns == before, "nothing to do"
    codes = approximate.codes(grown(held, 700, 3))
    assert (codes.nlist, codes.ntotal) == (50, 3200), "the centres stay"
    same(held, codes)
    same(held, approximate.codes(held))


def test_centres_are_learnt_anew_when_there_are_four_times_as_many(tmp_path: Path) -> None:
    index = grown(Index(tmp_path / "index", Origin("", "", "", "", "")), 100, 1)
    assert approximate.codes(index).nlist == 10
    assert approximate.codes(grown(index, 300, 2)).nlist == 20


def test_what_cannot_be_searched(held: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="expected an index with rows"):
        approximate.codes(Index(tmp_path / "none", held.origin))
    (held.folder / approximate.FILE).write_bytes(b"no codes")
    with pytest.raises(ValueError, match="expected faiss's codes, got something else"):
        approximate.codes(held)
    (held.folder / approximate.FILE).unlink()
    approximate.codes(held)
    other = grown(Index(tmp_path / "other", held.origin), 10, 1)
    (other.folder / approximate.FILE).write_bytes((held.folder / approximate.FILE).read_bytes())
    with pytest.raises(ValueError, match="expected codes of at most 10 vectors of 16 numbers, got 2500 of 16"):
        approximate.codes(other)
    monkeypatch.setattr(approximate, "available", lambda: False)
    with pytest.raises(ValueError, match=r'pip install "gadkit\[search\]"'):
        approximate.codes(held)
