"""The survey's tables: data with a citation in every cell, checked when it is read, and shown on the page.

A table is a file `book/survey/NAME.yml`, a list of records; a cell is a pair of a statement and its references.  A fact
that could not be found is `unknown`, with the place where it was looked for.  A page shows a table by a directive:

    ```{survey}
    :columns: year, venue
    ```
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml
from docutils import nodes
from jinja2 import Environment, StrictUndefined
from pybtex.database import Entry, parse_file
from pybtex.richtext import Text
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from gadkit.checks import one_of

BOOK = Path(__file__).parent.parent
TEMPLATE = Path(__file__).with_name("survey.html")
BIBLIOGRAPHY = "book/references"  # the page that lists the references
UNKNOWN = "unknown"
SUPERVISION = ("self", "cross-modal", "synthetic", "labels", "text")
FAMILIES = (
    *("generation", "context", "free labels", "cross-modal"),  # the pretext tasks, by Jing and Tian's four families
    *("contrastive", "self-distillation", "clustering", "masked images"),
    *("supervised", "curation"),
)
COLUMNS = {  # field: heading
    "year": "Year",
    "venue": "Venue",
    "supervision": "Supervision",
    "backbone": "Backbone",
    "parameters": "Parameters, M",
    "data": "Pretraining data",
    "code": "Licence of the code",
    "weights": "Licence of the weights",
    "gives": "What it gives",
}
NUMBERS = {"year": (1950, 2100), "parameters": (0.1, 1e6)}  # and the range they are meant to be in


@dataclass(frozen=True)
class Cell:
    """A statement, and the keys of the references that support it."""

    value: str | int | float
    cite: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """One method: its name, its family, and a cell for every column."""

    name: str
    family: str
    cells: Mapping[str, Cell]


def references(path: Path = BOOK / "references.bib") -> dict[str, str]:
    """The keys of the bibliography, each with a short name such as "Chen et al. 2020"."""
    return {key: f"{_authors(entry)} {entry.fields['year']}" for key, entry in parse_file(path).entries.items()}


def _authors(entry: Entry) -> str:
    people = entry.persons["author"]
    names = [str(Text.from_latex(" ".join(person.prelast_names + person.last_names))) for person in people]
    return " and ".join(names) if len(names) < 3 else f"{names[0]} et al."


def load(name: str = "methods", book: Path = BOOK) -> list[Record]:
    """The records of `survey/NAME.yml` beside the bibliography of a book.

    Raises FileNotFoundError where there is no such table, ValueError naming the record and the field for data that
    break a rule: a field that is missing or too much, a blank cell, a number out of range, a word that is none of the
    choices, a key that the bibliography does not hold, a name twice, families that are not together or records of one
    that are not in order of time.
    """
    path = book / "survey" / f"{name}.yml"
    if not path.is_file():
        raise FileNotFoundError(f"survey: no table {name!r} in {path.parent}")
    known = references(book / "references.bib")
    records = [_record(raw, known) for raw in yaml.safe_load(path.read_text(encoding="utf-8"))]
    if twice := {r.name for r in records if sum(r.name == other.name for other in records) > 1}:
        raise ValueError(f"survey: expected every name once, got {', '.join(sorted(twice))} again")
    order = [(FAMILIES.index(r.family), r.cells["year"].value) for r in records]
    for before, after, record in zip(order, order[1:], records[1:], strict=False):
        if after < before:
            raise ValueError(f"survey: {record.name}: expected families in their order, and years within one")
    return records


def _record(raw: Any, known: Mapping[str, str]) -> Record:
    name = raw.get("name") if isinstance(raw, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"survey: expected records with a name, got {raw!r}")
    if wrong := {"family", *COLUMNS} ^ (raw.keys() - {"name"}):
        raise ValueError(f"survey: {name}: expected the fields family, {', '.join(COLUMNS)}; wrong: {sorted(wrong)}")
    one_of(f"survey: {name}: family", raw["family"], FAMILIES)
    return Record(name, raw["family"], {field: _cell(raw[field], field, name, known) for field in COLUMNS})


def _cell(raw: Any, field: str, name: str, known: Mapping[str, str]) -> Cell:
    where = f"survey: {name}: {field}"
    if not isinstance(raw, list) or len(raw) != 2:  # YAML splits at every comma: what has one stands in quotes
        raise ValueError(f"{where}: expected [what, keys of the references], got {raw!r}")
    value, cite = raw[0], tuple(str(raw[1] or "").split())
    if not cite or (missing := [key for key in cite if key not in known]):
        raise ValueError(f"{where}: expected keys of the bibliography, got {missing if cite else 'none'}")
    if value == UNKNOWN and field not in ("year", "venue", "supervision", "gives"):
        return Cell(UNKNOWN, cite)
    if field in NUMBERS:
        low, high = NUMBERS[field]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"{where}: expected a number from {low} to {high}, got {value!r}")
        return Cell(value, cite)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: expected words, got {value!r}")
    if field == "supervision":
        one_of(where, value, SUPERVISION)
    return Cell(value, cite)


def table(
    families: Sequence[str] = FAMILIES,
    columns: Sequence[str] = tuple(COLUMNS),
    name: str = "methods",
    bibliography: str = "references.html",
    book: Path = BOOK,
) -> str:
    """A table of the survey as HTML: all families or those named, all columns or those chosen.

    Every entry links to the reference that says so, in the page `bibliography`.  On a narrow screen the table scrolls
    inside its frame and the names stay (`_static/book.css`).  Raises ValueError for unknown families and columns, and
    what `load` raises.
    """
    for what, given, known in (("family", families, FAMILIES), ("column", columns, COLUMNS)):
        if unknown := [x for x in given if x not in known]:
            raise ValueError(f"{what}: expected some of {', '.join(known)}, got {', '.join(unknown)}")
    records = [record for record in load(name, book) if record.family in families]
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return page.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        records=records,
        columns={column: COLUMNS[column] for column in columns},
        numbers=NUMBERS,
        unknown=UNKNOWN,
        names=references(book / "references.bib"),
        bibliography=bibliography,
    )


def _words(argument: str | None) -> list[str]:
    """The words of an option, which commas separate."""
    return [word.strip() for word in (argument or "").split(",") if word.strip()]


class Survey(SphinxDirective):
    """`{survey}`: a table of the survey, drawn when the page is read and again when the data have changed."""

    option_spec: ClassVar = {"families": _words, "columns": _words, "name": str}

    def run(self) -> list[nodes.Node]:
        """The table as a node.  Data that break a rule are an error of the page."""
        chosen = {option: value for option, value in self.options.items() if value}
        bibliography = self.env.app.builder.get_relative_uri(self.env.docname, BIBLIOGRAPHY)
        for path in (BOOK / "references.bib", BOOK / "survey" / f"{chosen.get('name', 'methods')}.yml", TEMPLATE):
            self.env.note_dependency(str(path))
        try:
            page = table(**chosen, bibliography=bibliography)
        except (ValueError, FileNotFoundError) as error:
            raise self.error(str(error)) from error
        return [nodes.raw("", page, format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("survey", Survey)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
