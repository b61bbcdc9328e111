"""From an assignment's page to its teacher's notebook, and what of it a student must not get.

A page is MyST.  A code cell is the student's (`answer: ID`), is graded (`rubric: {id, points, text}`) or is given.  A
text cell that is graded by hand says so (`written: {id, points, text}`).  A given cell with the tag `look` shows
something, and is left out when a submission is graded.  What stands between `### BEGIN SOLUTION` and
`### END SOLUTION`, or between `### BEGIN HIDDEN TESTS` and `### END HIDDEN TESTS`, is for teachers.

Book: coursework/teachers
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
import yaml
from nbformat import NotebookNode

PAGES = Path(__file__).parents[1] / "book" / "coursework" / "assignments"
RUBRIC = "<!-- rubric -->"  # where the table of the points goes
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
TEACHERS = re.compile(r"### BEGIN (SOLUTION|HIDDEN TESTS)\n(.*?)^\s*### END \1", re.DOTALL | re.MULTILINE)
SHORT = 12  # characters: a line of a solution that is no longer may stand anywhere, such as `import torch`
LOOK = "look"  # the tag of a cell that shows something and is not run when a submission is graded
SCHEMA = 3  # of nbgrader's metadata


@dataclass(frozen=True)
class Line:
    """A line of a rubric: what it is called, what it is worth, what earns it, and whether a person has to look."""

    id: str
    points: int
    text: str
    by_hand: bool = False


@dataclass(frozen=True)
class Assignment:
    """A page: its `name`, its teacher's notebook, its rubric, and the minutes that it takes."""

    name: str
    title: str
    minutes: int
    notebook: NotebookNode
    rubric: tuple[Line, ...]

    @property
    def points(self) -> int:
        """What it is worth in all."""
        return sum(line.points for line in self.rubric)


def names(folder: Path = PAGES) -> list[str]:
    """The assignments in their order, which is that of their numbers: `1-measuring`, ..., `9-project`."""
    return sorted(path.stem for path in folder.glob("*.md"))


def read(name: str, folder: Path = PAGES) -> Assignment:
    """An assignment.  Raises ValueError for one that isn't there, and for a page that breaks the rules above."""
    path = folder / f"{name}.md"
    if not path.is_file():
        raise ValueError(f"assignment: expected one of {', '.join(names(folder))}, got {name!r}")
    return parse(name, path.read_text(encoding="utf-8"))


def parse(name: str, text: str) -> Assignment:
    """An assignment from the text of its page.  Raises ValueError as `read` does."""
    head = yaml.safe_load(text.split("---\n")[1])
    cells = jupytext.reads(text, fmt="md:myst").cells
    rubric = tuple(line for cell in cells if (line := _line(cell)))
    made = [_cell(name, cell, rubric) for cell in cells]
    ids = [cell.id for cell in made]
    if repeated := sorted({x for x in ids if ids.count(x) > 1}):
        raise ValueError(f"{name}: expected every cell once, got several of {', '.join(repeated)}")
    notebook = nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": KERNEL})
    title = re.search(r"^# (.+)$", made[0].source, re.MULTILINE)[1]
    return Assignment(name, title, head["minutes"], notebook, rubric)


def _line(cell: NotebookNode) -> Line | None:
    for key in ("rubric", "written"):
        if key in cell.metadata:
            return Line(**cell.metadata[key], by_hand=key == "written")
    return None


def _cell(name: str, cell: NotebookNode, rubric: tuple[Line, ...]) -> NotebookNode:
    """A cell with nbgrader's metadata and an id that is the same at every build."""
    answer, line, source = cell.metadata.get("answer"), _line(cell), cell.source
    answer = answer and f"answer-{answer}"
    if ("### BEGIN SOLUTION" in source) != bool(answer or (line and line.by_hand)):
        raise ValueError(f"{name}: expected a solution in each answer and nowhere else, got:\n{source}")
    if ("### BEGIN HIDDEN TESTS" in source) != bool(line and not line.by_hand):
        raise ValueError(f"{name}: expected hidden tests in each graded cell and nowhere else, got:\n{source}")
    if line and not line.by_hand:
        source = f"# {worth(line)}\n{source}"
    if cell.cell_type == "markdown":
        source = source.replace(RUBRIC, table(rubric))
    own = answer or (line.id if line else hashlib.sha256(source.encode()).hexdigest()[:12])
    solution = bool(answer or (line and line.by_hand))
    metadata = {"grade": bool(line), "grade_id": own, "locked": not solution, "solution": solution, "task": False}
    if line:
        metadata["points"] = line.points
    make = nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
    tags = {"tags": [LOOK]} if LOOK in cell.metadata.get("tags", ()) else {}
    return make(source, id=own, metadata={"nbgrader": {**metadata, "schema_version": SCHEMA}, **tags})


def worth(line: Line) -> str:
    """A line of a rubric in words."""
    return f"{line.points} point{'s' * (line.points > 1)}: {line.text}"


def table(rubric: tuple[Line, ...]) -> str:
    """A rubric as a table in Markdown."""
    rows = [f"| {line.text} | {line.points} | {'your teacher' if line.by_hand else 'a test'} |" for line in rubric]
    rows.append(f"| **together** | **{sum(line.points for line in rubric)}** | |")
    return "\n".join(["| what earns points | points | checked by |", "| --- | --- | --- |", *rows])


def secrets(notebook: NotebookNode) -> Iterator[str]:
    """The lines that are for teachers only, those of more than 12 characters."""
    for cell in notebook.cells:
        for region in TEACHERS.finditer(cell.source):
            yield from (line.strip() for line in region[2].splitlines() if len(line.strip()) > SHORT)


def leaks(notebook: NotebookNode, given: str) -> list[str]:
    """The lines for teachers that stand in a text which a student gets, as they are or as JSON writes them."""
    return sorted({line for line in secrets(notebook) if line in given or json.dumps(line)[1:-1] in given})
