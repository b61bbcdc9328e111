"""The survey's tables: data with a citation in every cell, checked when it is read, and shown on the page.

A table is a file `book/survey/NAME.yml`, a list of records.  A cell is a statement, its references, and the place in
them where it was read; older cells lack the place.  A fact that could not be found is `unknown`, with the place where
it was looked for.  A page shows a table by a directive:

    ```{survey}
    :columns: year, venue
    ```
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
NOTHING = "none found"  # in the column `builds`
SUPERVISION = (
    *("self", "cross-modal", "synthetic", "labels", "text", "teachers"),
    *(
        "training-free",
        "good parts",
        "other products",
        "made-up defects",
    ),  # of detectors: what they saw before
)
TABLES = {  # the files, and the families of each in their order
    "methods": (
        *("generation", "context", "free labels", "cross-modal"),  # the pretext tasks, by Jing and Tian's four families
        *("contrastive", "self-distillation", "clustering", "redundancy reduction", "masked images"),
        *("supervised", "several teachers", "curation"),
    ),
    "words": ("words for pictures", "pairs of pictures and texts", "answers in words"),
    "objects": ("boxes", "masks of everything", "masks on demand"),
    "detectors": ("good parts compared", "words", "defects of other parts", "the batch", "all good parts"),
}
FAMILIES = tuple(family for families in TABLES.values() for family in families)
COLUMNS = {  # field: heading
    "year": "Year",
    "venue": "Venue",
    "supervision": "Supervision",
    "backbone": "Backbone",
    "parameters": "Parameters, M",
    "data": "Learnt from",
    "size": "Input, pixels",
    "code": "Licence of the code",
    "weights": "Licence of the weights",
    "gives": "What it gives",
    "builds": "Builds on",
}
NUMBERS = {"year": (1950, 2100), "parameters": (0, 1e6), "size": (16, 4096)}  # and the range they are meant to be in


@dataclass(frozen=True)
class Cell:
    """A statement, the keys of the references that support it, and the place in them, "" where it was not noted."""

    value: str | int | float
    cite: tuple[str, ...]
    where: str = ""


@dataclass(frozen=True)
class Record:
    """One method: its name, its family, a cell for every column, and the names in `gadkit` that it has or lent to."""

    name: str
    family: str
    cells: Mapping[str, Cell]
    here: tuple[str, ...] = ()

    @property
    def parents(self) -> tuple[str, ...]:
        """The names of the records that it builds on, the nearest first."""
        value = str(self.cells["builds"].value)
        return () if value in (NOTHING, UNKNOWN) else tuple(value.split("; "))


def references(path: Path = BOOK / "references.bib") -> dict[str, str]:
    """The keys of the bibliography, each with a short name such as "Chen et al. 2020"."""
    return _references(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _references(path: Path, changed: int) -> dict[str, str]:
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


def everything(book: Path = BOOK) -> dict[str, list[Record]]:
    """The records of all tables, by table.

    Raises what `load` raises, and ValueError for a name that stands in two tables, for a record that builds on one
    which the survey does not have, for one that builds on a later one, and for a circle.
    """
    tables = {name: load(name, book) for name in TABLES}
    records: dict[str, Record] = {}
    for record in (record for table in tables.values() for record in table):
        if record.name in records:
            raise ValueError(f"survey: expected every name once, got {record.name} again")
        records[record.name] = record
    for record in records.values():
        for parent in record.parents:
            if parent not in records:
                raise ValueError(f"survey: {record.name}: builds: expected names of records, got {parent!r}")
            if records[parent].cells["year"].value > record.cells["year"].value + 1:  # a preprint comes a year before
                raise ValueError(f"survey: {record.name}: builds: expected earlier ones, got {parent}")
        if record.name in ancestors(record.name, records):
            raise ValueError(f"survey: {record.name}: builds: expected no circle")
    return tables


def ancestors(name: str, records: Mapping[str, Record]) -> set[str]:
    """The names of all records that one builds on, at once or through others."""
    found, waiting = set(), [*records[name].parents]
    while waiting:
        parent = waiting.pop()
        if parent in records and parent not in found:
            found.add(parent)
            waiting += records[parent].parents
    return found


def _record(raw: Any, known: Mapping[str, str]) -> Record:
    name = raw.get("name") if isinstance(raw, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"survey: expected records with a name, got {raw!r}")
    if wrong := {"family", "here", *COLUMNS} ^ (raw.keys() - {"name"}):
        expected = ", ".join(["family", *COLUMNS, "here"])
        raise ValueError(f"survey: {name}: expected the fields {expected}; wrong: {sorted(wrong)}")
    one_of(f"survey: {name}: family", raw["family"], FAMILIES)
    if not isinstance(raw["here"], list) or not all(isinstance(other, str) for other in raw["here"]):
        raise ValueError(f"survey: {name}: here: expected a list of names, got {raw['here']!r}")
    cells = {field: _cell(raw[field], field, name, known) for field in COLUMNS}
    return Record(name, raw["family"], cells, tuple(raw["here"]))


def _cell(raw: Any, field: str, name: str, known: Mapping[str, str]) -> Cell:
    where = f"survey: {name}: {field}"
    if not isinstance(raw, list) or len(raw) not in (2, 3):  # YAML splits at every comma: what has one is in quotes
        raise ValueError(f"{where}: expected [what, keys of the references, place], got {raw!r}")
    value, cite, place = raw[0], tuple(str(raw[1] or "").split()), raw[2] if len(raw) == 3 else ""
    if not isinstance(place, str) or (len(raw) == 3 and not place.strip()):
        raise ValueError(f"{where}: expected a place in words, got {place!r}")
    if not cite or (missing := [key for key in cite if key not in known]):
        raise ValueError(f"{where}: expected keys of the bibliography, got {missing if cite else 'none'}")
    if value == UNKNOWN and field not in ("year", "venue", "supervision", "gives"):
        return Cell(UNKNOWN, cite, place)
    if field in NUMBERS:
        low, high = NUMBERS[field]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"{where}: expected a number from {low} to {high}, got {value!r}")
        return Cell(value, cite, place)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: expected words, got {value!r}")
    if field == "supervision":
        one_of(where, value, SUPERVISION)
    return Cell(value, cite, place)


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
