"""What the house promises readers: facts first, short cells, pictures that speak, exercises with solutions."""

import ast
import re
from html.parser import HTMLParser
from pathlib import Path

import jupytext
import pytest
import yaml

import house

ROOT = Path(__file__).parents[2]
BOOK, BUILT = ROOT / "book", ROOT / "_build" / "html"
SURVEY = ("survey/index", "back/exercises", "back/citing", "back/translating")
BACK_MATTER = ("glossary", "notation", *SURVEY, "coursework/teachers", "references")  # no code, no budget
NO_CHAPTERS = ("index", *BACK_MATTER)
# part -> fewest and most of a chapter
WORDS = {"intro": (1000, 3000)} | dict.fromkeys(
    ("selfsup", "pretext", "multimodal", "objects", "anomaly"), (1500, 3000)
)
LONGEST_CELL, WIDEST_LINE = 15, 92
BUDGET = re.compile(r"\d+ (seconds?|minutes?), \d+(\.\d)? (MB|GB)")
DRAWS = re.compile(r"show_|plot_|contact_sheet")


def contents() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    pages = [toc["root"], *(page["file"] for first in chapters for page in (first, *first.get("sections", [])))]
    return [page.removeprefix("book/") for page in pages]


PAGES = [page for page in contents() if page not in BACK_MATTER and not page.startswith("back/api/")]
CHAPTERS = [page for page in PAGES if page not in NO_CHAPTERS]


def text_of(page: str) -> str:
    return (BOOK / f"{page}.md").read_text(encoding="utf-8")


def cells(page: str, kind: str) -> list:
    return [cell for cell in jupytext.reads(text_of(page), fmt="md:myst").cells if cell.cell_type == kind]


def drawing(source: str) -> bool:
    """Whether the last value of a cell is a figure of gadkit.viz, drawn on the spot or kept in a name."""
    statements = ast.parse(source).body
    if not statements or not isinstance(last := statements[-1], ast.Expr):
        return False
    named = {s.targets[0].id: s.value for s in statements if isinstance(s, ast.Assign) and hasattr(s.targets[0], "id")}
    value = named.get(getattr(last.value, "id", None), last.value)
    return isinstance(value, ast.Call) and bool(DRAWS.match(getattr(value.func, "attr", "")))


def test_the_first_page_lists_all_chapters_in_their_order() -> None:
    listed = re.findall(r"^\| \[\]\((.+?)\.md\)", text_of("index"), re.MULTILINE)
    assert listed == CHAPTERS


@pytest.mark.parametrize("page", PAGES)
def test_a_page_states_its_module_and_its_budget(page: str) -> None:
    head = yaml.safe_load(text_of(page).split("---\n")[1])
    assert head["gadkit"].startswith("gadkit")
    assert BUDGET.fullmatch(head["budget"]), f"expected something like '3 minutes, 2 GB', got {head['budget']!r}"
    assert head["kernelspec"]["name"] == "python3" or head["kernelspec"]["name"].startswith("gadkit-")


@pytest.mark.parametrize("page", PAGES)
def test_no_cell_is_longer_than_a_glance(page: str) -> None:
    for cell in cells(page, "code"):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= LONGEST_CELL, cell.source
        assert max(map(len, lines), default=0) <= WIDEST_LINE, cell.source


@pytest.mark.parametrize("page", PAGES)
def test_every_figure_has_a_text_for_those_who_cannot_see_it(page: str) -> None:
    for cell in cells(page, "code"):
        if drawing(cell.source):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert house.speaks(alt), f"alt text {alt!r} of:\n{cell.source}"
    for alt, target in re.findall(r"!\[(.*?)\]\((.*?)\)", text_of(page)):
        assert house.speaks(alt), f"alt text {alt!r} of {target}"
    for block in re.finditer(r"^(`{3,}|:{3,})\{(?:image|figure|glue:figure)\}.*?^\1", text_of(page), re.M | re.S):
        (alt,) = re.findall(r"^:alt: (.*)$", block[0], re.M)
        assert house.speaks(alt), f"alt text {alt!r} of {block[0]}"


def test_the_check_of_alt_texts_can_fail() -> None:
    assert house.speaks("Four gears, the last with a crack that the map marks.")
    bad = ["", "png", "figure", "a figure of a gear", "_images/0123456789abcdef0123456789abcdef01234567.png", "0" * 64]
    assert not any(map(house.speaks, bad))
    assert drawing("f = viz.plot_bars(x, 'y')\nf")
    assert not drawing("f = viz.plot_bars(x, 'y')")


def words(page: str) -> int:
    """Words of prose: without code, directives' options and mathematics."""
    prose = "\n".join(cell.source for cell in cells(page, "markdown"))
    prose = re.sub(r"^(`{3,}|~{3,})(?!\{(exercise|solution|note|tip|admonition)).*?^\1$", "", prose, flags=re.M | re.S)
    return len(re.findall(r"[A-Za-z][\w'’-]*", re.sub(r"\$\$.*?\$\$|^:.*$|\{\w+\}`.*?`", "", prose, flags=re.M | re.S)))


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_chapter_is_as_long_as_an_evening_allows(page: str) -> None:
    fewest, most = WORDS[page.split("/")[0]]
    assert fewest <= words(page) <= most


@pytest.mark.parametrize("page", PAGES)
def test_no_line_of_prose_is_swallowed_as_a_comment(page: str) -> None:
    swallowed = [line for cell in cells(page, "markdown") for line in cell.source.splitlines() if line.startswith("%")]
    assert not swallowed, "MyST takes a line that begins with % for a comment"


@pytest.mark.parametrize("page", CHAPTERS)
def test_every_exercise_has_a_folded_solution(page: str) -> None:
    exercises = re.findall(r"\{exercise\}.*?\n:label: (\S+)", text_of(page))
    solutions = re.findall(r"\{solution(?:-start)?\} (\S+)\n:class: dropdown", text_of(page))
    assert 3 <= len(exercises) <= 5
    assert sorted(solutions) == sorted(exercises)


@pytest.mark.parametrize("page", [page for page in CHAPTERS if page.startswith("anomaly/") and cells(page, "code")])
def test_a_page_about_anomalies_ends_with_the_device_of_its_numbers(page: str) -> None:
    assert cells(page, "code")[-1].source.endswith("print(runtime.computed_on())")


class Elements(HTMLParser):
    """Images, and addresses that a browser would load while it shows the page."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[dict] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        given = dict(attrs)
        if tag == "img":
            self.images.append(given)
        if tag in ("img", "script", "iframe", "video", "audio", "source", "embed"):
            self.loaded.append(given.get("src") or "")
        if tag == "link" and given.get("rel") in ("stylesheet", "preload", "icon", "prefetch", "modulepreload"):
            self.loaded.append(given.get("href") or "")


def built_pages() -> list[Path]:
    return sorted((BUILT / "book").rglob("*.html"))


@pytest.mark.skipif(not built_pages(), reason="the book is not built")
def test_the_built_book_speaks_and_stays_at_home() -> None:
    for path in built_pages():
        elements = Elements()
        elements.feed(path.read_text(encoding="utf-8"))
        assert all(house.speaks(image.get("alt", "")) for image in elements.images), path
        assert not [url for url in elements.loaded if url.startswith(("http", "//"))], path
