"""`make live`: what the server gives to whom, and a cell that is changed and run in a real browser."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook, writes
from test_house import build, cell

import reader_server
from chromium import PROGRAM, Chromium

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "book" / "_ext" / "reader_server.py"
PATIENCE = 300  # seconds for the server to begin, on the slowest of machines


@dataclass
class Served:
    """A running server: its port and its token."""

    port: int
    token: str

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, method: str = "GET", token: bool = True, **headers: str) -> tuple[HTTPResponse, str]:
        """An answer and its body; by the token, or without."""
        known = {"Authorization": f"token {self.token}"} if token else {}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request(method, path, headers=known | {key.replace("_", "-"): x for key, x in headers.items()})
            answer = connection.getresponse()
            return answer, answer.read().decode()


def notebook(folder: Path) -> Path:
    """A small book of one page, with a source that the page does not show, and a file beside it."""
    cells = [cell("a"), cell("b", tag=None), cell("c", tag=None)]
    cells[0].source, cells[1].source = "start = hidden + 1", "print('the start is', start)"
    cells[2].source = "from IPython.display import HTML\nprint(1 / (start - 3))\nHTML('<b>bold</b>')"
    build(folder, cells, "house")
    pages = folder / "out"
    written = new_notebook(cells=[new_code_cell("hidden = 40", metadata={"tags": ["remove-cell"]}), *cells])
    (pages / "notebooks").mkdir()
    (pages / "notebooks" / "index.ipynb").write_text(writes(written))
    (folder / "secret.html").write_text("<p>secret</p>")
    return pages


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("live")
    pages = notebook(folder)
    command = [sys.executable, str(SERVER), "--pages", str(pages), "--root", str(folder), "--no-browser"]
    log, end = folder / "log", time.monotonic() + PATIENCE
    with log.open("w") as file:
        process = subprocess.Popen([*command, "--port", "8950"], stderr=file)
    try:
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/live/\?token=(\w+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield Served(int(found[1]), found[2])
    finally:
        process.terminate()
        process.wait()


def test_nothing_is_given_without_the_token(served: Served) -> None:
    for path in ("/live/index.html", "/live/_static/pygments.css", "/live-code/reader.js"):
        assert served.ask(path)[0].status == 200
        answer, body = served.ask(path, token=False)
        assert (answer.status, body) == (302, "")
        assert "/login" in answer.headers["Location"]
    assert served.ask("/api/kernelspecs", token=False)[0].status == 403
    for path in ("/live/../secret.html", "/live/%2e%2e/secret.html", "/live-code/reader_server.py", "/live/none.html"):
        assert served.ask(path)[0].status in (403, 404)
        assert "<p>secret" not in served.ask(path)[1]


def test_pages_of_other_places_have_no_access(served: Served) -> None:
    answer, page = served.ask(f"/live/index.html?token={served.token}", token=False)  # as a browser comes in
    assert answer.status == 200
    assert f'<script src="{reader_server.ASSET}reader.js" data-page="index"></script>' in page
    cookies = dict(re.findall(r"(?:^|, )([\w-]+)=([^;]+)", ", ".join(answer.headers.get_all("Set-Cookie"))))
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    mark = {"Cookie": cookie, "X_XSRFToken": cookies["_xsrf"]}
    own, other = served.origin, "http://127.0.0.1:1"
    assert served.ask("/api/kernels", "POST", token=False, Cookie=cookie, Origin=own)[0].status == 403  # no mark
    assert served.ask("/api/kernels", "POST", token=False, **mark, Origin=other)[0].status in (403, 404)
    answer, body = served.ask("/api/kernels", "POST", token=False, **mark, Origin=own)
    assert answer.status == 201
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Key": "x" * 22 + "==", **mark}
    place = f"/api/kernels/{json.loads(body)['id']}"
    channels = f"{place}/channels"
    assert served.ask(channels, token=False, **upgrade, Sec_WebSocket_Version="13", Origin=other)[0].status == 403
    assert served.ask(place, "DELETE", token=False, **mark, Origin=own)[0].status == 204
    assert (
        served.ask("/live/index.html", Host="elsewhere.example")[0].status == 403
    )  # a name that is not this machine's
    assert served.ask("/api/kernelspecs", Origin=own)[0].headers["Access-Control-Allow-Origin"] == own


def test_no_extension_of_the_machine_is_loaded(served: Served) -> None:
    for path in ("/formgrader", "/assignments", "/lab", "/tree", "/api/terminals"):
        assert served.ask(path)[0].status == 404, path


def test_a_page_stays_as_it_is_on_the_disk() -> None:
    page = "<html><body><p>a</body> in a text</p></body></html>"
    made = reader_server.made_live(page, "book/part/name")
    assert made.endswith('data-page="book/part/name"></script>\n</body></html>')
    assert made.startswith("<html><body><p>a</body> in a text</p><link")
    assert reader_server.made_live("no page", "") == "no page"


def test_a_book_that_is_not_built_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reader_server.main(["--pages", str(tmp_path)]) == 2
    assert f"expected the built book in {tmp_path}, got no index.html: make book" in capsys.readouterr().err


@pytest.mark.skipif(not PROGRAM, reason="no Chromium is installed")
def test_a_changed_cell_shows_its_new_output(served: Served, tmp_path: Path) -> None:
    page = Chromium(tmp_path / "profile")
    try:
        page.look(900)
        page("Page.navigate", url=f"{served.origin}/live/?token={served.token}")
        page.wait("document.readyState === 'complete' && document.querySelectorAll('.reader-page option').length > 0")
        page.wait("document.querySelector('.reader-page').textContent.includes('Change a cell')")
        run = "[...document.querySelectorAll('div.cell')]"
        page.run(f"{run}[1].querySelector('.reader-bar button').click()")
        page.wait(
            f"{run}[1].querySelector('.cell_output')?.textContent === 'the start is 41\\n'"
        )  # with the hidden one
        page.run(f"{run}[0].querySelector('details').open = true; {run}[0].querySelector('pre').focus()")
        page.run("getSelection().selectAllChildren(document.activeElement)")
        page("Input.insertText", text="start = 2\nif True:\n    start += 1")
        for kind in ("rawKeyDown", "keyUp"):
            page("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, modifiers=8)
        page.wait(f"{run}[0].querySelector('.reader-says').textContent.startsWith('done')")
        page.run(f"{run}[2].querySelector('.reader-bar button').click()")
        page.wait(f"{run}[2].textContent.includes('ZeroDivisionError')")
        page.wait(f"{run}[2].querySelector('.reader-says').textContent.startsWith('failed')")
        page.run(f"{run}[0].querySelectorAll('.reader-bar button')[1].click()")  # undo
        assert page.run(f"{run}[0].querySelector('pre').textContent").strip() == "start = hidden + 1"
        page.run(f"for (const i of [0, 2]) {run}[i].querySelector('.reader-bar button').click()")
        page.wait(f"{run}[2].querySelector('.cell_output b')?.textContent === 'bold'")
        assert float(page.run(f"{run}[2].querySelector('.cell_output pre').textContent")) == pytest.approx(1 / 38)
        page.run("document.querySelectorAll('.reader-page button')[2].click()")  # a new kernel
        page.wait("document.querySelector('.reader-page').textContent.includes('no kernel now')")
        page.wait("fetch('/api/kernels').then((answer) => answer.json()).then((all) => all.length === 0)")
        assert not page.errors
        assert all(address.startswith((served.origin, "data:")) for address in page.requests)
    finally:
        page.close()
