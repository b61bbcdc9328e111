"""Each page offers its notebook: the target is there and opens; Colab is offered only where it finds one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import downloads
from shelf import Book

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "_build" / "html"
BUTTON = re.compile(r'<a href="([^"]+)"[^>]*title="(Download the notebook|Open the notebook on Colab)"')
HEAD = """---
jupytext:
  text_representation:
    format_name: myst
kernelspec:
  name: python3
  display_name: Python 3
  language: python
---
"""
CHAPTER = """
# Chapter {0}

$$
x = y
$$ ({0}-equation)

```{{figure}} drawing.svg
:name: {0}-figure

A drawing.
```

```{{code-cell}} ipython3
1 + 1
```

:::{{exercise}}
:label: {0}-exercise

Why? See {{eq}}`{0}-equation`, {{numref}}`{0}-figure` and {{ref}}`{0}-exercise`.
:::
"""
SETTINGS = """
extensions = ["sphinx_external_toc", "sphinx_multitoc_numbering", "myst_nb", "sphinx_exercise", "downloads"]
use_multitoc_numbering = numfig = True
myst_enable_extensions = ["colon_fence", "dollarmath"]
nb_execution_mode = "off"
html_theme = "sphinx_book_theme"
exclude_patterns = ["_build"]
external_toc_path = "_toc.yml"
"""
TOC = """
format: jb-book
root: index
parts:
  - numbered: true
    chapters: [{file: part/one}]
  - numbered: true
    chapters: [{file: part/two}, {file: part/three}]
"""


def build(folder: Path, *settings: str) -> Path:
    """The HTML of a small book of three chapters, the last without code."""
    (folder / "part").mkdir()
    (folder / "index.md").write_text("# A book\n\nNo code.\n")
    (folder / "part" / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    for name in ("one", "two"):
        (folder / "part" / f"{name}.md").write_text(HEAD + CHAPTER.format(name))
    (folder / "part" / "three.md").write_text("# Chapter three\n\nNo code.\n")
    (folder / "_toc.yml").write_text(TOC)
    (folder / "conf.py").write_text(SETTINGS + "\n".join(settings))
    out = folder / "_build" / "html"
    paths = os.pathsep.join([str(ROOT / "book" / "_ext"), str(ROOT)])
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(folder), str(out)]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=True)
    return out


def offered(page: Path) -> dict[str, str]:
    return {title.split()[0]: target for target, title in BUTTON.findall(page.read_text(encoding="utf-8"))}


def test_pages_offer_their_notebooks(tmp_path: Path) -> None:
    branch = ('notebooks_repository = "https://github.com/authors/spot"', 'notebooks_branch = "pages"')
    out = build(tmp_path, *branch)
    for name in ("one", "two"):
        page = out / "part" / f"{name}.html"
        targets = offered(page)
        cells = nbformat.read(page.parent / targets["Download"], as_version=4)
        nbformat.validate(cells)
        assert f"# Chapter {name}" in [cell.source.splitlines()[0] for cell in cells.cells]
        assert targets["Open"] == (
            f"https://colab.research.google.com/github/authors/spot/blob/pages/notebooks/part/{name}.ipynb"
        )
        check_numbers(tmp_path, out, name)
    assert not offered(out / "index.html")
    assert not offered(out / "part" / "three.html")


def check_numbers(root: Path, out: Path, name: str) -> None:
    """What the notebooks call an equation, a figure, an exercise is what the page calls it."""
    text = re.sub("<.*?>", "", (out / "part" / f"{name}.html").read_text(encoding="utf-8"))
    labels = Book(root).labels
    equation, figure, exercise = (labels[f"{name}-{kind}"] for kind in ("equation", "figure", "exercise"))
    assert f"See ({equation.number}), {figure.words} and {exercise.words}." in " ".join(text.split())
    assert equation.number == figure.number == exercise.number == f"{1 + (name == 'two')}.1"


def test_nothing_leads_to_colab_unless_a_branch_is_named() -> None:
    for repository, branch in (("", ""), ("https://github.com/a/b", ""), ("https://example.org/a/b", "pages")):
        assert not downloads.colab(repository, branch, "part/one")


@pytest.mark.skipif(not BUILT.exists(), reason="the book is not built")
def test_every_built_page_leads_to_a_notebook_that_opens() -> None:
    for page in Book(ROOT).notebooks:
        html = BUILT / f"{page}.html"
        nbformat.validate(nbformat.read(html.parent / offered(html)["Download"], as_version=4))
