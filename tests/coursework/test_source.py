"""Pages that break the rules are refused, and a leak is seen in whatever way it is written."""

import json

import pytest

from coursework import source

HEAD = "---\nminutes: 60\n---\n\n# A page\n\n<!-- rubric -->\n\n"
ANSWER = "```{code-cell} ipython3\n:answer: f\n\ndef f():\n    ### BEGIN SOLUTION\n    return 'forty-two'\n"
ANSWER += "    ### END SOLUTION\n```\n\n"
GRADED = '```{code-cell} ipython3\n:rubric: {id: right, points: 2, text: "it is right"}\n\nassert f()\n'
GRADED += "### BEGIN HIDDEN TESTS\nassert f() == 'forty-two'\n### END HIDDEN TESTS\n```\n"


def test_a_page_becomes_a_notebook_with_its_rubric() -> None:
    made = source.parse("page", HEAD + ANSWER + GRADED)
    assert (made.title, made.points, made.minutes) == ("A page", 2, 60)
    assert "| it is right | 2 | a test |" in made.notebook.cells[0].source
    text, answer, graded = (cell.metadata.nbgrader for cell in made.notebook.cells)
    assert (text.grade, text.locked, text.solution) == (False, True, False)
    assert (answer.grade_id, answer.locked, answer.solution) == ("answer-f", False, True)
    assert (graded.grade, graded.points, graded.locked) == (True, 2, True)
    assert made.notebook.cells[2].source.startswith("# 2 points: it is right\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HEAD + ANSWER.replace(":answer: f\n", "") + GRADED, "solution in each answer and nowhere else"),
        (HEAD + ANSWER + GRADED.replace("BEGIN HIDDEN TESTS", "SOME"), "hidden tests in each graded cell"),
        (HEAD + ANSWER + ANSWER + GRADED, "every cell once"),
    ],
)
def test_a_page_that_breaks_a_rule_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        source.parse("page", text)


def test_an_assignment_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of 1-measuring"):
        source.read("10-nothing")


def test_a_leak_is_seen_as_it_is_and_as_json_writes_it() -> None:
    made = source.parse("page", HEAD + ANSWER.replace("'forty-two'", '"forty-two"') + GRADED)
    assert [*source.secrets(made.notebook)] == ['return "forty-two"', "assert f() == 'forty-two'"]
    assert source.leaks(made.notebook, "nothing") == []
    assert source.leaks(made.notebook, json.dumps(['    return "forty-two"'])) == ['return "forty-two"']
    assert source.leaks(made.notebook, "assert f() == 'forty-two'") == ["assert f() == 'forty-two'"]
