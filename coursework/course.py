"""The course as a folder, by nbgrader's converters: notebooks for teachers and students, grades and feedback.

    teacher/NAME/NAME.ipynb          with solutions and hidden tests
    student/NAME/NAME.ipynb          without: what is handed out
    submitted/STUDENT/NAME/          what came back, cleaned (`coursework.receive`)
    autograded/STUDENT/NAME/         the same, executed, for the teacher's eyes
    feedback/STUDENT/NAME/NAME.html  what the student gets back
    grades.csv                       a line for each line of each rubric

The gradebook (`gradebook.db`, nbgrader's) is written anew at each run, so that a run depends on its inputs only.

Source: nbgrader's documentation, "The philosophy and the approach" (metadata, converters).
Book: coursework/teachers
"""

import csv
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor
from nbgrader.api import Gradebook
from nbgrader.converters import Autograde, GenerateAssignment, GenerateFeedback
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import GetGrades, NbGraderPreprocessor, SaveAutoGrades
from traitlets import Bool, Instance
from traitlets.config import Config

from coursework import contain, receive, source
from coursework.marks import read_marks
from coursework.source import Assignment

logger = logging.getLogger("coursework")
COLUMNS = ("student", "assignment", "line", "points", "of", "comment")


class Contained(NbGraderPreprocessor):
    """Executes a notebook by `coursework.contain`, in the place of a kernel."""

    limits = Instance(contain.Limits, ()).tag(config=True)
    contained = Bool(True).tag(config=True)

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """Each code cell with what it printed and the error that it ended with."""
        code = [cell for cell in nb.cells if cell.cell_type == "code"]
        outcomes = contain.run([cell.source for cell in code], self.limits, self.contained)
        for cell, outcome in zip(code, outcomes, strict=True):
            cell.outputs = [*outputs(outcome)]
            if outcome.place and outcome.place[0] <= len(code):
                cell.metadata.place = origin(code[outcome.place[0] - 1], outcome.place[1])
        return nb, resources


def outputs(outcome: contain.Outcome) -> Iterator[Any]:
    """An outcome as a notebook writes it."""
    if outcome.text:
        yield nbformat.v4.new_output("stream", name="stdout", text=outcome.text)
    if outcome.error:
        message = [f"{outcome.error}: {outcome.says}"]
        yield nbformat.v4.new_output("error", ename=outcome.error, evalue=outcome.says, traceback=message)


def origin(cell: Any, line: int) -> str:
    """Where an error came from: a line of the student's, a test that the student was given, or a hidden one."""
    marks = cell.metadata.get("nbgrader", {})
    if not marks.get("locked"):
        name = marks.get("grade_id", "").removeprefix("answer-")
        return f"line {line} of your answer `{name}`" if name else f"line {line} of a cell of your own"
    given = cell.source.split("### BEGIN HIDDEN TESTS")[0].count("\n")
    return "a test that you can see" if line <= given else "a hidden test"


class Discreet(NbGraderPreprocessor):
    """Makes of an executed notebook what its student may see: no test, and no output that a test could have filled."""

    def preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
        """Each graded cell is its line of the rubric and what became of it; other cells lose their outputs."""
        kept = []
        for cell in nb.cells:
            marks = cell.metadata.get("nbgrader", {})
            if cell.cell_type == "code" and marks.get("grade"):
                cell = nbformat.v4.new_markdown_cell(verdict(cell), id=cell.id, metadata={"nbgrader": marks})
            elif cell.cell_type == "code":
                cell.outputs = []
            elif not marks.get("grade"):  # of the given text the headings are enough
                cell.source = "\n\n".join(line for line in cell.source.splitlines() if line.startswith("#"))
            kept.append(cell)
        nb.cells = kept
        return nb, resources


def verdict(cell: Any) -> str:
    """Of a graded cell: the points, its line of the rubric, and how it ended, without a word of the test."""
    marks, line = cell.metadata["nbgrader"], cell.source.split("\n")[0].removeprefix("# ").split(": ", 1)[-1]
    text = f"**{marks['score']:g} of {marks['points']:g}**: {line}"
    failed = next((output for output in cell.outputs if output.output_type == "error"), None)
    if failed is None:
        return text
    if failed.ename == "Ended":
        return f"{text}\n\nThis was not earned: {failed.evalue}."
    where = f" in {cell.metadata.place}" if "place" in cell.metadata else ""
    return f"{text}\n\nThis was not earned. It ended{where}, with `{failed.ename}`."


def settings(out: Path, limits: contain.Limits = contain.USUAL, contained: bool = True) -> Config:
    """Where nbgrader finds what, and what a submission may do."""
    config = Config({"Contained": {"limits": limits, "contained": contained}})
    folder = config.CourseDirectory
    folder.root, folder.db_url = str(out), f"sqlite:///{out / 'gradebook.db'}"
    folder.source_directory, folder.release_directory = "teacher", "student"
    config.Autograde.autograde_preprocessors = [Contained, SaveAutoGrades]
    config.GenerateFeedback.preprocessors = [GetGrades, Discreet, CSSHTMLHeaderPreprocessor]
    return config


def _convert(converter: type, config: Config, **which: str) -> None:
    """Run one of nbgrader's converters.  Raises its NbGraderException."""
    config = deepcopy(config)  # a copy would share its parts
    config.CourseDirectory.update(which)
    config[converter.__name__].force = True
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="nbgrader")  # its own order of adding rows to the gradebook
        converter(coursedir=CourseDirectory(config=config), config=config).start()


def build(out: Path, assignments: list[Assignment]) -> None:
    """Write the teacher's and the students' notebooks.  Raises ValueError if a student's holds something secret."""
    for folder in ("teacher", "student"):
        shutil.rmtree(out / folder, ignore_errors=True)
    (out / "gradebook.db").unlink(missing_ok=True)
    config, here = settings(out), str(Path(sys.executable).parent)
    if here not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([here, os.environ.get("PATH", "")])  # nbgrader calls alembic by its name
    for assignment in assignments:
        place = out / "teacher" / assignment.name / f"{assignment.name}.ipynb"
        place.parent.mkdir(parents=True)
        nbformat.write(assignment.notebook, place)
        _convert(GenerateAssignment, config, assignment_id=assignment.name)
        check_given(assignment, out / "student")


def check_given(assignment: Assignment, folder: Path) -> None:
    """Raise ValueError if a file that students get holds a line of a solution or of a hidden test."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (found := source.leaks(assignment.notebook, path.read_text(encoding="utf-8"))):
            path.unlink()
            raise ValueError(f"{path.name}: expected nothing of {assignment.name}'s solutions, got {found}")


def grade(out: Path, assignments: list[Assignment], submissions: Path, roster: list[str], config: Config) -> None:
    """Grade `submissions/STUDENT/NAME.ipynb` of the students, write feedback to each, and `grades.csv`.

    A submission that can't be read gets 0 and the reason.  What only a person can judge comes from a table beside the
    notebook, `NAME.csv`; all of these are read first.  Raises ValueError as `coursework.marks` does.
    """
    for folder in ("submitted", "autograded", "feedback"):
        shutil.rmtree(out / folder, ignore_errors=True)
    each = [(student, one, submissions / student / f"{one.name}.ipynb") for student in roster for one in assignments]
    each = [(student, one, path) for student, one, path in each if path.exists() or path.is_symlink()]
    marks = [read_marks(path.with_suffix(".csv"), one) for _, one, path in each]
    rows = []
    for (student, assignment, path), judged in zip(each, marks, strict=True):
        logger.info("%s, %s", student, assignment.name)
        rows += grade_one(out, assignment, path, student, judged, config)
    with (out / "grades.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def grade_one(
    out: Path, assignment: Assignment, path: Path, student: str, judged: Mapping[str, tuple[float, str]], config: Config
) -> list[dict[str, Any]]:
    """The grades of one submission, a line for each line of the rubric."""
    which = {"assignment_id": assignment.name, "student_id": student}
    try:
        notebook = receive.clean(receive.fetch(path), assignment.notebook)
        place = out / "submitted" / student / assignment.name / path.name
        place.parent.mkdir(parents=True)
        nbformat.write(notebook, place)
        _convert(Autograde, config, **which)
        found = _marked(out, assignment, student, judged)
        _convert(GenerateFeedback, config, **which)
        _without_network(out / "feedback" / student / assignment.name / f"{assignment.name}.html")
    except (ValueError, NbGraderException) as error:
        found = [{"line": x.id, "points": 0, "of": x.points, "comment": str(error)} for x in assignment.rubric]
        _refuse(out / "feedback" / student / assignment.name / f"{assignment.name}.html", str(error))
    return [{"student": student, "assignment": assignment.name} | row for row in found]


def _marked(out: Path, assignment: Assignment, student: str, marks: Mapping[str, tuple[float, str]]) -> list[dict]:
    """Put a person's marks into the gradebook, and read all of them from it."""
    with Gradebook(f"sqlite:///{out / 'gradebook.db'}") as book:
        rows = []
        for line in assignment.rubric:
            place = (line.id, assignment.name, assignment.name, student)
            grade, comment = book.find_grade(*place), ""
            if line.by_hand and line.id in marks:
                grade.manual_score, comment = marks[line.id]
                grade.needs_manual_grade = False
                book.find_comment(*place).manual_comment = comment
            elif grade.needs_manual_grade:
                comment = "to be judged"
            rows.append({"line": line.id, "points": grade.score, "of": line.points, "comment": comment})
        book.db.commit()
    return rows


def _without_network(page: Path) -> None:
    """Take the scripts out that a page of nbconvert's would load from elsewhere: there is no formula in it."""
    text = page.read_text(encoding="utf-8")
    page.write_text(re.sub(r'<script src="http[^>]*>\s*</script>', "", text), encoding="utf-8")


def _refuse(page: Path, reason: str) -> None:
    """Feedback to a submission that could not be read."""
    from markupsafe import escape

    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"<!DOCTYPE html><title>Not graded</title><p>Not graded: {escape(reason)}.</p>", encoding="utf-8")
