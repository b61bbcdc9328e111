"""The survey's tables: data with a citation in every cell, checked when it is read, and shown on the page.

A table is a file `book/survey/NAME.yml`, a list of records; a cell is a pair of what is said and where.  What could not
be found out says `unknown`, with the place where it was looked for.

Book: selfsup/comparison
"""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOOK = Path(__file__).parent.parent / "book"
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
    """What is said, and the keys of the references that say it."""

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
    found = {}
    for entry in re.split(r"^@", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        key = entry.split("{", 1)[1].split(",", 1)[0].strip()
        authors, year = (re.search(rf"^\s*{field}\s*=\s*{{(.*)}}", entry, re.MULTILINE) for field in ("author", "year"))
        found[key] = f"{_who(authors[1] if authors else key)} {year[1] if year else ''}".strip()
    return found


def _who(authors: str) -> str:
    names = [_plain(name).split(", ")[0].strip() for name in authors.split(" and ")]
    return names[0] if len(names) == 1 else " and ".join(names) if len(names) == 2 else f"{names[0]} et al."


def _plain(name: str) -> str:
    """A name without LaTeX; accents are dropped, the bibliography has them."""
    return re.sub(r"\\[a-zA-Z]+\s*|\\.|[{}]", "", name)


def load(name: str = "methods", book: Path = BOOK) -> list[Record]:
    """The records of `survey/NAME.yml` beside the bibliography of a book.

    Raises FileNotFoundError where there is no such table (the book is not part of the installed package), ValueError
    naming the record and the field for data that break a rule: a field that is missing or too much, a blank cell, a
    number out of range, a word that is none of the choices, a key that the bibliography does not hold, a name twice,
    families that are not together or records of one that are not in order of time.
    """
    import yaml

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
    if raw["family"] not in FAMILIES:
        raise ValueError(f"survey: {name}: family: expected one of {', '.join(FAMILIES)}, got {raw['family']!r}")
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
    if field == "supervision" and value not in SUPERVISION:
        raise ValueError(f"{where}: expected one of {', '.join(SUPERVISION)}, got {value!r}")
    return Cell(value, cite)


@dataclass(frozen=True)
class Page:
    """A piece of HTML that a notebook shows wherever it is the last value of a cell."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


STYLE = """<style>
.survey { overflow-x: auto; max-width: 100%; border: 1px solid var(--pst-color-border, #8886); border-radius: 4px; }
.survey table { border-collapse: collapse; font-size: 0.85rem; line-height: 1.35; margin: 0; }
.survey :is(th, td) { padding: 0.35rem 0.6rem; text-align: left; vertical-align: top; min-width: 5rem; }
.survey .number { text-align: right; font-variant-numeric: tabular-nums; min-width: 3rem; }
.survey td.gives { min-width: 15rem; }
.survey tr > * { border-top: 1px solid var(--pst-color-border, #8886); border-bottom: 0; background: none; }
.survey thead tr > * { border-top: 0; }
.survey th:first-child { position: sticky; left: 0; background: var(--pst-color-background, Canvas); max-width: 8rem; }
.survey tbody th[colspan] { font-weight: 600; color: var(--pst-color-text-muted, GrayText); }
.survey td a { color: inherit; text-underline-offset: 0.2em;
  text-decoration: underline dotted var(--pst-color-border, #8888); }
.survey td a:is(:hover, :focus) { color: var(--pst-color-link, LinkText); text-decoration: underline; }
.survey a.unknown { color: var(--pst-color-text-muted, GrayText); font-style: italic; }
</style>"""


def table(
    *families: str,
    columns: Sequence[str] = tuple(COLUMNS),
    name: str = "methods",
    bibliography: str = "../references.html",
    book: Path = BOOK,
) -> Page:
    """A table of the survey, for the last line of a cell: all families or those named, all columns or those chosen.

    Every entry links to the reference that says so, in the page `bibliography`.  On a narrow screen the table scrolls
    inside its frame and the names stay.  Raises ValueError for unknown families and columns, and what `load` raises.
    """
    for what, given, known in (("family", families, FAMILIES), ("column", columns, COLUMNS)):
        if unknown := [x for x in given if x not in known]:
            raise ValueError(f"{what}: expected some of {', '.join(known)}, got {', '.join(unknown)}")
    names = references(book / "references.bib")
    chosen = [record for record in load(name, book) if not families or record.family in families]
    head = "".join(f'<th scope="col" class="{_kind(column)}">{COLUMNS[column]}</th>' for column in columns)
    bodies = []
    for family in [f for f in FAMILIES if any(record.family == f for record in chosen)]:
        rows = "\n".join(_row(r, columns, names, bibliography) for r in chosen if r.family == family)
        title = f'<tr><th scope="rowgroup" colspan="{len(columns) + 1}">{family.capitalize()}</th></tr>'
        bodies.append(f"<tbody>\n{title}\n{rows}\n</tbody>")
    return Page(
        f'{STYLE}\n<div class="survey" role="region" aria-label="Survey of methods" tabindex="0">\n<table>\n'
        f'<thead><tr><th scope="col">Method</th>{head}</tr></thead>\n' + "\n".join(bodies) + "\n</table>\n</div>"
    )


def _kind(column: str) -> str:
    return "number" if column in NUMBERS else column


def _row(record: Record, columns: Sequence[str], names: Mapping[str, str], bibliography: str) -> str:
    cells = []
    for column in columns:
        cell = record.cells[column]
        says = html.escape("; ".join(names[key] for key in cell.cite))
        link = f'<a href="{html.escape(bibliography)}#ref-{html.escape(cell.cite[0])}" title="{says}"'
        known = "" if cell.value != UNKNOWN else ' class="unknown"'
        cells.append(f'<td class="{_kind(column)}">{link}{known}>{html.escape(f"{cell.value}")}</a></td>')
    return f'<tr><th scope="row">{html.escape(record.name)}</th>{"".join(cells)}</tr>'
