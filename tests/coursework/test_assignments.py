"""The assignments take away what their rubrics say: from solutions, blanks, wrong answers and other right ones."""

import importlib
import re
from pathlib import Path

import pytest
import yaml
from variants import blank, changed, lost

from coursework import contain, inside, source

ROOT = Path(__file__).parents[2]
ASSIGNMENTS = {name: source.read(name) for name in source.names()}
GOALS = ("**You will be able to**", "**Read first**", "**Time**", "**Machine**", source.RUBRIC)


def by_tests(assignment: source.Assignment) -> set[str]:
    return {line.id for line in assignment.rubric if not line.by_hand}


@pytest.fixture(params=ASSIGNMENTS)
def assignment(request: pytest.FixtureRequest) -> source.Assignment:
    return ASSIGNMENTS[request.param]


@pytest.fixture
def answers(assignment: source.Assignment) -> object:
    return importlib.import_module(f"answers.{assignment.name.split('-', 1)[1]}")


def test_there_are_eight_assignments_of_ten_points_and_a_project_of_twenty() -> None:
    assert [name.split("-")[0] for name in ASSIGNMENTS] == [str(n) for n in range(1, 10)]
    assert [one.points for one in ASSIGNMENTS.values()] == [10] * 8 + [20]


def test_the_solution_scores_full_and_a_blank_nothing(assignment: source.Assignment) -> None:
    assert not lost(assignment, {})
    assert by_tests(assignment) <= lost(assignment, blank(assignment)).keys()


def test_wrong_answers_lose_what_the_rubric_says(assignment: source.Assignment, answers: object) -> None:
    assert len(answers.WRONG) >= 5
    found = {name: {*lost(assignment, changes)} for name, (changes, _) in answers.WRONG.items()}
    assert found == {name: loses for name, (_, loses) in answers.WRONG.items()}
    assert set().union(*found.values()) == by_tests(assignment), "each line of the rubric can be lost"


def test_right_answers_that_are_written_differently_lose_nothing(
    assignment: source.Assignment, answers: object
) -> None:
    assert len(answers.RIGHT) >= 2
    assert not any({name: lost(assignment, changes) for name, changes in answers.RIGHT.items()}.values())


def test_a_page_says_what_it_is_for_and_what_it_takes(assignment: source.Assignment) -> None:
    text = (source.PAGES / f"{assignment.name}.md").read_text(encoding="utf-8")
    assert not [goal for goal in GOALS if goal not in text]
    assert assignment.minutes == yaml.safe_load(text.split("---\n")[1])["minutes"] >= 60
    titles = {
        re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.M)[1] for path in (ROOT / "book").glob("*/*.md")
    }
    named = re.search(r"\*\*Read first\*\*:(.*?)\*\*Time", text, re.DOTALL)[1].replace("\n", " ")
    assert {*re.findall(r"\*(.+?)\*", named)} <= titles
    code = [cell for cell in assignment.notebook.cells if cell.cell_type == "code"]
    lines = [line for cell in code for line in cell.source.splitlines() if not line.startswith("# ")]
    assert max(map(len, lines)) <= 115


def test_the_teachers_page_lists_what_there_is() -> None:
    text = (source.PAGES.parent / "teachers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*?): (.*?) \| \[\]\((.*?)\) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    listed = [(f"{kind}: {title}".lower(), int(minutes), int(points)) for kind, title, _, minutes, points in rows]
    titles = [one.title.lower().removeprefix("assignment ") for one in ASSIGNMENTS.values()]
    assert listed == [(t, one.minutes, one.points) for t, one in zip(titles, ASSIGNMENTS.values(), strict=True)]


def test_the_teachers_page_states_the_limits() -> None:
    text = (source.PAGES.parent / "teachers.md").read_text(encoding="utf-8")
    usual = contain.USUAL
    stated = f"{usual.cell_seconds:g} seconds of the processor for a cell, {usual.seconds:g} seconds in all"
    stated += f", {usual.memory >> 30} GB of memory and {usual.disk >> 20} MB of disk"
    assert stated in text.replace("\n", " ")
    assert f"{inside.MOST:,} characters are kept" in text


def test_no_assignment_is_a_page_of_the_book() -> None:
    excluded = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["exclude_patterns"]
    assert str(source.PAGES.relative_to(ROOT)) in excluded
    assert "assignments" not in (ROOT / "_toc.yml").read_text(encoding="utf-8")


def test_a_page_has_the_same_ids_whenever_it_is_read(assignment: source.Assignment) -> None:
    again = source.read(assignment.name)
    assert again.notebook == assignment.notebook
    assert all(re.fullmatch(r"[\w-]{1,64}", cell.id) for cell in again.notebook.cells)


def test_the_check_of_variants_can_fail() -> None:
    with pytest.raises(AssertionError, match="no such answers"):
        changed(ASSIGNMENTS["1-measuring"], {"nothing": ""})
    with pytest.raises(AssertionError, match="no such piece"):
        changed(ASSIGNMENTS["1-measuring"], {"auroc": [("no such piece", "")]})


@pytest.mark.slow
def test_what_is_shown_and_not_graded_runs_too(assignment: source.Assignment) -> None:
    world = {"__name__": "__main__"}
    for cell in assignment.notebook.cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, f"<{cell.id}>", "exec"), world)
