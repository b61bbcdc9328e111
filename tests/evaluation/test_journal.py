"""Rows that are on the disk as soon as they are measured: kills, several runs, full disks, and Parquet files."""

import errno
import json
import resource
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet as arrow

from gadkit.evaluation import journal, parquet, results
from gadkit.files import explain

ROWS = [
    {"name": "a", "value": 0.25, "heads": None, "versions": {"torch": "2", "python": "3"}, "device": "cpu"},
    {"name": "b", "value": 1 / 3, "heads": "own", "versions": {"torch": "2", "python": "3"}, "device": "cpu"},
]


def name_of(row: dict) -> tuple[str]:
    return (row["name"],)


def test_a_kill_tears_the_last_row_at_most(tmp_path: Path) -> None:
    out = tmp_path / "r[1].parquet"
    with journal.writing(out) as book:
        for row in ROWS:
            book.keep(row)
        assert journal.left(out) == {}, "its run is at work"
        content = book.path.read_bytes()
    assert journal.left(out) == {book.path: ROWS}
    for end in range(len(content)):
        book.path.write_bytes(content[:end])
        whole = content[:end].count(b"\n")
        assert journal.left(out) == {book.path: ROWS[:whole]}
    journal.clear([book.path])
    assert [*tmp_path.iterdir()] == []


def test_journals_of_other_files_are_left_alone(tmp_path: Path) -> None:
    with journal.writing(tmp_path / "a.json") as one, journal.writing(tmp_path / "a.json") as two:
        one.keep(ROWS[0]), two.keep(ROWS[1])
    assert journal.left(tmp_path / "a.json") == {one.path: ROWS[:1], two.path: ROWS[1:]}
    assert journal.left(tmp_path / "b.json") == {}
    two.path.write_bytes(b"not a row\n")
    with pytest.raises(ValueError, match=r"a\.json\.\w{8}\.rows: expected rows in JSON, a line each"):
        journal.left(tmp_path / "a.json")


def test_a_full_disk_is_named_and_what_fits_stays(small_disk: Path) -> None:
    out = small_disk / "r.json"
    with journal.writing(out) as book:
        before = [book.keep({"name": i, "rest": "x" * 1000}) for i in range(100)]
        with pytest.raises(OSError, match="No space left") as full:
            [book.keep({"name": i, "rest": "x" * 1000}) for i in range(100, 1000)]
    assert explain(full.value) == f"{book.path}: the disk is full"
    (rows,) = journal.left(out).values()
    assert [row["name"] for row in rows] == list(range(len(rows)))
    assert len(before) < len(rows) < 256


@pytest.mark.parametrize("name", ["r.json", "r.parquet"])
def test_a_file_that_may_not_grow_stays_whole(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    results.merge(out, ROWS, name_of, "things")
    before, limits = out.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    many = [{"name": f"{i * 2654435761 % 2**32}"} for i in range(4_000)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"r\.") as error:
            results.merge(out, many, name_of, "things")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.errno == errno.EFBIG
    assert explain(error.value) == f"{out}: the file is larger than the file system or a limit of the system allows"
    assert out.read_bytes() == before
    assert [*tmp_path.iterdir()] == [out]


def test_parquet_gives_back_what_it_got(tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    results.merge(out, ROWS, name_of, "things")
    results.merge(out, [{"name": "c", "more": [1, 2], "device": "cuda"}, {**ROWS[0], "value": 0.5}], name_of, "things")
    a, b, c = results.read(out)
    assert (a, b) == ({**ROWS[0], "value": 0.5, "more": None}, {**ROWS[1], "more": None})
    assert {name: value for name, value in c.items() if value is not None} == {
        "name": "c",
        "more": [1, 2],
        "device": "cuda",
    }
    about = json.loads(arrow.read_schema(out).metadata[b"gadkit"])
    assert about == parquet.about(out)
    assert about["what"] == "things"
    assert about["sources"] == [{"device": "cpu", "versions": ROWS[0]["versions"]}, {"device": "cuda"}]


def test_torn_and_foreign_files_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    results.merge(out, ROWS, name_of, "things")
    content = out.read_bytes()
    for torn in (b"", content[:4], content[:-5], content[: len(content) // 2], b'{"rows": []}', b"x" * 100):
        out.write_bytes(torn)
        with pytest.raises(ValueError, match=r"r\.parquet: expected a results file in Parquet, got something else"):
            results.merge(out, ROWS, name_of, "things")
        assert out.read_bytes() == torn, "nothing is overwritten"
    arrow.write_table(pyarrow.table({"x": [1]}), out)
    with pytest.raises(ValueError, match=r"expected a results file of gadkit, got a table of something else"):
        results.read(out)
    results.merge(tmp_path / "empty.parquet", [], name_of, "things")
    assert results.read(tmp_path / "empty.parquet") == []
    for rows in ("5", "{}", "[1]", '"a"'):
        (tmp_path / "r.json").write_text(f'{{"rows": {rows}}}')
        with pytest.raises(ValueError, match="expected a results file, JSON with rows"):
            results.read(tmp_path / "r.json")
