"""Additions of the book to Sphinx: a line of facts at the foot of each page, and images that speak.

- A page's front matter says which modules it explains and what it may cost; the line at its foot repeats that and
  adds what the last execution really took.  The role `{took}` gives that time for another page.
- An image without a meaningful alternative text is a warning, and warnings end the build.
- Cells with a hidden source that follow one another share one button.
- A number in a table stays on one line with its deviation.
"""

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.parsers.rst.states import Inliner
from myst_nb.sphinx_ import HideInputCells, NbMetadataCollector
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

logger = logging.getLogger(__name__)
NAMELESS = re.compile(r"[\w./-]*\.(png|svg|jpe?g)|[0-9a-f]{8,}|\S*", re.IGNORECASE)
SHORTEST_ALT = {"en": 25, "ko": 12}  # letters; a syllable of Hangul is one
FACTS = {  # of a page: what it explains, its times, and what stands for a time that is not known
    "en": (
        "Explains ",
        "budget on two CPU cores: {budget} · took {seconds} when this page was made · on a GPU: {gpu}",
        "not measured",
    ),
    "ko": (
        "설명하는 모듈: ",
        "CPU 코어 두 개의 예산: {budget} · 이 페이지를 만들 때 걸린 시간: {seconds} · GPU: {gpu}",
        "측정하지 않음",
    ),
}
PAIR = re.compile(r"(?<=\d) ([±/]) (?=\d)")


def speaks(alt: str, language: str = "en") -> bool:
    """Whether an alternative text says something: a phrase, not a file's name or a hash."""
    return len(alt) >= SHORTEST_ALT.get(language, 25) and not NAMELESS.fullmatch(alt.strip())


def demand_alt(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Warn about every image that a blind reader would miss."""
    for image in doctree.findall(nodes.image):
        if not speaks(alt := image.get("alt", ""), app.config.language):
            where = (docname, image.line)
            logger.warning("image %s: no meaningful alt text, got %r", image["uri"], alt, location=where)


def took(env: BuildEnvironment, page: str) -> str:
    """How long the last execution of a page took, in words."""
    data = NbMetadataCollector.get_exec_data(env, page) if page in env.nb_metadata else None
    seconds = data and data["runtime"]
    if not seconds:
        return "코드 없음" if env.config.language == "ko" else "no code"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def facts(metadata: dict[str, Any], seconds: str, language: str = "en") -> Iterator[nodes.Node]:
    """The pieces of the line at the foot of a page."""
    explains, line, unmeasured = FACTS.get(language, FACTS["en"])
    modules = filter(None, metadata.get("gadkit", "").split(", "))
    for index, module in enumerate(modules):
        yield nodes.Text("" if index else explains)
        name = nodes.literal("", module)
        place = {"refdomain": "py", "reftype": "obj", "reftarget": module, "refexplicit": True}
        yield pending_xref("", name, **place) if module.split(".")[0] == "gadkit" else name  # to the reference
        yield nodes.Text(" · ")
    yield nodes.Text(line.format(budget=metadata["budget"], seconds=seconds, gpu=metadata.get("gpu", unmeasured)))


def add_facts(app: Sphinx, doctree: nodes.document) -> None:
    """Put the line of facts at the foot of every page that states its budget: readers come for the question first."""
    metadata = app.env.metadata[app.env.docname]
    title = next(doctree.findall(nodes.title), None)
    if "budget" in metadata and title is not None:
        pieces = facts(metadata, took(app.env, app.env.docname), app.config.language)
        title.parent += nodes.paragraph("", "", *pieces, classes=["facts"])


class Took(nodes.Inline, nodes.TextElement):
    """A place for the running time of another page, known only once all pages have been read."""


def took_role(name: str, raw: str, text: str, line: int, inliner: Inliner, *_: Any) -> tuple[list, list]:
    """`` {took}`book/part/page` ``."""
    return [Took(page=text)], []


def fill_times(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Write the running times into their places."""
    for place in list(doctree.findall(Took)):
        place.replace_self(nodes.inline("", took(app.env, place["page"]), classes=["took"]))


def keep_pairs(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put no-break spaces into the pairs of numbers of all tables, such as 0.93 ± 0.12."""
    for entry in doctree.findall(nodes.entry):
        for text in list(entry.findall(nodes.Text)):
            if PAIR.search(text):
                text.parent.replace(text, nodes.Text(PAIR.sub("\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}", text)))


def hidden_source(node: nodes.Node | None) -> bool:
    """Whether a node is a code cell that shows its source on demand."""
    return isinstance(node, nodes.container) and node.get("hide_mode") == "input"


class OneButton(SphinxPostTransform):
    """Move hidden sources without output to the next hidden source, before the buttons are made."""

    default_priority = HideInputCells.default_priority - 1
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Merge from top to bottom, so that a run of cells ends up in its last one, in order."""
        for cell in list(self.document.findall(hidden_source)):
            after = cell.next_node(descend=False, siblings=True)
            if hidden_source(after) and len(cell) == 1:  # a second child would be the output
                after[0].insert(0, cell[0].children)
                cell.parent.remove(cell)


def drop_thebe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Leave out the scripts for live cells, which the book does not have, and whose constants stand in them twice.

    jupyter-book always loads sphinx-thebe, which adds an inline script, `filename=None`, after the builder has begun.
    The builder begins anew before it writes and reads the name as "", so that to Sphinx these are two scripts; a
    browser that meets the same `const THEBE_JS_URL` twice reports an error.
    """
    scripts = context["script_files"]
    context["script_files"] = [x for x in scripts if "thebe" not in f"{x.filename} {x.attributes.get('body')}"]


def choose_mode(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Let a first visit begin in the reader's own mode: the theme does so as well, but reports an error first.

    The theme's option for this would leave pages without colours where scripts are off.
    """
    context["metatags"] = context.get("metatags", "") + '\n<script>localStorage.mode ||= "auto";</script>\n'


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_node(Took)
    app.add_role("took", took_role)
    app.add_post_transform(OneButton)
    app.connect("doctree-read", add_facts)
    app.connect("doctree-resolved", fill_times)
    app.connect("doctree-resolved", demand_alt)
    app.connect("doctree-resolved", keep_pairs)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("html-page-context", choose_mode)
    app.connect("env-updated", lambda app, env: [env.config.root_doc])  # the landing page quotes other pages' times
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
