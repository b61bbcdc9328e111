"""Three editions of every page as a notebook without outputs, each a pure function of the sources.

The reader's has the solutions folded, the student's has none, the teacher's shows them.  A notebook runs alone: it
installs the package where that is missing, its diagrams lie inside of it, and results come with the package.

    python book/_ext/notebooks.py _build/editions
"""

import argparse
import base64
import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from gadkit.files import replacing
from plain import FENCE, MIMES, SOLUTIONS, Plain, blocks
from shelf import Book

ROOT = Path(__file__).parents[2]
EDITIONS = ("reader", "student", "teacher")
BESIDE = re.compile(r"^\s*(?:from|import) (benchmarks|cards|demo|experiments)\b", re.M)  # rooms outside of the package
EXTRAS = {"words": r'"minilm"', "search": r"\bfaiss\b"}  # what a page needs beside the package's own requirements
MISSING = """\
import importlib.util

if importlib.util.find_spec("{module}") is None:
    {remedy}"""
ADVICE = (
    'raise ModuleNotFoundError("First run `pip install -e .` in a clone of the book, then start Jupyter from there")'
)
ANSWER = "# Your answer"


@dataclass
class Piece:
    """A part of a page: prose or a code cell, and the exercise of the solution that it belongs to."""

    content: str | NotebookNode
    solves: str = ""
    first: bool = False


def pieces(book: Book, page: str) -> Iterator[Piece]:
    """A page cut at its code cells and at the borders of its solutions, in order."""
    solves, first = "", False
    for cell in book.read(page).cells:
        if cell.cell_type == "code":
            yield Piece(cell, solves, first)
            first = False
            continue
        end = 0
        for block in blocks(cell.source):
            if block.re is not FENCE or block[2] not in SOLUTIONS:
                continue
            if (before := cell.source[end : block.start()]).strip():
                yield Piece(before, solves, first)
                first = False
            end = block.end()
            solves, first = ("", False) if block[2] == "solution-end" else (block[3].strip(), True)
            if block[2] == "solution":
                yield Piece(re.sub(r"\A(?::[\w-]+:.*\n)*", "", block[4]), solves, True)
                solves, first = "", False
        if (rest := cell.source[end:]).strip():
            yield Piece(rest, solves, first)
            first = False


def install(book: Book, code: str) -> str:
    """The cell that installs the package where it is missing, and fetches the clone where a page needs more of it."""
    beside = BESIDE.search(code)
    extras = ",".join(name for name, sign in EXTRAS.items() if re.search(sign, code))
    package = f"gadkit[{extras}]" if extras else "gadkit"
    if not book.repository:
        return MISSING.format(module=beside[1] if beside else "gadkit", remedy=ADVICE)
    if not beside:
        return MISSING.format(module="gadkit", remedy=f'%pip install -q "{package} @ git+{book.repository}"')
    steps = [
        f"!git clone -q --depth 1 {book.repository} spot-the-difference",
        f'%pip install -q "./spot-the-difference{package.removeprefix("gadkit")}"',
        'sys.path.append("spot-the-difference")',
    ]
    return "import sys\n" + MISSING.format(module=beside[1], remedy="\n    ".join(steps))


def notebook(book: Book, page: str, edition: str) -> NotebookNode:
    """A page as a notebook of an edition.  Raises ValueError for what the editions can't turn into plain Markdown."""
    plain = Plain(book, page, edition)
    cut = [*pieces(book, page)]
    code = "\n".join(piece.content.source for piece in cut if not isinstance(piece.content, str))
    cells = [new_code_cell(install(book, code))]
    for piece in cut:
        if edition != "student" or not piece.solves:
            cells += _cells(plain, piece)
        elif piece.first:
            cells.append(new_code_cell(ANSWER))
    if plain.cited:
        listed = "\n".join(sorted(book.reference(key) for key in plain.cited))
        cells.append(new_markdown_cell(f"## References of this page\n\n{listed}"))
    for index, cell in enumerate(cells):
        cell.id = hashlib.sha256(f"{page} {index} {cell.source}".encode()).hexdigest()[:12]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def _cells(plain: Plain, piece: Piece) -> Iterator[NotebookNode]:
    """The cells of a piece: for code with a caption two, for the first piece of a solution one more."""
    folded = plain.edition == "reader"
    words = f"Solution of {plain.book.find(piece.solves, plain.page).words}" if piece.solves else ""
    if isinstance(piece.content, str):
        text = plain.text(piece.content)
        if words and folded:
            text = f"<details><summary>{words}</summary>\n\n{text}\n\n</details>"
        elif piece.first:
            text = f"**{words}.** {text}"
        yield _prose(plain, text)
        return
    if piece.first:
        yield _prose(plain, f"**{words}**{': open the folded cell' * folded}.")
    tags = piece.content.metadata.get("tags", [])
    hidden = folded and (words or {"hide-input", "hide-cell"} & {*tags})
    metadata = {"tags": tags} if tags else {}
    yield new_code_cell(
        piece.content.source, metadata=metadata | ({"jupyter": {"source_hidden": True}} if hidden else {})
    )
    figure = piece.content.metadata.get("mystnb", {}).get("figure", {})
    if "caption" in figure:
        yield _prose(plain, plain.caption(figure["caption"], figure.get("name")))


def _prose(plain: Plain, text: str) -> NotebookNode:
    """A cell of text with the pictures that it shows."""
    shown = {name: path for name, path in plain.pictures.items() if f"(attachment:{name})" in text}
    files = {
        name: {MIMES[path.suffix[1:]]: base64.b64encode(path.read_bytes()).decode()} for name, path in shown.items()
    }
    return new_markdown_cell(text, **({"attachments": files} if files else {}))


def write(book: Book, out: Path, edition: str) -> list[Path]:
    """Write an edition into a folder, in the place of an older one."""
    shutil.rmtree(out, ignore_errors=True)
    written = []
    for page in book.notebooks:
        path = out / f"{page}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text(nbformat.writes(notebook(book, page, edition)) + "\n", encoding="utf-8")
        written.append(path)
    return written


def main() -> None:
    """Write all editions."""
    given = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the folder for reader/, student/ and teacher/")
    parser.add_argument("--repository", default=given.get("notebooks_repository", ""), help="the public git address")
    parser.add_argument("--site", default=given.get("notebooks_site", ""), help="the address of the published book")
    asked = parser.parse_args()
    book = Book(ROOT, asked.repository, asked.site)
    for edition in EDITIONS:
        written = write(book, asked.out / edition, edition)
        print(f"{len(written)} notebooks in {asked.out / edition}")


if __name__ == "__main__":
    main()
