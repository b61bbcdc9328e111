"""What is taken from a submission: the text of its cells, and nothing else.

Tests, points, locked cells and their order are the teacher's own, whatever the submission says they are.  A student may
add cells.  A given cell that is missing comes back, and an answer that is missing earns nothing.

Book: coursework/teachers
"""

from pathlib import Path

import nbformat
from nbformat import NotebookNode

from coursework import source

LARGEST = 20 << 20  # bytes of a notebook; the assignments have some 20 kB


def fetch(path: Path) -> NotebookNode:
    """A submitted notebook.  Raises ValueError with the reason if it can't be read."""
    if path.is_symlink() or not path.is_file():
        raise ValueError("it is no file")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has more than {LARGEST >> 20} MB: clear the outputs, and hand it in again")
    try:
        notebook = nbformat.read(path, as_version=4)
        cells = [(str(cell.cell_type), str(cell.source)) for cell in notebook.cells]
    except Exception as error:  # nbformat and json raise many kinds, and what a file holds is not in our hands
        raise ValueError(f"it is no notebook ({type(error).__name__})") from None
    if not cells:
        raise ValueError("it has no cells")
    return notebook


def clean(submitted: NotebookNode, teacher: NotebookNode) -> NotebookNode:
    """The teacher's notebook with the student's answers, and the student's own cells behind those they followed."""
    own = {cell.metadata.nbgrader.grade_id: cell for cell in teacher.cells}
    answers: dict[str, str] = {}
    extra: dict[str, list[str]] = {"": []}
    last = ""
    for cell in submitted.cells:
        name, text = _name(cell), str(cell.source)
        if name in own and name not in answers:
            last, answers[name], extra[name] = name, text, []
        elif name not in own and cell.cell_type == "code":
            extra[last].append(text)
    made = [nbformat.v4.new_code_cell(text) for text in extra[""]]
    for name, cell in own.items():
        if source.LOOK not in cell.metadata.get("tags", ()):
            made.append(_filled(cell, answers.get(name, "")))
        made += [nbformat.v4.new_code_cell(text) for text in extra.get(name, ())]
    for number, cell in enumerate(made):
        if "nbgrader" not in cell.metadata:
            cell.id = f"extra-{number}"
    return nbformat.v4.new_notebook(cells=made, metadata=teacher.metadata)


def _name(cell: NotebookNode) -> str:
    """Which of the teacher's cells it was: by nbgrader's metadata, or by its id where an editor has dropped them."""
    metadata = cell.get("metadata", {})
    given = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    return str(given.get("grade_id", "") if isinstance(given, dict) else cell.get("id", ""))


def _filled(own: NotebookNode, answer: str) -> NotebookNode:
    """A cell of the teacher's; what is the student's to write has the answer in it."""
    cell = nbformat.from_dict(own)
    if own.metadata.nbgrader.solution:
        cell.source = answer
    return cell
