"""Grade variants of an assignment's solution in this process: quick, and by the same cells that the command runs."""

from collections.abc import Mapping

from nbformat import NotebookNode

from coursework.source import LOOK, Assignment

Change = str | list[tuple[str, str]]  # a whole new cell, or pieces of the solution and what stands in their place


def changed(assignment: Assignment, changes: Mapping[str, Change]) -> list[NotebookNode]:
    """The notebook's cells with some answers changed."""
    left, cells = dict(changes), []
    for cell in assignment.notebook.cells:
        cell = cell.copy()
        change = left.pop(cell.id.removeprefix("answer-"), None) if cell.id.startswith("answer-") else None
        if isinstance(change, str):
            cell["source"] = change
        for old, new in change if isinstance(change, list) else ():
            assert cell["source"].count(old) == 1, f"{old!r} in:\n{cell['source']}"
            cell["source"] = cell["source"].replace(old, new)
        cells.append(cell)
    assert not left, f"no such answers: {[*left]}"
    return cells


def blank(assignment: Assignment) -> dict[str, str]:
    """A student's notebook as it is handed out."""
    return {cell.id.removeprefix("answer-"): "" for cell in assignment.notebook.cells if cell.id.startswith("answer-")}


def lost(assignment: Assignment, changes: Mapping[str, Change]) -> dict[str, str]:
    """The lines of the rubric that a variant loses, each with the error that took it."""
    world, found = {"__name__": "__main__"}, {}
    for cell in changed(assignment, changes):
        if cell["cell_type"] != "code" or LOOK in cell["metadata"].get("tags", ()):
            continue
        try:
            exec(compile(cell["source"], f"<{cell['id']}>", "exec"), world)
        except Exception as error:
            found[cell["id"]] = f"{type(error).__name__}: {error}"
    return found
