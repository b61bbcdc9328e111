"""The command from end to end: it builds, grades a folder, keeps secrets, and is not brought down by a submission."""

import csv
import html
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import nbformat
import pytest
from variants import Change, blank, changed

from coursework import __main__ as command
from coursework import contain, source

ROOT = Path(__file__).parents[2]
needs_fence = pytest.mark.skipif(bool(contain.missing()), reason=f"this machine lacks {contain.missing()}")
MARKS = (
    "line,points,comment\nquestion,2,clear\nphotographs,2.5,\nbaseline,3,\nfailures,1,one cause\nadvice,2,\nreport,2,\n"
)


def python(*arguments: str | Path) -> subprocess.CompletedProcess:
    """`python -m coursework` from another process."""
    call = [sys.executable, "-m", "coursework", *map(str, arguments)]
    return subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)


def hand_in(folder: Path, name: str, changes: Mapping[str, Change], spoil: Callable | None = None) -> None:
    """Write a submission: the solution with some answers changed, and then spoilt."""
    cells = [nbformat.from_dict(cell) for cell in changed(source.read(name), changes)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    if spoil:
        spoil(notebook)
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")


def cheat(notebook: nbformat.NotebookNode) -> None:
    """Empty the tests, raise their points, lose one, and move the rest to the front."""
    graded = [cell for cell in notebook.cells if cell.metadata.nbgrader.grade]
    for cell in graded:
        cell.source, cell.metadata.nbgrader.points = "pass", 1000
    lost = graded[-1]
    notebook.cells = [cell for cell in notebook.cells if cell is not lost]
    notebook.cells.append(nbformat.v4.new_code_cell("print('a cell of my own')"))


def misbehave(notebook: nbformat.NotebookNode) -> None:
    """An answer that loops, and a cell behind it that ends the process."""
    answer = next(cell for cell in notebook.cells if cell.id == "answer-precision")
    answer.source = "def precision(caught, alarms, defective):\n    while True: pass"
    last = next(i for i, cell in enumerate(notebook.cells) if cell.id == "answer-cheapest")
    notebook.cells.insert(last, nbformat.v4.new_code_cell("import os\nprint('x' * 10**8)\nos._exit(1)"))


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course with five students, built and graded by the command."""
    folder = tmp_path_factory.mktemp("course")
    handed = folder / "handed-in"
    hand_in(handed / "anna", "9-project", {})
    (handed / "anna" / "9-project.csv").write_text(MARKS)
    hand_in(handed / "ben", "8-threshold", blank(source.read("8-threshold")))
    hand_in(handed / "cara", "8-threshold", {}, cheat)
    hand_in(handed / "dan", "8-threshold", {}, misbehave)
    (handed / "eva").mkdir()
    (handed / "eva" / "8-threshold.ipynb").write_text("<html>Not found</html>")
    only = ("--only", "8-threshold", "9-project", "--cell-seconds", "3")
    done = python("--out", folder, *only, "--submissions", handed)
    assert done.returncode == 0, done.stderr
    return folder


def grades(course: Path, student: str) -> dict[str, str]:
    """The points of a student by the line of the rubric."""
    with (course / "grades.csv").open(newline="", encoding="utf-8") as file:
        return {row["line"]: row["points"] for row in csv.DictReader(file) if row["student"] == student}


def words(course: Path, student: str, name: str) -> str:
    """What a student reads in the feedback."""
    page = (course / "feedback" / student / name / f"{name}.html").read_text(encoding="utf-8")
    page = re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", "", page))


def expected(name: str, lost: tuple[str, ...] = ()) -> dict[str, str]:
    return {x.id: str(0.0 if x.id in lost else float(x.points)) for x in source.read(name).rubric}


@needs_fence
def test_tests_and_a_person_s_marks_make_a_grade(course: Path) -> None:
    judged = {"photographs": "2.5", "failures": "1.0"}
    assert grades(course, "anna") == expected("9-project") | judged
    assert "one cause" in words(course, "anna", "9-project")


@needs_fence
def test_a_blank_earns_nothing(course: Path) -> None:
    assert {*grades(course, "ben").values()} == {"0.0"}
    assert "It ended in a test that you can see, with NameError." in words(course, "ben", "8-threshold")


@needs_fence
def test_a_submission_that_changes_tests_is_graded_by_the_teacher_s(course: Path) -> None:
    assert grades(course, "cara") == expected("8-threshold")


@needs_fence
def test_a_submission_that_loops_and_dies_loses_what_it_touched_and_no_one_else_does(course: Path) -> None:
    assert grades(course, "dan") == expected("8-threshold", ("precision", "cheapest-cost", "cheapest-share"))
    text = words(course, "dan", "8-threshold")
    assert "0 of 1: the share of right alarms depends on how rare defects are" in text
    assert "It ended in line 2 of your answer precision, with OutOfTime." in text
    assert "the submission's process ended by itself" in text


@needs_fence
def test_a_file_that_is_no_notebook_gets_nothing_and_the_reason(course: Path) -> None:
    assert {*grades(course, "eva").values()} == {"0"}
    assert "it is no notebook" in words(course, "eva", "8-threshold")


@needs_fence
def test_nothing_that_a_student_gets_has_a_secret_or_calls_home(course: Path) -> None:
    for name in ("8-threshold", "9-project"):
        assignment = source.read(name)
        given = course / "student" / name / f"{name}.ipynb"
        assert not source.leaks(assignment.notebook, given.read_text(encoding="utf-8"))
        assert "YOUR CODE HERE" in given.read_text(encoding="utf-8")
    tests = [cell for cell in source.read("8-threshold").notebook.cells if cell.metadata.nbgrader.grade]
    for student in ("ben", "cara", "dan"):
        assert not source.leaks(nbformat.v4.new_notebook(cells=tests), words(course, student, "8-threshold"))
    for page in (course / "feedback").rglob("*.html"):
        assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page.read_text(encoding="utf-8"))


@needs_fence
def test_what_students_get_is_locked_where_it_should_be(course: Path) -> None:
    given = nbformat.read(course / "student" / "8-threshold" / "8-threshold.ipynb", as_version=4)
    nbformat.validate(given)
    assert given.metadata.kernelspec.name == "python3"
    free = {cell.id for cell in given.cells if cell.metadata.get("editable", True)}
    assert free == {*(f"answer-{name}" for name in blank(source.read("8-threshold")))}
    assert [cell.id for cell in given.cells] == [cell.id for cell in source.read("8-threshold").notebook.cells]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--only", "nothing"], "expected one of 1-measuring"),
        (["--submissions", "{tmp}/none"], "expected a folder"),
        (["--submissions", "{tmp}"], "expected a folder for each student"),
        (["--submissions", "{tmp}/odd"], "expected names of letters"),
    ],
)
def test_what_can_t_be_done_is_said_in_one_line(
    arguments: list[str], reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if "odd" in arguments[-1]:
        (tmp_path / "odd" / "a student").mkdir(parents=True)
    given = [argument.format(tmp=tmp_path) for argument in arguments]
    assert command.main([*given, "--out", str(tmp_path / "out")]) == 2
    assert reason in caplog.text
    assert not (tmp_path / "out").exists()


def test_a_machine_without_a_fence_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "anna").mkdir()
    monkeypatch.setattr(contain, "missing", lambda: ["a fence"])
    assert command.main(["--submissions", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "lacks a fence" in caplog.text


@pytest.mark.parametrize("bad", ["line,points\nnothing,1\n", "line,points\nreport,9\n", "line,points\nreport,many\n"])
def test_marks_that_the_rubric_does_not_give_are_refused(bad: str, tmp_path: Path) -> None:
    from coursework.marks import read_marks

    (tmp_path / "9-project.csv").write_text(bad)
    with pytest.raises(ValueError, match="expected"):
        read_marks(tmp_path / "9-project.csv", source.read("9-project"))
    assert read_marks(tmp_path / "none.csv", source.read("9-project")) == {}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """All assignments, built twice."""
    folders = [tmp_path_factory.mktemp("whole") for _ in range(2)]
    assert not any(python("--out", folder).returncode for folder in folders)
    return folders


@pytest.mark.slow
def test_all_assignments_are_built_without_a_leak_and_twice_the_same(whole: list[Path]) -> None:
    files = [{p.relative_to(f): p.read_bytes() for p in f.rglob("*.ipynb")} for f in whole]
    assert files[0] == files[1]
    assert len(files[0]) == 2 * len(source.names())


@needs_fence
@pytest.mark.slow
@pytest.mark.parametrize("name", source.names())
def test_the_command_grades_every_variant_as_the_rubric_says(name: str, tmp_path: Path) -> None:
    import importlib

    answers = importlib.import_module(f"answers.{name.split('-', 1)[1]}")
    assignment = source.read(name)
    wrong = {f"wrong-{i}": pair for i, pair in enumerate(answers.WRONG.values())}
    right = {f"right-{i}": (changes, ()) for i, changes in enumerate(answers.RIGHT.values())}
    nothing = (blank(assignment), {line.id for line in assignment.rubric})
    each = {"solution": ({}, ()), "blank": nothing, **wrong, **right}
    for student, (changes, _) in each.items():
        hand_in(tmp_path / "in" / student, name, changes)
    done = python("--out", tmp_path / "out", "--only", name, "--submissions", tmp_path / "in")
    assert done.returncode == 0, done.stderr
    by_hand = {line.id for line in assignment.rubric if line.by_hand}
    for student, (_, lost) in each.items():
        assert grades(tmp_path / "out", student) == expected(name, (*lost, *by_hand)), student
