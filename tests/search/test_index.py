"""The index on disk: what was appended counts, nothing else does, and the nearest rows are the nearest."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gadkit.search import index
from gadkit.search.index import Index, Origin, first
from gadkit.search.neighbors import topk

ORIGIN = Origin("dino", "tiny", "dino 1234", "0.1", "own bits, floats to 1")


@pytest.fixture
def held(tmp_path: Path, generator: torch.Generator) -> Index:
    """Three shards of 7, 5 and 9 vectors of 6 numbers."""
    found = Index(tmp_path / "index", ORIGIN)
    for start, rows in ((0, 7), (7, 5), (12, 9)):
        names = [f"/photos/{i}.png" for i in range(start, start + rows)]
        found.append(names, [(i, 10 * i) for i in range(rows)], torch.randn(rows, 6, generator=generator))
    return found


def test_an_index_comes_back_as_it_was_written(held: Index) -> None:
    again = index.opened(held.folder)
    assert (again.origin, again.width, len(again)) == (ORIGIN, 6, 21)
    assert (again.names, again.stamps) == (held.names, held.stamps)
    assert [len(shard) for shard in again.shards] == [7, 5, 9]
    torch.testing.assert_close(torch.cat(again.shards), torch.cat(held.shards), rtol=0, atol=0)
    torch.testing.assert_close(torch.cat(again.shards).norm(dim=1), torch.ones(21))
    rows = torch.tensor([20, 0, 7, 11])
    assert torch.equal(again.vectors(rows), torch.cat(again.shards)[rows])


def test_the_nearest_of_all_shards_are_those_of_one_search(held: Index, generator: torch.Generator) -> None:
    queries = torch.randn(4, 6, generator=generator)
    values, rows = held.nearest(queries, 8)
    wanted, places = topk(queries, torch.cat(held.shards), 8)
    torch.testing.assert_close(values, wanted)
    assert torch.equal(rows, places)


def test_rows_that_do_not_count_are_not_found(held: Index, generator: torch.Generator) -> None:
    queries, live = torch.randn(3, 6, generator=generator), torch.arange(21) % 3 == 0
    values, rows = held.nearest(queries, 100, live)
    assert rows.sort(1).values.tolist() == [[0, 3, 6, 9, 12, 15, 18]] * 3, "fewer than were asked for"
    assert bool((values.diff(dim=1) <= 0).all())
    assert held.nearest(queries, 2, torch.zeros(21, dtype=torch.bool))[1].shape == (3, 0)


def test_of_equal_rows_the_first_comes_first() -> None:
    values, rows = first(torch.tensor([[1.0, 3.0, 3.0, 2.0]]), torch.tensor([[9, 8, 4, 1]]), 3)
    assert (values.tolist(), rows.tolist()) == ([[3, 3, 2]], [[4, 8, 1]])


def test_the_last_row_of_a_name_counts(held: Index) -> None:
    held.append(["/photos/3.png"], [(5, 5)], torch.ones(1, 6))
    rows = index.opened(held.folder).rows()
    assert (rows["/photos/3.png"], rows["/photos/4.png"], len(rows)) == (21, 4, 21)


def test_a_shard_that_no_list_names_does_not_count_and_is_written_over(held: Index) -> None:
    """A kill between the two leaves it so."""
    names = ("vectors-000003.npy", "photographs-000003.jsonl")
    for name, kept in zip(names, ("vectors-000000.npy", "photographs-000000.jsonl"), strict=True):
        (held.folder / name).write_bytes((held.folder / kept).read_bytes())
    again = index.opened(held.folder)
    assert len(again) == 21
    again.append(["new"], [(1, 1)], torch.ones(1, 6))
    assert [len(index.opened(held.folder)), len(np.load(held.folder / names[0]))] == [22, 1]


def test_an_error_while_writing_leaves_the_index_as_it_was(held: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        held.append(["new"], [(1, 1)], torch.ones(1, 6))
    assert (len(held), len(index.opened(held.folder))) == (21, 21)
    assert not [name for name in os.listdir(held.folder) if name.endswith(".part")]


@pytest.mark.parametrize(
    ("names", "vectors", "message"),
    [
        (["a"], torch.ones(2, 6), "got 1 names, 1 stamps and 2 vectors"),
        (["a"], torch.ones(1, 5), "expected vectors of 6 numbers, got 5"),
        (["a"], torch.zeros(1, 6), "expected vectors with a direction"),
        (["a"], torch.full((1, 6), torch.nan), "expected finite numbers"),
        ([], torch.ones(0, 6), "one or more vectors"),
    ],
)
def test_vectors_that_do_not_fit(held: Index, names: list[str], vectors: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        held.append(names, [(0, 0)] * len(names), vectors)
    assert len(index.opened(held.folder)) == 21


def test_questions_that_do_not_fit(held: Index) -> None:
    with pytest.raises(ValueError, match="queries: expected vectors of 6 numbers, got 3"):
        held.nearest(torch.ones(1, 3), 1)
    with pytest.raises(ValueError, match="k: expected a whole number from 1"):
        held.nearest(torch.ones(1, 6), 0)
    with pytest.raises(ValueError, match="expected a word for each of 21 rows, got 2"):
        held.nearest(torch.ones(1, 6), 1, torch.ones(2, dtype=torch.bool))


def test_where_there_is_an_index_and_where_one_may_begin(held: Index, tmp_path: Path) -> None:
    assert index.exists(held.folder)
    assert not index.exists(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert not index.exists(tmp_path / "empty")
    (held.folder / "index.json").unlink()
    assert not index.exists(held.folder), "a run was killed before its first shard counted"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    for folder, name in ((tmp_path / "full", "letter.txt"), (tmp_path / "full" / "letter.txt", "letter.txt")):
        with pytest.raises(ValueError, match=f"expected a folder with an index, or an empty one, got .* with {name}"):
            index.exists(folder)


def _without(field: str, held: dict) -> dict:
    return {name: value for name, value in held.items() if name != field}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda held: held | {"version": 2}, "of version 2: nothing was changed"),
        (lambda held: held | {"format": "poems"}, "got 'poems'"),
        (lambda held: _without("format", held), "expected the list of an index"),
        (lambda held: _without("width", held), "expected origin, width and shards"),
        (lambda held: held | {"shards": [7, 5, 8]}, "vectors-000002.npy: expected 8 x 6 numbers"),
        (lambda held: held | {"shards": [7, 5, 9, 9]}, "vectors-000003.npy: expected vectors of an index, got none"),
    ],
)
def test_a_list_that_says_something_else(held: Index, change, message: str) -> None:
    path = held.folder / "index.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    before = {one.name: one.read_bytes() for one in held.folder.iterdir()}
    with pytest.raises(ValueError, match=message):
        index.opened(held.folder)
    assert {one.name: one.read_bytes() for one in held.folder.iterdir()} == before


def test_damaged_shards_are_named(held: Index) -> None:
    path = held.folder / "photographs-000001.jsonl"
    path.write_text(path.read_text().rsplit("[", 1)[0])
    with pytest.raises(ValueError, match=r"photographs-000001.jsonl: expected 5 lines, got 4"):
        index.opened(held.folder)
    path.write_text("{")
    with pytest.raises(ValueError, match="expected names and stamps, a line each"):
        index.opened(held.folder)
    with pytest.raises(ValueError, match=r"expected a folder with index.json"):
        index.opened(held.folder.parent)


def test_vectors_are_never_unpickled(held: Index) -> None:
    np.save(held.folder / "vectors-000000.npy", np.array([{}] * 7), allow_pickle=True)
    with pytest.raises(ValueError, match="expected vectors of an index, got none"):
        index.opened(held.folder)


def test_origins_differ_in_words() -> None:
    other = Origin("clip", "tiny", "clip 9", "0.1", ORIGIN.depth)
    assert other.differences(ORIGIN) == ["model clip, not dino", "weights clip 9, not dino 1234"]
    assert ORIGIN.differences(ORIGIN) == []


def test_a_stamp_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    before = index.stamp(path)
    os.utime(path, ns=(0, before[1] + 5))
    assert index.stamp(path) == (3, before[1] + 5)


def test_a_name_that_is_no_text_comes_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"/photos/\xff\n.png")
    Index(tmp_path / "index", ORIGIN).append([name], [(1, 2)], torch.ones(1, 2))
    assert index.opened(tmp_path / "index").names == [name]
    assert F.normalize(torch.ones(1, 2)).equal(index.opened(tmp_path / "index").shards[0])
