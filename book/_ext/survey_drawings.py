"""Two drawings of the survey's data: a timeline, and a family tree of what builds on what.

    ```{survey-timeline}
    :name: survey-timeline
    :alt: What a blind reader should know.

    The caption.
    ```

They are SVG within the page, so that they take its colours, light or dark.  A filled dot: the package has it.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from survey import BOOK, TABLES, Record, everything
from survey_browser import PARTS

WIDTH, LINE, TOP = 760, 16, 40
YEARS, COLUMN = 44, 179  # widths: of the years, of a part
INDENT = 14


def timeline(book: Path = BOOK) -> str:
    """The records by year, downwards, and by part, sidewards, as the content of an SVG of 760 units' width."""
    tables = everything(book)
    years = sorted({_year(record) for table in tables.values() for record in table})
    pieces = [_text(YEARS + i * COLUMN, 20, PARTS[name], "muted") for i, name in enumerate(TABLES)]
    y = TOP
    for year in years:
        pieces.append(f'<line x1="0" x2="{WIDTH}" y1="{y - 13}" y2="{y - 13}"/>')
        pieces.append(_text(0, y, str(year), "muted"))
        columns = [[record for record in table if _year(record) == year] for table in tables.values()]
        for i, column in enumerate(columns):
            for j, record in enumerate(column):
                pieces += _entry(YEARS + i * COLUMN, y + j * LINE, record)
        y += max(map(len, columns)) * LINE + 8
    return _svg(pieces, y - 8)


def trees(book: Path = BOOK) -> list[tuple[Record, int]]:
    """The records that build on others or are built upon, each with its depth, as the lines of family trees.

    A record stands below the first that it builds on; roots come in order of time.
    """
    records = {record.name: record for table in everything(book).values() for record in table}
    children: dict[str, list[Record]] = {name: [] for name in records}
    for record in records.values():
        if record.parents:
            children[record.parents[0]].append(record)

    def below(record: Record, depth: int) -> list[tuple[Record, int]]:
        found = sorted(children[record.name], key=_year)
        return [(record, depth), *(line for child in found for line in below(child, depth + 1))]

    roots = sorted((r for r in records.values() if not r.parents and children[r.name]), key=_year)
    return [line for root in roots for line in below(root, 0)]


def family_tree(book: Path = BOOK) -> str:
    """The family trees in two columns, as the content of an SVG of 760 units' width."""
    lines = trees(book)
    starts = [i for i, (_, depth) in enumerate(lines) if depth == 0]
    middle = min(starts, key=lambda start: abs(2 * start - len(lines)))
    pieces: list[str] = []
    for x, column in ((4, lines[:middle]), (WIDTH // 2 + 4, lines[middle:])):
        pieces += _branches(x, column)
        for i, (record, depth) in enumerate(column):
            others = f", also {', '.join(record.parents[1:])}" if record.parents[1:] else ""
            pieces += _entry(x + depth * INDENT, 16 + i * LINE, record, f" {_year(record)}{others}")
    return _svg(pieces, 16 + max(middle, len(lines) - middle) * LINE)


def _branches(x: int, lines: Sequence[tuple[Record, int]]) -> list[str]:
    """A line from each record to the one that it stands below."""
    pieces, last = [], {}
    for i, (_, depth) in enumerate(lines):
        last[depth] = i
        if depth:
            left, top, bottom = x + (depth - 1) * INDENT + 4, 16 + last[depth - 1] * LINE + 1, 12 + i * LINE
            pieces.append(f'<path d="M{left} {top}V{bottom}H{left + INDENT - 4}"/>')
    return pieces


def _entry(x: int, y: int, record: Record, muted: str = "") -> list[str]:
    """A dot and a name, and perhaps more in grey."""
    dot = f'<circle cx="{x + 4}" cy="{y - 4}" r="3.5"{" class=" + chr(34) + "here" + chr(34) if record.here else ""}/>'
    more = f'<tspan class="muted">{escape(muted)}</tspan>' if muted else ""
    return [dot, f'<text x="{x + 13}" y="{y}">{escape(record.name)}{more}</text>']


def _text(x: int, y: int, words: str, kind: str) -> str:
    return f'<text x="{x}" y="{y}" class="{kind}">{escape(words)}</text>'


def _svg(pieces: Sequence[str], height: int) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{{alt}}">{"".join(pieces)}</svg>'


def _year(record: Record) -> int:
    return int(record.cells["year"].value)


DRAWINGS: Mapping[str, Any] = {"survey-timeline": timeline, "survey-tree": family_tree}


class Drawing(SphinxDirective):
    """A drawing with a numbered caption, made when the page is read and again when the data have changed."""

    has_content = True
    option_spec: ClassVar = {"name": directives.unchanged_required, "alt": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """The figure as a node.  Data that break a rule, and a missing alt text or caption, are errors of the page."""
        for name in TABLES:
            self.env.note_dependency(str(BOOK / "survey" / f"{name}.yml"))
        if not self.options.get("alt") or not self.content:
            raise self.error(f"{self.name}: expected an alt text and a caption")
        try:
            drawn = DRAWINGS[self.name]()
        except (ValueError, FileNotFoundError) as error:
            raise self.error(str(error)) from error
        drawn = drawn.replace("{alt}", escape(self.options["alt"]))
        figure = nodes.figure(
            "", nodes.raw("", f'<div class="survey-drawing" tabindex="0">{drawn}</div>', format="html")
        )
        parsed = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        words = next(parsed.findall(nodes.paragraph))
        caption = nodes.caption(words.rawsource, "", *words.children)
        caption.source, caption.line = words.source, words.line  # or a translator would not find it
        figure += caption
        self.set_source_info(figure)
        self.add_name(figure)
        return [figure]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    for name in DRAWINGS:
        app.add_directive(name, Drawing)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
