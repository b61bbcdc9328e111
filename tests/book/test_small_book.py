"""Pages that the book's own tools make, with all that pages have, are without fault on a screen, and whole on paper."""

import base64
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from pypdf import PdfReader

import crawl
import pdf
from chromium import PROGRAM

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not PROGRAM, reason="no Chromium is installed")

LEFT_OUT = {"live", "downloads", "fingerprint", "survey", "survey_browser", "survey_drawings", "survey_query"}
HOME = r"""# Home

A question, and [a link](notebook.ipynb) to {ref}`a part of it <results>`. See {cite}`someone` and {eq}`line`.

```{math}
:label: line
y = \sum_i a_i x^i \quad\text{for } \mathbf{x} \in \mathbb{R}^n
```

:::{note}
A note with `code` and $x^2$.
:::

```{figure} drawing.svg
:alt: A square in the colour of the page's letters.

A square, drawn by hand.
```

| column | number |
|---|---|
| row | 0.93 ± 0.12 |
"""
LONG = "on and on, " * 40 + "to the end"
LAST = """# Last

```{exercise}
:label: why
Why is $a^2 + b^2 = c^2$?
```

````{solution} why
:class: dropdown
Because.

```python
def why(a: float) -> str:  # a comment
    return f"{a ** 2:.1f}" + "text" if a > 1e3 else None

LONG = "{LONG}"
```
````

```{bibliography}
```
"""


def small_book(folder: Path) -> None:
    """Three pages with all that pages have, and the book's own settings, without what reads the repository."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config["execute"]["execute_notebooks"] = "off"
    config["exclude_patterns"] = []
    local = config["sphinx"]["local_extensions"]
    config["sphinx"]["local_extensions"] = {name: local[name] for name in local.keys() - LEFT_OUT}
    options = config["sphinx"]["config"]
    config["sphinx"]["config"] = {name: options[name] for name in options if not name.startswith("notebooks_")}
    contents = {
        "format": "jb-book",
        "root": "book/index",
        "chapters": [{"file": f"book/{x}"} for x in ("notebook", "last")],
    }
    (folder / "book").mkdir(parents=True)
    for name in ("_ext", "_static", "_templates"):
        (folder / "book" / name).symlink_to(ROOT / "book" / name)
    for name, content in (("_config.yml", config), ("_toc.yml", contents)):
        (folder / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    (folder / "book" / "references.bib").write_text("@misc{someone, author={A. Person}, title={Words}, year=2020}")
    (folder / "book" / "index.md").write_text(HOME, encoding="utf-8")
    (folder / "book" / "last.md").write_text(LAST.replace("{LONG}", LONG), encoding="utf-8")
    square = '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90"><rect width="90" height="90"/></svg>'
    (folder / "book" / "drawing.svg").write_text(square)
    nbformat.write(notebook(), folder / "book" / "notebook.ipynb")


def notebook() -> nbformat.NotebookNode:
    """A page with code, shown and hidden, and with outputs: a text, a table and a picture with a caption."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(buffer, "PNG")
    picture = new_output("display_data", {"image/png": base64.b64encode(buffer.getvalue()).decode()})
    figure = {
        "figure": {"caption": "A caption.", "name": "teal"},
        "image": {"alt": "A rectangle that is teal all over."},
    }
    table = new_output("display_data", {"text/markdown": "| a | b |\n|---|---|\n| 1 | 2 |"})
    code = (
        "import math\n\n@cached\ndef area(r):  # of a circle\n    return f'{math.pi * r ** 2:.2f}' or 0x1F, None, True"
    )
    cells = [
        new_markdown_cell("# Notebook\n\n(results)=\n## Results\n\nSee {numref}`teal`."),
        new_code_cell(code, outputs=[new_output("stream", text="a line\n"), table]),
        new_code_cell(code, metadata={"tags": ["hide-input"], "mystnb": figure}, outputs=[picture]),
    ]
    return new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small book, as a reader gets it."""
    folder = tmp_path_factory.mktemp("book") / "small"
    small_book(folder)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(folder), "-W", "-n", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    built = folder / "_build" / "html"
    shutil.copytree(built / "book", built / "ko" / "book")  # where the switch of languages leads
    shutil.copy(built / "search.html", built / "ko")
    return built


def test_a_screen_shows_no_fault(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (built / "book" / "notebook.html").read_text(encoding="utf-8")
    assert 'webp"' in page
    assert 'class="highlight' in page
    status = crawl.main([str(built), "--pages", "book/index", "book/notebook", "book/last", "search"])
    assert capsys.readouterr().out == "0 faults on 4 pages, each in 3 views\n"
    assert status == 0


def texts(path: Path) -> list[str]:
    """The text of every page, in one line each."""
    return [" ".join(page.extract_text().split()) for page in PdfReader(path).pages]


@pytest.fixture(scope="module")
def printed(built: Path) -> Path:
    """All of the small book on paper."""
    out = built.parent / "book.pdf"
    assert pdf.main([str(built), str(out)]) == 0
    return out


def test_paper_has_everything_with_its_page_number(printed: Path) -> None:
    cover, contents, *pages = texts(printed)
    assert "By The authors of Spot the Di" in cover
    assert "CC BY 4.0" in cover
    assert "Without" not in cover
    (where,) = [number for number, text in enumerate(pages, start=3) if "Last" in text]
    for title, number in (("Home", 3), ("Notebook", where - 1), ("Last", where)):
        assert f"{title} {number}" in contents
        assert f"{title} {number} " in f"{pages[number - 3]} "  # the running head and the number at the foot
    notebook, last = pages[-2:]
    assert notebook.count("def area") == 2
    assert "Fig. 2 A caption." in notebook
    assert "Because." in last
    assert all(word not in " ".join(pages) for word in ("Show", "Hide", "Click", "Copy"))


def test_links_on_paper_lead_to_their_page(printed: Path) -> None:
    reader = PdfReader(printed)
    links = [link.get_object() for link in reader.pages[1]["/Annots"]]
    places = [reader.named_destinations[str(link["/Dest"])] for link in links]
    leads = [reader.get_destination_page_number(place) for place in places]
    assert leads == [2, len(reader.pages) - 2, len(reader.pages) - 1]
    assert [mark["/Title"] for mark in reader.outline] == ["Home", "Notebook", "Last"]
    assert [reader.get_destination_page_number(mark) for mark in reader.outline] == leads


def test_on_paper_long_lines_are_wrapped_and_pictures_are_there(printed: Path) -> None:
    notebook, last = PdfReader(printed).pages[-2:]
    lines = last.extract_text().splitlines()
    assert " ".join("".join(lines).split()).count("on and on,") == 40
    assert max(map(len, lines)) < 130 < len(LONG)
    (teal,) = [image.image.convert("RGB") for image in notebook.images]
    assert teal.size == (64, 48)
    assert max(abs(a - b) for a, b in zip(teal.getpixel((9, 9)), (0, 128, 128), strict=True)) < 6


def test_paper_leaves_out_what_one_chooses(built: Path, tmp_path: Path) -> None:
    assert pdf.main([str(built), str(tmp_path / "book.pdf"), "--solutions", "0", "--code", "0"]) == 0
    cover, _, *pages = texts(tmp_path / "book.pdf")
    assert "Without solutions, hidden code." in cover
    assert pages[-2].count("def area") == 1
    assert "Fig. 2 A caption." in pages[-2]
    assert "Because." not in pages[-1]
    assert "Exercise 1" in pages[-1]


def test_what_is_missing_is_said_in_a_sentence(built: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    out = tmp_path / "book.pdf"
    assert pdf.main([str(tmp_path), str(out)]) == 2
    assert "expected a built book with book/index.html; `make book` builds it" in capsys.readouterr().err
    monkeypatch.setattr("chromium.PROGRAM", "")
    assert pdf.main([str(built), str(out)]) == 2
    assert "no Chromium is installed" in capsys.readouterr().err
    assert not out.exists()
