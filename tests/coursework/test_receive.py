"""Of a submission only the text of the answers counts, however an editor or a student has changed the rest."""

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from coursework import receive, source

ASSIGNMENT = source.read("5-winclip")


def renamed(notebook: NotebookNode) -> None:
    """As some editors save: no metadata, and ids of their own."""
    for number, cell in enumerate(notebook.cells):
        cell.metadata, cell.id = {}, f"cell-{number}"


def unlocked(notebook: NotebookNode) -> None:
    """Tests emptied and doubled, points raised, and everything given in front lost."""
    for cell in notebook.cells:
        if cell.metadata.nbgrader.grade:
            cell.source, cell.metadata.nbgrader.points = "pass", 99
    notebook.cells = [*notebook.cells[3:], *notebook.cells[3:]]


def odd(notebook: NotebookNode) -> None:
    """Metadata of kinds that nobody expects."""
    for cell, value in zip(notebook.cells, [None, 7, "text", ["list"], {"grade_id": 3}], strict=False):
        cell.metadata["nbgrader"] = value


def ended(notebook: NotebookNode) -> set[str]:
    """The graded cells of a cleaned notebook that end with an error, if each cell runs in its turn."""
    world, found = {"__name__": "__main__"}, set()
    for cell in notebook.cells:
        try:
            exec(compile(cell.source if cell.cell_type == "code" else "", f"<{cell.id}>", "exec"), world)
        except Exception:
            found |= {cell.id} & {line.id for line in ASSIGNMENT.rubric}
    return found


@pytest.mark.parametrize("change", [renamed, unlocked, odd])
def test_right_answers_earn_their_points_in_whatever_shape_they_come(change: Callable) -> None:
    submitted = nbformat.from_dict(ASSIGNMENT.notebook)
    change(submitted)
    made = receive.clean(submitted, ASSIGNMENT.notebook)
    nbformat.validate(made)
    graded = [cell for cell in made.cells if cell.metadata.get("nbgrader", {}).get("grade")]
    own = {cell.id: cell for cell in ASSIGNMENT.notebook.cells}
    assert {cell.id for cell in graded} == {line.id for line in ASSIGNMENT.rubric}
    assert all(cell == own[cell.id] for cell in graded)
    assert not ended(made)


def test_what_is_only_shown_is_not_run() -> None:
    made = receive.clean(ASSIGNMENT.notebook, ASSIGNMENT.notebook)
    assert len(made.cells) == len(ASSIGNMENT.notebook.cells) - 1
    assert not [cell for cell in made.cells if source.LOOK in cell.metadata.get("tags", ())]


def test_an_answer_that_is_missing_earns_nothing() -> None:
    submitted = nbformat.from_dict(ASSIGNMENT.notebook)
    submitted.cells = [cell for cell in submitted.cells if cell.id != "answer-damaged"]
    assert ended(receive.clean(submitted, ASSIGNMENT.notebook)) == {"damaged"}


def test_a_file_that_is_no_notebook_is_refused_with_its_reason(tmp_path: Path) -> None:
    files = {"empty.ipynb": b"", "text.ipynb": b"hello", "list.ipynb": b"[1]", "none.ipynb": b'{"cells": 1}'}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="it is no notebook"):
            receive.fetch(tmp_path / name)
    (tmp_path / "link.ipynb").symlink_to(tmp_path / "text.ipynb")
    with pytest.raises(ValueError, match="it is no file"):
        receive.fetch(tmp_path / "link.ipynb")
