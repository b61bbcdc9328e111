"""An index of the book's exercises, made from the pages as they were built: each with its question and its solution.

```{exercise-index}
```

And one of the assignments of the course, from their sources: what each teaches, and which chapters it belongs to.

```{assignment-index}
```
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.builders import Builder
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx_exercise.nodes import exercise_enumerable_node, exercise_node, solution_node

logger = logging.getLogger(__name__)
SENTENCE = re.compile(r"(?<=[.?!])\s")  # the gap after a sentence
ASSIGNMENTS = "book/coursework/assignments"
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
GOAL = re.compile(r"\*\*You will be able to\*\* (.+?\.)(?: |$)")
READ = re.compile(r"\*\*Read first\*\*: (.+?) \*\*Time")
CHAPTER = re.compile(r"\*([^*]+)\*")


class Index(nodes.General, nodes.Element):
    """A place for the index, filled when all pages are known."""


class ExerciseIndex(SphinxDirective):
    """`{exercise-index}`: the exercises of all pages, chapter by chapter."""

    def run(self) -> list[nodes.Node]:
        """The place."""
        self.env.metadata[self.env.docname]["exercises"] = "index"
        return [Index()]


class Assignments(nodes.General, nodes.Element):
    """A place for the index of the assignments."""


class AssignmentIndex(SphinxDirective):
    """`{assignment-index}`: the assignments of the course, in their order."""

    def run(self) -> list[nodes.Node]:
        """The place."""
        for path in (Path(self.env.srcdir) / ASSIGNMENTS).glob("*.md"):
            self.env.note_dependency(str(path))
        return [Assignments()]


def order(env: BuildEnvironment) -> Iterator[str]:
    """The pages in the order of the table of contents."""
    waiting = [env.config.root_doc]
    while waiting:
        page = waiting.pop(0)
        yield page
        waiting = [*env.toctree_includes.get(page, []), *waiting]


def questions(
    env: BuildEnvironment, builder: Builder, page: str, doctree: nodes.document
) -> dict[str, list[nodes.Node]]:
    """The first sentence of each exercise of a page, by its label: words, code and mathematics, without links."""
    found = {node["label"]: next(node.findall(nodes.paragraph), nodes.paragraph()) for node in _exercises(doctree)}
    found = {label: paragraph.deepcopy() for label, paragraph in found.items()}
    own = doctree.copy()  # without the rest of the page
    own += list(found.values())
    env.resolve_references(own, page, builder)  # citations and numbers of equations become words
    return {label: _sentence(paragraph) for label, paragraph in found.items()}


def _exercises(doctree: nodes.document) -> Iterator[nodes.Element]:
    return doctree.findall(lambda node: isinstance(node, exercise_node | exercise_enumerable_node))


def _sentence(paragraph: nodes.Element) -> list[nodes.Node]:
    found: list[nodes.Node] = []
    for child in paragraph.children:
        if isinstance(child, nodes.math | nodes.literal):
            found.append(child.deepcopy())
            continue
        words, *rest = SENTENCE.split(child.astext().replace("\n", " "), maxsplit=1)
        found.append(nodes.Text(words))
        if rest or words.endswith((".", "?", "!")):  # a line may end with the sentence
            break
    return found


def listed(env: BuildEnvironment, builder: Builder, here: str, page: str) -> list[nodes.list_item]:
    """The exercises of a page, each a line with links to it and to its solution."""
    doctree = env.get_doctree(page)
    solutions = {node["target_label"]: node["ids"][0] for node in doctree.findall(solution_node)}
    numbers = env.toc_fignumbers.get(page, {}).get("exercise", {})
    asked = questions(env, builder, page, doctree)
    lines = []
    for node in _exercises(doctree):
        number = ".".join(map(str, numbers.get(node["ids"][0], ())))
        uri = builder.get_relative_uri(here, page)
        line = nodes.paragraph("", "", _link(f"Exercise {number}".strip(), f"{uri}#{node['ids'][0]}"), nodes.Text(": "))
        line += asked[node["label"]]
        if solution := solutions.get(node["label"]):
            line += [nodes.Text(" ("), _link("solution", f"{uri}#{solution}"), nodes.Text(")")]
        lines.append(nodes.list_item("", line))
    return lines


def _link(words: str, uri: str) -> nodes.reference:
    return nodes.reference("", words, internal=True, refuri=uri)


def assigned(app: Sphinx, here: str) -> Iterator[nodes.list_item]:
    """The assignments: what each is called and teaches, links to what it asks to be read, minutes and points."""
    sys.path.insert(0, str(app.srcdir))  # for what is beside the package
    from coursework import source

    paths = {page: Path(app.env.doc2path(page)) for page in order(app.env)}
    heads = {page: TITLE.search(path.read_text(encoding="utf-8")) for page, path in paths.items()}
    pages = {head[1]: page for page, head in heads.items() if head}
    folder = Path(app.srcdir) / ASSIGNMENTS
    for name in source.names(folder):
        assignment = source.read(name, folder)
        text = assignment.notebook.cells[0].source.replace("\n", " ")
        goal, read = GOAL.search(text), READ.search(text)
        titles = CHAPTER.findall(read[1]) if read else []
        if not goal or not titles or {*titles} - {*pages}:
            logger.warning("%s: expected a goal, and chapters to read first, got %s", name, titles, location=here)
            continue
        line = nodes.paragraph(
            "", "", nodes.strong("", assignment.title), nodes.Text(f": you will be able to {goal[1]} After ")
        )
        for title in titles:
            uri = app.builder.get_relative_uri(here, pages[title])
            line += [_link(app.env.titles[pages[title]].astext(), uri), nodes.Text(", ")]
        line[-1] = nodes.Text(f": {assignment.minutes} minutes, {assignment.points} points.")
        yield nodes.list_item("", line)


def fill(app: Sphinx, doctree: nodes.document, here: str) -> None:
    """Write each index into its place."""
    for place in list(doctree.findall(Assignments)):
        place.replace_self(nodes.bullet_list("", *assigned(app, here)))
    for place in list(doctree.findall(Index)):
        found: list[nodes.Node] = []
        for page in order(app.env):
            if lines := listed(app.env, app.builder, here, page):
                title = app.env.titles[page].astext()
                found.append(nodes.rubric("", "", _link(title, app.builder.get_relative_uri(here, page))))
                found.append(nodes.bullet_list("", *lines))
        place.replace_self(found)
        app.env.get_domain("math").data["has_equations"][here] = any(doctree.findall(nodes.math))


def again(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """The pages with an index are written at every build: any page may have changed it."""
    return [page for page, data in env.metadata.items() if data.get("exercises") == "index"]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_node(Index)
    app.add_node(Assignments)
    app.add_directive("exercise-index", ExerciseIndex)
    app.add_directive("assignment-index", AssignmentIndex)
    app.connect("doctree-resolved", fill)
    app.connect("env-updated", again)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
