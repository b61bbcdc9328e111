"""What is taken from a submission: the text of its cells, and nothing else.

Tests, points and locked cells are the teacher's own, whatever the submission says they are.  A student may add cells,
move them, and lose some: a graded cell that is missing comes back at the end, and an answer that is missing earns
nothing.

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
    """A notebook of the student's answers and the teacher's everything else, in the student's order."""
    own = {cell.metadata.nbgrader.grade_id: cell for cell in teacher.cells}
    looks = {name for name, cell in own.items() if source.LOOK in cell.metadata.get("tags", ())}
    made, seen = [], {*looks}
    for cell in submitted.cells:
        name = _name(cell)
        if name in own and name not in seen:
            seen.add(name)
            made.append(_filled(own[name], cell))
        elif name not in own and cell.cell_type == "code":
            made.append(nbformat.v4.new_code_cell(str(cell.source), id=f"extra-{len(made)}"))
    made += [_filled(cell, None) for name, cell in own.items() if name not in seen]
    return nbformat.v4.new_notebook(cells=made, metadata=teacher.metadata)


def _name(cell: NotebookNode) -> str:
    """Which of the teacher's cells it was: by nbgrader's metadata, or by its id where an editor has dropped them."""
    metadata = cell.get("metadata", {})
    given = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    return str(given.get("grade_id", "") if isinstance(given, dict) else cell.get("id", ""))


def _filled(own: NotebookNode, submitted: NotebookNode | None) -> NotebookNode:
    """The teacher's cell; an answer has the student's text, and none if the student handed in none."""
    cell = nbformat.from_dict(own)
    if own.metadata.nbgrader.solution:
        cell.source = "" if submitted is None else str(submitted.source)
    return cell
