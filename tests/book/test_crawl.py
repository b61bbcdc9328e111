"""The crawl finds every planted fault in the views that have it, and none in what only looks like one."""

from pathlib import Path

import pytest

import crawl
from chromium import PROGRAM

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "_build" / "html"
browser_needed = pytest.mark.skipif(not PROGRAM, reason="no Chromium is installed")

VIEWPORT = '<meta name="viewport" content="width=device-width">'
STYLE = """<style>
:root { --ink: #222; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #ddd; --paper: #111; } }
html { color: var(--ink); background: var(--paper); font: 16px serif; }
.pale { color: #888; }            /* 3.54 on white, 5.32 on #111 */
.dim { color: #767676; }          /* 4.54 and 4.15 */
a { color: inherit; }
.half { opacity: 0.5; }
.paper { background: rgb(0 0 0 / 50%); color: #fff; }
.wide { width: 600px; }
.hidden { position: absolute; opacity: 0; color: #fefefe; }
svg text { fill: #bbb; }
</style>"""
"""What is well, and looks as if it were not."""
WELL = """<h2 id="there">Here</h2><a name="old"></a>
<p class="hidden">pale, but seen by nobody</p><button disabled class="pale">disabled</button>
<p class="pale" style="font-size: 24px">large letters need 3 only</p>
<p class="pale" style="font-size: 19px; font-weight: 700">so do bold ones</p>
<a href="#there">a</a> <a href="#old">b</a> <a href="#top">c</a> <a href="https://example.org/no#where">d</a>
<a href="mailto:a@example.org">e</a> <a href="part/two.html#sec%20tion">f</a> <a href="data.csv">g</a>
<figure><img src="dot.svg" alt="A dot"><figcaption>Figure 1: a dot</figcaption></figure>
<svg aria-hidden="true"></svg><button><svg></svg>go</button>"""
ALL, BRIGHT = "light, dark, 420 px", "light, 420 px"
"""What is wrong, and the lines on it: in which views, of which kind, what is said."""
WRONG = {
    '<p class="pale" id="k1">pale</p>': f"[{BRIGHT}] contrast: #k1 pale: 3.54, expected 4.5",
    '<p class="dim" id="k2">dim</p>': "[dark] contrast: #k2 dim: 4.15, expected 4.5",
    '<div class="half"><p id="k3">thin</p></div>': f"""[{BRIGHT}] contrast: #k3 thin: 3.17, expected 4.5
        [dark] contrast: #k3 thin: 4.21, expected 4.5""",
    '<p class="paper" id="k4">on grey</p>': f"[{BRIGHT}] contrast: #k4 on grey: 4.00, expected 4.5",
    '<details><summary>s</summary><i id="k5" class="pale">in</i></details>': (
        f"[{BRIGHT}] contrast: #k5 in: 3.54, expected 4.5"
    ),
    '<input id="k6" value="v" style="color: #ccc; background: #fff">': f"[{ALL}] contrast: #k6: 1.60, expected 4.5",
    '<svg role="img" aria-label="drawing" width="50" height="20"><text id="k7" y="15">t</text></svg>': (
        f"[{BRIGHT}] contrast: #k7 t: 1.91, expected 4.5"
    ),
    '<p class="wide" id="w1">wide</p>': "[420 px] width: #w1 wide: the page is 608 wide, the window 420",
    '<a href="nowhere.html" id="l1">a</a>': f"[{ALL}] link: #l1 a: nowhere.html leads to no file",
    '<a href="#nowhere" id="l2">b</a>': f"[{ALL}] link: #l2 b: #nowhere: its page has no such anchor",
    '<a href="part/two.html#no" id="l3">c</a>': f"[{ALL}] link: #l3 c: part/two.html#no: its page has no such anchor",
    '<a href="../beside.html" id="l4">d</a>': f"[{ALL}] link: #l4 d: ../beside.html leads out of the book's folder",
    '<a href="javascript:void(0)" id="l5">e</a>': (
        f"[{ALL}] link: #l5 e: expected a page of the book or an address, got 'javascript:void(0)'"
    ),
    '<a href="part" id="l6">f</a>': f"[{ALL}] link: #l6 f: part leads to no file",
    '<img id="p1" src="dot.svg">': f"[{ALL}] alt text: #p1 dot.svg: is missing",
    '<main><img id="p2" src="dot.svg" alt=" "></main>': f"[{ALL}] alt text: #p2 dot.svg: is empty",
    '<main><svg id="p3"></svg></main>': f"[{ALL}] alt text: #p3: is missing",
    '<div class="cell_output"><img id="p4" src="dot.svg" alt="A"></div>': f"[{ALL}] caption: #p4 dot.svg: is missing",
    '<figure id="p5"><img src="dot.svg" alt="A dot"></figure>': f"[{ALL}] caption: #p5: is missing",
    '<figure id="p6"><figcaption hidden>c</figcaption></figure>': f"[{ALL}] caption: #p6 c: is hidden",
    '<span class="math" id="m1">\\(x\\)</span>': f"[{ALL}] equation: #m1 \\(x\\): is not typeset",
    '<span class="math" id="m2"><mjx-container><mjx-merror>x</mjx-merror></mjx-container></span>': (
        f"[{ALL}] equation: #m2 x: has an error of MathJax's"
    ),
    '<span class="math" id="m3"><mjx-container><mtext mathcolor="red">\\no</mtext></mjx-container></span>': (
        f"[{ALL}] equation: #m3 \\no: has a command that MathJax does not know"
    ),
    '<dialog><i id="d1" class="pale">on demand</i></dialog>': f"[{ALL}] contrast: #d1 on demand: 3.54, expected 4.5",
    '<img id="r1" src="https://book.invalid/a.png" alt="far">': f"""
        [{ALL}] picture: #r1 https://book.invalid/a.png: does not load
        [light] request: the page: asks for https://book.invalid/a.png
        [light] console: the page: Failed to load resource: net::ERR_NAME_NOT_RESOLVED https://book.invalid/a.png""",
    "<script>console.error('oh', 7)</script>": "[light] console: the page: oh 7",
    "<script>throw 'thrown'</script>": "[light] console: the page: thrown",
    '<script src="gone.js"></script>': """
        [light] console: the page: Failed to load resource: net::ERR_FILE_NOT_FOUND {address}/gone.js""",
}


def page(body: str) -> str:
    return f'<!doctype html><meta charset="utf-8">{VIEWPORT}<title>t</title>{STYLE}<body>{body}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A book whose pages are written by hand."""
    book = tmp_path / "a book"
    (book / "part").mkdir(parents=True)
    (book / "index.html").write_text('<meta http-equiv="Refresh" content="0; url=wrong.html">')
    (book / "well.html").write_text(page(WELL))
    (book / "wrong.html").write_text(page("".join(WRONG)))
    (book / "part" / "two.html").write_text(page('<h2 id="sec tion">Two</h2>'))
    (book / "dot.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    (book / "data.csv").write_text("1")
    (tmp_path / "beside.html").write_text(page(""))
    return book


@browser_needed
def test_every_planted_fault_is_found_where_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crawl.main([str(folder)]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    told = "\n".join(WRONG.values()).format(address=folder.as_uri())
    assert sorted(lines) == sorted(f"wrong {line.strip()}" for line in told.splitlines() if line.strip())
    assert last == f"{len(lines)} faults on 3 pages, each in 3 views"
    assert crawl.main([str(folder), "--pages", "well", "part/two"]) == 0
    assert capsys.readouterr().out == "0 faults on 2 pages, each in 3 views\n"


def test_what_is_missing_is_said_in_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    assert crawl.main([str(folder / "part")]) == 2
    assert "part: expected a built book with an index.html; `make book` builds it" in capsys.readouterr().err
    assert crawl.main([str(folder), "--pages", "three"]) == 2
    assert "three: expected a page of" in capsys.readouterr().err
    monkeypatch.setattr("chromium.PROGRAM", "")
    assert crawl.main([str(folder)]) == 2
    assert "no Chromium is installed; expected one of chromium," in capsys.readouterr().err


@pytest.mark.slow
@browser_needed
@pytest.mark.skipif(not (BUILT / "index.html").exists(), reason="the book has not been built: make book")
def test_the_built_book_has_no_fault() -> None:
    book = crawl.Book(BUILT)
    assert [*map(str, crawl.crawl(book, book.pages()))] == []
