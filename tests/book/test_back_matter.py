"""The back matter: the index of exercises is made from the pages, and the citation says one thing everywhere."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book"


class Links(HTMLParser):
    """The links of a page with their texts, and all ids."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[list[str]] = []
        self.ids: set[str] = set()
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.ids.add(given.get("id") or "")
        if tag == "a":
            self.links.append([given.get("href") or "", ""])
            self.inside = True

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.links[-1][1] += data

    def handle_endtag(self, tag: str) -> None:
        self.inside &= tag != "a"


def test_the_index_lists_every_exercise_with_its_solution(tmp_path: Path) -> None:
    pages = {
        "conf.py": "extensions = ['myst_parser', 'sphinx_exercise', 'exercises']\nnumfig = True\n"
        "myst_enable_extensions = ['dollarmath', 'colon_fence']\n",
        "index.md": "# Book\n\n```{toctree}\n:numbered:\npart/second\npart/first\nback/all\n```\n",
        "part/first.md": "# First\n\n$$x$$ (square)\n\n"
        ":::{exercise}\n:label: one\n\nBy {eq}`square`, what is $x^2$ on\none line?\nAnd then?\n:::\n\n"
        ":::{solution} one\n:class: dropdown\n\nFour.\n:::\n",
        "part/second.md": "# Second\n\n:::{exercise}\n:label: two\n\nRead `a.b` in [the first](first.md). Why?\n:::\n\n"
        ":::{solution-start} two\n:class: dropdown\n:::\n\nBecause.\n\n:::{solution-end}\n:::\n\n"
        ":::{exercise}\n:label: three\n\nNo solution yet\n:::\n",
        "back/all.md": "# All\n\n```{exercise-index}\n```\n",
    }
    for name, text in pages.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(tmp_path), str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": str(BOOK / "_ext")}
    subprocess.run(command, env=environment, check=True)
    built = (tmp_path / "out" / "back" / "all.html").read_text(encoding="utf-8")
    words = re.sub(r"\s+", " ", re.sub("<.*?>", "", built[built.index("All") :]))
    assert "Exercise 1.1: Read a.b in the first. (solution)" in words
    assert "Exercise 1.2: No solution yet" in words
    assert re.search(r"Exercise 2\.1: By \((2\.)?1\), what is", words), words[words.index("Exercise 2.1") :][:80]
    assert "And then" not in words
    assert "Why" not in words
    assert re.search(r"<script[^>]*mathjax", built)
    links = [link for link in Links(built).links if link[0].startswith("../part/") and "#" in link[0]]
    assert [text for _, text in links] == ["Exercise 1.1", "solution", "Exercise 1.2", "Exercise 2.1", "solution"]
    for href, _ in links:
        page, anchor = href.removeprefix("../").split("#")
        assert anchor in Links((tmp_path / "out" / page).read_text(encoding="utf-8")).ids
    (tmp_path / "part" / "first.md").write_text(pages["part/first.md"].replace("what is", "how large is"))
    subprocess.run(command, env=environment, check=True)  # the index follows a change of another page
    assert "how large is" in (tmp_path / "out" / "back" / "all.html").read_text(encoding="utf-8")


def test_the_index_lists_every_assignment_with_its_chapters(tmp_path: Path) -> None:
    folder = tmp_path / "book" / "coursework" / "assignments"
    shutil.copytree(BOOK / "coursework" / "assignments", folder)
    for path in [*folder.glob("[3-9]*.md"), *folder.glob("2*.md")]:
        path.unlink()
    (tmp_path / "conf.py").write_text(
        "extensions = ['myst_parser', 'sphinx_exercise', 'exercises']\nexclude_patterns = ['book']\n"
    )
    (tmp_path / "index.md").write_text("# Book\n\n```{toctree}\nmeasuring\n```\n\n```{assignment-index}\n```\n")
    (tmp_path / "measuring.md").write_text("# How detection is measured\n")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(tmp_path), str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (BOOK / "_ext", ROOT)))}
    subprocess.run([*command, "-W"], env=environment, check=True)
    built = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    words = re.sub(r"\s+", " ", re.sub("<.*?>", "", built))
    assert "Assignment 1: measuring, from pairs to AUPRO: you will be able to say what an AUROC is" in words
    assert "After How detection is measured: 120 minutes, 10 points." in words
    assert ["measuring.html", "How detection is measured"] in Links(built).links
    assert "SOLUTION" not in built
    (tmp_path / "measuring.md").write_text("# Another title\n")
    done = subprocess.run([*command, "-E"], env=environment, check=True, capture_output=True, text=True)
    assert "1-measuring: expected a goal, and chapters to read first, got ['How detection is measured']" in done.stderr


def test_the_citation_says_the_same_in_all_places() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == project["version"]
    assert citation["license"] == ["MIT", "CC-BY-4.0"]
    released = re.search(rf"## \[{re.escape(project['version'])}\] - (\S+)", (ROOT / "CHANGELOG.md").read_text())
    assert str(citation["date-released"]) == released[1]
    preferred = citation["preferred-citation"]
    assert preferred["type"] == "book"
    for page in ("index.md", "back/citing.md"):
        text = (BOOK / page).read_text(encoding="utf-8")
        entry = dict(re.findall(r"^  (\w+) += \{+(.+?)\}+,?$", text, re.MULTILINE))
        assert entry["title"] == citation["title"] == preferred["title"]
        assert entry["author"] == citation["authors"][0]["name"] == preferred["authors"][0]["name"]
        assert entry["year"] == str(preferred["year"])
        assert entry["note"] == preferred["notes"]


def test_the_back_matter_is_in_the_contents_and_on_the_first_page() -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    back = [chapter["file"].removeprefix("book/") for chapter in toc["parts"][-1]["chapters"]]
    first = (BOOK / "index.md").read_text(encoding="utf-8")
    for page in ("survey/index", "back/exercises", "back/api/index", "back/citing", "back/translating"):
        assert page in back
        assert f"({page}.md)" in first
