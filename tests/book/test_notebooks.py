"""The three editions: the same every time, plain Markdown, no solution where none belongs, and they run anywhere."""

import ast
import base64
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbformat import NotebookNode, validate
from nbformat.v4 import new_code_cell

import notebooks
from notebooks import EDITIONS, notebook, pieces, write
from plain import LITERAL, Plain
from shelf import Book

ROOT = Path(__file__).parents[2]
HERE = "https://example.org/authors/spot"
QUICK = "book/anomaly/field"
THREE = ("book/intro/factory", "book/anomaly/benchmark", "book/selfsup/comparison")
LEFT = re.compile(r"\{[\w:-]+\}`|^(:::|```\{)|^\([\w-]+\)=$|\]\([^)\s]*\.md[)#]", re.M)
BUILT = ROOT / "_build" / "html"
PUBLISHED = (  # labels and numbers in the HTML of a page
    re.compile(r'<span class="eqno">\((?P<number>[\d.]+)\)<a class="headerlink" href="#equation-(?P<label>[\w-]+)"'),
    re.compile(r'<figure[^>]* id="(?P<label>[\w-]+)"(?:(?!</figure>).)*?caption-number">Fig. (?P<number>[\d.]+)', re.S),
    re.compile(r'class="exercise[^>]* id="(?P<label>[\w-]+)">.*?caption-number">Exercise (?P<number>[\d.]+)', re.S),
)


@pytest.fixture(scope="module")
def book() -> Book:
    return Book(ROOT)


@pytest.fixture(scope="module")
def editions(book: Book) -> dict[str, dict[str, NotebookNode]]:
    return {edition: {page: notebook(book, page, edition) for page in book.notebooks} for edition in EDITIONS}


def prose(cells: NotebookNode) -> str:
    """The text of a notebook, without literal blocks and literal words."""
    return re.sub(r"(?<!\})(`+)(?!`)(?:(?!\n\n).)+?(?<!`)\1(?!`)", "", LITERAL.sub("", written(cells)), flags=re.S)


def written(cells: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in cells.cells if cell.cell_type == "markdown")


def code(cells: NotebookNode) -> list[str]:
    return [cell.source for cell in cells.cells if cell.cell_type == "code"]


def lines(contents: Iterable[str | NotebookNode]) -> set[str]:
    """The lines of texts and cells."""
    texts = (content if isinstance(content, str) else content.source for content in contents)
    return {line.strip() for text in texts for line in text.splitlines()}


def test_an_edition_is_the_same_every_time_and_takes_the_place_of_the_last(tmp_path: Path) -> None:
    (tmp_path / "a" / "book").mkdir(parents=True)
    (tmp_path / "a" / "book" / "gone.ipynb").write_text("a page that there was once")
    first, second = (write(Book(ROOT), tmp_path / name, "reader") for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert sorted((tmp_path / "a").rglob("*.ipynb")) == sorted(first)


def test_notebooks_are_valid_and_have_no_outputs(editions: dict[str, dict[str, NotebookNode]]) -> None:
    for cells in (cells for pages in editions.values() for cells in pages.values()):
        validate(cells)
        assert not any(cell.outputs for cell in cells.cells if cell.cell_type == "code")
        assert len({cell.id for cell in cells.cells}) == len(cells.cells)


def test_nothing_is_left_that_only_the_build_of_the_book_can_read(
    editions: dict[str, dict[str, NotebookNode]],
) -> None:
    left = {
        (edition, page): found
        for edition, pages in editions.items()
        for page, cells in pages.items()
        if (found := [match[0] for match in LEFT.finditer(prose(cells))])
    }
    assert not left


def test_pictures_lie_inside_and_links_lead_to_other_notebooks(
    book: Book, editions: dict[str, dict[str, NotebookNode]]
) -> None:
    shown = 0
    for page, cells in editions["reader"].items():
        for cell in cells.cells:
            for name in re.findall(r"\(attachment:([^)]+)\)", cell.source):
                ((kind, data),) = cell.attachments[name].items()
                shown += len(base64.b64decode(data)) > 100 and kind.startswith("image/")
        for target in re.findall(r"\]\(((?!https?:|attachment:|#)[^)\s]+)\)", prose(cells)):
            path = ((ROOT / page).parent / target).resolve().relative_to(ROOT)
            assert str(path.with_suffix("")) in book.notebooks, (page, target)
    assert shown > 20


def test_students_get_exercises_and_no_solution(book: Book, editions: dict[str, dict[str, NotebookNode]]) -> None:
    for page, cells in editions["student"].items():
        parts = [*pieces(book, page)]
        solved = {part.solves for part in parts if part.solves}
        assert code(cells).count(notebooks.ANSWER) == len(solved)
        assert all(book.labels[label].words in prose(cells) for label in solved)
        secret, given = (
            lines(part.content for part in parts if bool(part.solves) is solves) for solves in (True, False)
        )
        assert not {line for line in secret - given if len(line) > 12} & lines(cells.cells)


def test_no_page_needs_what_a_solution_defines(book: Book) -> None:
    for page in book.notebooks:
        inside, outside, used = set(), set(), set()
        for part in pieces(book, page):
            if isinstance(part.content, str):
                continue
            names = [*ast.walk(ast.parse(TransformerManager().transform_cell(part.content.source)))]
            stored = {node.id for node in names if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
            stored |= {node.name for node in names if isinstance(node, ast.FunctionDef | ast.ClassDef)}
            stored |= {alias.asname or alias.name for n in names if isinstance(n, ast.ImportFrom) for alias in n.names}
            if part.solves:
                inside |= stored
            else:
                outside |= stored
                used |= {node.id for node in names if isinstance(node, ast.Name)} & (inside - outside)
        assert not used, f"{page}: solutions define what the page uses: {used}"


def test_readers_and_teachers_have_every_solution(book: Book, editions: dict[str, dict[str, NotebookNode]]) -> None:
    for page in book.notebooks:
        solving = [part for part in pieces(book, page) if part.solves]
        cells = [part.content.source for part in solving if not isinstance(part.content, str)]
        for edition in ("reader", "teacher"):
            assert not {*cells} - {*code(editions[edition][page])}
            for label in {part.solves for part in solving}:
                assert f"Solution of {book.labels[label].words}" in written(editions[edition][page])
        hidden = [c for c in editions["reader"][page].cells if c.source in cells and c.cell_type == "code"]
        assert all(cell.metadata["jupyter"]["source_hidden"] for cell in hidden)
        assert "<details>" not in prose(editions["teacher"][page])


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("import gadkit", f'%pip install -q "gadkit @ git+{HERE}"'),
        ('from gadkit import zoo\nzoo.load("minilm")', f'%pip install -q "gadkit[words] @ git+{HERE}"'),
        ("from cards.readers import table", f"!git clone -q --depth 1 {HERE} spot-the-difference"),
    ],
)
def test_the_first_cell_installs_what_is_missing(page: str, expected: str) -> None:
    cell = notebooks.install(Book(ROOT, HERE), page)
    assert expected in cell
    module = "cards" if "cards" in page else "gadkit"
    assert f'find_spec("{module}") is None' in cell
    ast.parse(TransformerManager().transform_cell(cell))
    local = notebooks.install(Book(ROOT), page)
    assert "http" not in local
    ast.parse(local)


def test_text_is_turned_word_by_word(book: Book) -> None:
    plain = Plain(book, "book/anomaly/saa", "reader")
    chapter = book.numbers["book/anomaly/saa"]
    cases = {
        "By {eq}`saa-saliency` it is.": f"By ({book.labels['saa-saliency'].number}) it is.",
        "See {numref}`saa-diagram`.": f"See Fig. {chapter}.2.",
        "{cite:t}`cao2023saa`": "Cao et al. (2023)",
        "{cite}`zhu2024inctrl,li2024musc`": "(Zhu and Pang, 2024; Li et al., 2024)",
        "[](measuring.md), [these](measuring.md)": f"[{book.titles['book/anomaly/measuring']}](measuring.ipynb), "
        "[these](measuring.ipynb)",
        "a `{eq}` b ``x`y``": "a `{eq}` b ``x`y``",
        "```python\n{eq}`x`\n```": "```python\n{eq}`x`\n```",
        ":::{note}\nLook.\n:::": "> **Note**\n>\n> Look.",
        "```{math}\n:label: saa-saliency\nx = y\n```": f"$$\nx = y \\tag{{{book.labels['saa-saliency'].number}}}\n$$",
    }
    assert {source: plain.text(source) for source in cases} == cases
    assert Plain(Book(ROOT, site="https://a.b/"), "book/anomaly/saa", "reader").text("[x](field.md)") == (
        "[x](https://a.b/book/anomaly/field.html)"
    )
    links = ("![x](nowhere.png)", "[x](nowhere.md)")
    for bad in ("{nonsense}`x`", "```{nonsense}\nx\n```", "{eq}`nowhere`", "{cite}`nobody1900`", *links):
        with pytest.raises(ValueError, match=r"nonsense|nowhere|nobody"):
            plain.text(bad)


@pytest.mark.skipif(not BUILT.exists(), reason="the book is not built")
def test_numbers_are_those_of_the_published_pages(book: Book) -> None:
    for page in book.pages:
        html = (BUILT / f"{page}.html").read_text(encoding="utf-8")
        published = {match["label"]: match["number"] for rule in PUBLISHED for match in rule.finditer(html)}
        own = {name: label.number for name, label in book.labels.items() if label.page == page and label.number}
        assert own == published, page


def test_no_cell_reaches_for_files_of_the_clone(book: Book) -> None:
    for page in book.notebooks:
        for cell in (cell for cell in book.read(page).cells if cell.cell_type == "code"):
            reached = re.findall(r"""["'](?:\.\./|book/)[^"']*["']|ASSETS\.parents?""", cell.source)
            assert not reached, f"{page}: a notebook does not lie in the clone; gadkit.files.find_results finds results"


def run(cells: NotebookNode, folder: Path, **environment: str) -> NotebookNode:
    """Run a notebook in an empty folder, with a kernel of its own."""
    client = NotebookClient(cells, timeout=1800, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    return client.execute(env=os.environ | environment)


def test_a_readers_notebook_runs_in_an_empty_folder(book: Book, tmp_path: Path) -> None:
    cells = run(notebook(book, QUICK, "reader"), tmp_path)
    assert any(output for cell in cells.cells if cell.cell_type == "code" for output in cell.outputs)
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
@pytest.mark.parametrize("page", THREE)
def test_three_more_run_there(book: Book, page: str, tmp_path: Path) -> None:
    cells = run(notebook(book, page, "reader"), tmp_path)
    outputs = [output for cell in cells.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no clone")
def test_one_runs_on_what_pip_installs_from_the_repository(tmp_path: Path) -> None:
    book, site, empty = Book(ROOT, ROOT.as_uri()), tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    cells, source = notebook(book, QUICK, "reader"), f"git+{book.repository}"
    assert f'"gadkit @ {source}"' in cells.cells[0].source  # pip takes a name before an address on a network only
    cells.cells.append(new_code_cell("import gadkit\n\nprint(gadkit.__file__)"))
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(site)]  # what it needs is here
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *options, source], check=True)
    run(cells, empty, PYTHONPATH=str(site))
    assert Path(cells.cells[-1].outputs[0].text.strip()).is_relative_to(site)
    assert (site / "gadkit" / "assets" / "SHA256SUMS").is_file()
    assert not [*empty.iterdir()]
