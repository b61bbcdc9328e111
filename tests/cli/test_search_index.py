"""`gadkit search --index`: encoded once, added to, and never begun anew by itself."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from photographs import Run, photograph
from test_kills import START, wait

from gadkit.cli import gallery, spaces
from gadkit.search import approximate, index

MODEL = ("--model", "random")
SHARD = 96  # photographs that a killed run commits


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six photographs in two folders."""
    for i in range(6):
        photograph(tmp_path / "photos" / "ab"[i % 2] / f"{i}.png", seed=i, spot=3 * i)
    return tmp_path / "photos"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many photographs each call of the network was given."""
    counts, load = [], spaces.load

    def counting(*arguments: str) -> spaces.Space:
        space = load(*arguments)
        call = space.encode_image

        def encode_image(images: torch.Tensor) -> torch.Tensor:
            counts.append(len(images))
            return call(images)

        return spaces.Space(space.name, encode_image, space.encode_text, space.full, space.image_size)

    monkeypatch.setattr(spaces, "load", counting)
    return counts


def found(printed: str) -> list[tuple[str, float]]:
    return [(Path(hit["path"]).name, hit["similarity"]) for hit in map(json.loads, printed.splitlines())]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_index_answers_as_a_run_without_and_encodes_once(
    run: Run, photos: Path, tmp_path: Path, encoded: list[int]
) -> None:
    ask = ("search", photos, "--like", photos / "a" / "2.png", *MODEL, "--json", "--count", 3)
    code, printed, _ = run(*ask)
    plain = found(printed)
    assert code == 0
    assert len(plain) == 3
    assert "2.png" not in dict(plain), "a photograph is not among its own answers"
    for known in (0, 6):
        encoded.clear()
        code, printed, err = run(*ask, "--index", tmp_path / "index")
        assert code == 0
        assert f"{known} photographs known, {6 - known} new, 0 changed" in err
        assert sum(encoded) == 1 + 6 - known, "the query, and what is new"
        assert [name for name, _ in found(printed)] == [name for name, _ in plain]
        assert [value for _, value in found(printed)] == pytest.approx([value for _, value in plain], abs=1e-5)
    assert sorted(os.listdir(tmp_path / "index")) == ["index.json", "photographs-000000.jsonl", "vectors-000000.npy"]


def test_new_changed_and_vanished_photographs(run: Run, photos: Path, tmp_path: Path, encoded: list[int]) -> None:
    folder = tmp_path / "index"
    assert run("search", photos, "--index", folder, *MODEL)[0] == 0
    before = content(folder)
    photograph(photos / "b" / "new.png", seed=9)
    (photos / "a" / "0.png").unlink()
    photograph(photos / "a" / "2.png", seed=11, spot=15)
    encoded.clear()
    code, printed, err = run("search", photos, "--like", photos / "a" / "2.png", "--index", folder, "--json")
    assert code == 0
    assert "4 photographs known, 1 new, 1 changed" in err
    assert f"vanished: 1 photograph of the index, no longer found: {photos / 'a' / '0.png'}" in err
    assert sum(encoded) == 3
    assert sorted(name for name, _ in found(printed)) == ["1.png", "3.png", "4.png", "5.png", "new.png"]
    after = content(folder)
    assert {name: after[name] for name in before if name != "index.json"} == {
        name: value for name, value in before.items() if name != "index.json"
    }, "what was written stays"
    held = index.opened(folder)
    assert (len(held), len(held.rows())) == (8, 7)
    (photos / "b" / "new.png").unlink()
    shutil.copy(photos / "a" / "2.png", photos / "a" / "0.png")
    _, _, err = run("search", photos, "--index", folder)
    assert "5 photographs known, 0 new, 1 changed" in err
    assert "vanished: 1 photograph" in err


def test_a_folder_below_is_searched_by_itself(run: Run, photos: Path, tmp_path: Path) -> None:
    run("search", photos, "--index", tmp_path / "index", *MODEL)
    code, printed, err = run(
        "search", photos / "b", "--like", photos / "a" / "0.png", "--index", tmp_path / "index", "--json"
    )
    assert code == 0
    assert sorted(name for name, _ in found(printed)) == ["1.png", "3.png", "5.png"]
    assert "vanished" not in err


def test_an_index_of_something_else_is_an_error_and_stays(run: Run, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    run("search", photos, "--index", folder, *MODEL)
    photograph(photos / "new.png", seed=9)
    before = content(folder)

    def refused(*more: str) -> str:
        code, printed, err = run("search", photos, "--like", photos / "new.png", "--index", folder, *more)
        assert (code, printed) == (2, "")
        assert content(folder) == before
        return err

    assert "made by model random, not dino" in refused("--model", "dino")
    assert "depth own bits, floats to 1, not 12 bits, floats to 1" in refused("--bits", "12")
    path = folder / "index.json"
    for field, value in (("gadkit", "9.9"), ("preset", "paper"), ("weights", "others")):
        held = json.loads(before["index.json"])
        held["origin"][field] = value
        path.write_text(json.dumps(held))
        before = content(folder) | {"index.json": before["index.json"]}
        code, _, err = run("search", photos, "--index", folder)
        assert code == 2
        assert f"made by {field} {value}, not" in err
        assert "Nothing was changed" in err
    held = json.loads(before["index.json"])
    path.write_text(json.dumps(held | {"version": 7}))
    assert "of version 7: nothing was changed" in run("search", photos, "--index", folder)[2]
    path.write_bytes(before["index.json"])
    assert "sees images only: ask it with --like PHOTO" in refused("a cat")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a cat", *MODEL], "QUERY: expected a model that reads texts (conse, clip-random, "),
        (["--like", "nowhere.png", *MODEL], "nowhere.png: "),
        (["--like", "photos/a/0.png", "--model", "minilm"], "--model: expected one of conse, random, "),
        (["--like", "photos/a/0.png", *MODEL, "--faiss"], "--faiss: expected an --index to search"),
        (["--like", "photos/a/0.png", *MODEL, "--index", "photos"], "index: expected a folder with an index, or an"),
        ([*MODEL, "--index", "new", "--export", "out.csv"], "--export: expected a file that ends in .parquet"),
        (["--export", "out.parquet", *MODEL, "--like", "photos/a/0.png"], "--export: expected an --index to write"),
    ],
)
def test_questions_that_cannot_be_answered(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(photos.parent)
    code, printed, err = run("search", "photos", *arguments)
    assert (code, printed) == (2, "")
    assert message in err
    assert not Path("new").exists()


def test_without_a_folder_there_is_nothing_to_ask(run: Run, tmp_path: Path) -> None:
    assert "FOLDER: expected a folder of photographs, got none" in run("search")[2]
    code, _, err = run("search", "--index", tmp_path / "none", "--export", tmp_path / "a.parquet")
    assert code == 2
    assert "expected a folder with index.json" in err


def test_texts_by_a_network_that_reads(run: Run, photos: Path) -> None:
    ask = ("search", photos, "a gear", "--like", photos / "a" / "0.png", "--model", "clip-random", "--count", 2)
    code, printed, _ = run(*ask, "--json")
    rows = [json.loads(line) for line in printed.splitlines()]
    assert code == 0
    assert [(row["query"], row["rank"]) for row in rows] == [
        (query, rank) for query in ("a gear", str(photos / "a" / "0.png")) for rank in (1, 2)
    ]


def test_the_sheet_names_the_photograph_that_was_asked_with(run: Run, photos: Path, tmp_path: Path) -> None:
    code, _, _ = run("search", photos, "--like", photos / "a" / "4.png", *MODEL, "--out", tmp_path / "out")
    with open(tmp_path / "out" / "search.csv", newline="", encoding="utf-8") as file:
        table = [*csv.DictReader(file)]
    assert code == 0
    assert {row["query"] for row in table} == {str(photos / "a" / "4.png")}
    assert f"<h2>{photos / 'a' / '4.png'}</h2>" in (tmp_path / "out" / "sheet.html").read_text(encoding="utf-8")


def test_faiss_gives_the_same_answer(run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    ask = ("search", photos, "--like", photos / "a" / "2.png", *MODEL, "--index", tmp_path / "index", "--json")
    exact, by_faiss = (found(run(*ask, *more)[1]) for more in ((), ("--faiss",)))
    assert [name for name, _ in by_faiss] == [name for name, _ in exact]
    assert (tmp_path / "index" / approximate.FILE).is_file()
    (tmp_path / "index" / approximate.FILE).unlink()
    monkeypatch.setattr(approximate, "MANY", 6)
    assert [name for name, _ in found(run(*ask)[1])] == [name for name, _ in exact]
    assert (tmp_path / "index" / approximate.FILE).is_file(), "large enough now"
    monkeypatch.setattr(approximate, "available", lambda: False)
    assert 'pip install "gadkit[search]"' in run(*ask)[2]
    assert "--faiss: expected faiss to be installed" in run(*ask, "--faiss")[2]


def test_an_export_has_the_rows_that_count(run: Run, photos: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "index", tmp_path / "vectors.parquet"
    run("search", photos, "--index", folder, *MODEL)
    photograph(photos / "a" / "2.png", seed=11, spot=15)
    code, _, err = run("search", photos, "--index", folder, "--export", out)
    assert code == 0
    assert f"6 photographs written: {out}" in err
    table, held = pyarrow.parquet.read_table(out), index.opened(folder)
    rows = held.rows()
    assert table.column_names == ["id", "path", "vector"]
    assert str(table.schema.field("vector").type) == f"fixed_size_list<element: float>[{held.width}]"
    assert {row["path"]: row["id"] for row in table.to_pylist()} == rows
    vectors = np.stack([row["vector"] for row in table.to_pylist()])
    np.testing.assert_array_equal(vectors, held.vectors(torch.tensor(sorted(rows.values()))).numpy())
    assert table.schema.metadata[b"gadkit.model"] == b"random"
    assert table.schema.metadata[b"gadkit.metric"] == b"cosine"
    assert gallery.export(held, out) == 6


def test_a_name_that_is_no_text_is_exported_with_backslashes(tmp_path: Path) -> None:
    held = index.Index(tmp_path / "index", index.Origin("", "", "", "", ""))
    held.append([os.fsdecode(b"/\xff.png")], [(1, 1)], torch.ones(1, 4))
    gallery.export(held, tmp_path / "a.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "a.parquet")["path"].to_pylist() == ["/\\udcff.png"]


def test_a_broken_file_is_named_and_tried_again(run: Run, photos: Path, tmp_path: Path) -> None:
    (photos / "torn.png").write_bytes(b"\x89PNG no more")
    for new in (7, 1):
        code, _, err = run("search", photos, "--index", tmp_path / "index", *MODEL)
        assert code == 1
        assert f"{new} new" in err
        assert f"skipped {photos / 'torn.png'}" in err
        assert "6 photographs in the index" in err


def test_a_killed_run_goes_on(photos: Path, tmp_path: Path, run: Run) -> None:
    folder, many = tmp_path / "index", tmp_path / "many"
    many.mkdir()
    for i in range(SHARD + 60):
        os.link(photos / "a" / "0.png", many / f"{i:03}.png")
    script = f"from gadkit.search import index; index.SHARD = {SHARD}; {START}"
    command = [sys.executable, "-c", script, "search", str(many), "--index", str(folder), *MODEL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait(process, (folder / "index.json").is_file)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert len(index.opened(folder)) == SHARD
    code, _, err = run("search", many, "--index", folder)
    assert code == 0
    assert f"{SHARD} photographs known, 60 new" in err
    assert len(index.opened(folder)) == SHARD + 60


def test_an_interrupt_keeps_what_was_encoded(
    photos: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gadkit.cli import sources

    monkeypatch.setattr(sources, "BATCH", 2)
    load = spaces.load

    def tired(*arguments: str) -> spaces.Space:
        space, calls = load(*arguments), []

        def encode_image(images: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            if len(calls) > 2:
                raise KeyboardInterrupt
            return space.encode_image(images)

        return spaces.Space(space.name, encode_image, space.encode_text, space.full, space.image_size)

    monkeypatch.setattr(spaces, "load", tired)
    assert run("search", photos, "--index", tmp_path / "index", *MODEL)[0] == 130
    assert len(index.opened(tmp_path / "index")) == 4
