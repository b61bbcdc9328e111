"""Pages are executed side by side before Sphinx reads them, and into the cache where it looks."""

import time
from pathlib import Path

import pytest
from jupyter_cache import get_cache
from sphinx.application import Sphinx

import ahead

HEAD = "---\njupytext:\n  text_representation:\n    format_name: myst\nkernelspec:\n  name: python3\n"
HEAD += "  display_name: Python 3\n  language: python\n---\n\n# A page\n\n```{code-cell} ipython3\n%s\n```\n"
MEET = """import os, time
open("{0}.began", "w").close()
until = time.monotonic() + 1200
while not os.path.exists("{1}.began") and time.monotonic() < until:
    time.sleep(0.05)
print("met", os.path.exists("{1}.began"), "threads", os.environ.get("OMP_NUM_THREADS"))"""


@pytest.fixture
def book(tmp_path: Path) -> Sphinx:
    pages = {
        "left": HEAD % MEET.format("left", "right"),
        "right": HEAD % MEET.format("right", "left"),
        "wrong": HEAD % "print('ran', file=open('wrong.ran', 'a'))\n1 / 0",
        "plain": "# Words only\n",
        "own": HEAD.replace("---\n\n", "mystnb:\n  execution_mode: 'off'\n---\n\n") % "open('own.ran', 'w')",
        "index": "# Book\n",
        "conf": "extensions = ['myst_nb']\nnb_execution_mode = 'cache'\nnb_execution_raise_on_error = True\n"
        "nb_execution_timeout = -1\n",  # of a cell: kernels on a busy machine are late
    }
    for name, text in pages.items():
        (tmp_path / f"{name}.{'py' if name == 'conf' else 'md'}").write_text(text, encoding="utf-8")
    app = Sphinx(tmp_path, tmp_path, tmp_path / "_build", tmp_path / "_build" / "trees", "html", status=None)
    app.env.find_files(app.config, app.builder)
    return app


def folders(book: Sphinx) -> dict[str, Path]:
    return {page: Path(book.srcdir) / "cache" / page for page in sorted(book.env.found_docs)}


def cached(folder: Path) -> list[str]:
    cache = get_cache(folder)
    return [
        "".join(
            out.get("text", "") for cell in cache.get_cache_bundle(r.pk).nb.cells for out in cell.get("outputs", [])
        )
        for r in cache.list_cache_records()
    ]


def test_pages_run_side_by_side_into_their_caches(book: Sphinx, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ahead.THREADS:
        monkeypatch.delenv(name, raising=False)
    places = folders(book)
    ahead.execute(book.env, places, cores=3)
    assert [cached(places[page]) for page in ("left", "right")] == [["met True threads 1\n"]] * 2
    assert ahead.THREADS[0] not in ahead.os.environ
    # one that fails is left to Sphinx, as is one that is configured in its own way
    assert cached(places["wrong"]) == []
    assert (Path(book.srcdir) / "wrong.ran").exists()
    assert not (Path(book.srcdir) / "own.ran").exists()
    left = places["left"] / "executed"
    before = {path: path.stat().st_mtime_ns for path in left.rglob("*.ipynb")}
    time.sleep(0.01)
    ahead.execute(book.env, places, cores=3)  # nothing but the page that fails is left to do
    assert before
    assert before == {path: path.stat().st_mtime_ns for path in left.rglob("*.ipynb")}


def test_one_core_or_no_cache_leaves_it_to_sphinx(book: Sphinx) -> None:
    ahead.execute(book.env, folders(book), cores=1)
    book.env.mystnb_config = book.env.mystnb_config.copy(execution_mode="off")
    ahead.execute(book.env, folders(book), cores=3)
    assert not [path for path in Path(book.srcdir).iterdir() if path.suffix in (".began", ".ran")]
