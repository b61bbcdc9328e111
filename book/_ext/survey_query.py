"""Questions to the survey, so that prose counts and names what the data hold.

    {counted}`detectors: supervision = training-free, from CLIP`    how many
    {named}`words: size > 300`                                      which
    {stated}`UniADet: parameters`                                   what a cell says

A question names a table, several joined by "+", or "all"; after a colon follow conditions, all of which must hold:
`FIELD = VALUE`, `!=`, `~` (contains), `<`, `>`, `from NAME` (builds on it, at once or through others), and `here` (the
package has it).  `{counted}` also knows "cells", "cells unknown" and "cells placed".
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst.states import Inliner
from sphinx.application import Sphinx

from gadkit.checks import one_of
from survey import BOOK, COLUMNS, TABLES, UNKNOWN, Cell, Record, ancestors, everything

COMPARISON = re.compile(r"(\w+)\s*(!=|=|~|<|>)\s*(.+)")
CELLS: dict[str, Callable[[Cell], bool]] = {
    "cells": lambda cell: True,
    "cells unknown": lambda cell: cell.value == UNKNOWN,
    "cells placed": lambda cell: bool(cell.where),
}


def select(question: str, book: Path = BOOK) -> list[Record]:
    """The records that a question asks for, in their order.

    Raises ValueError for a table, a field or a name that the survey does not have, and for what is no condition.
    """
    tables = everything(book)
    known = {record.name: record for table in tables.values() for record in table}
    where, _, conditions = question.partition(":")
    names = [one_of("survey: table", name.strip(), ("all", *TABLES)) for name in where.split("+")]
    records = [record for name in (TABLES if "all" in names else names) for record in tables[name]]
    for condition in filter(None, map(str.strip, conditions.split(","))):
        records = [record for record in records if _holds(condition, record, known)]
    return records


def _holds(condition: str, record: Record, known: Mapping[str, Record]) -> bool:
    if condition == "here":
        return bool(record.here)
    if condition.startswith("from "):
        return one_of("survey: name", condition[5:].strip(), known) in ancestors(record.name, known)
    if not (match := COMPARISON.fullmatch(condition)):
        raise ValueError(f"survey: expected a condition such as `year > 2024`, got {condition!r}")
    field, sign, wanted = match.groups()
    one_of("survey: field", field, ("family", *COLUMNS))
    value = record.family if field == "family" else record.cells[field].value
    if sign in "<>":
        if isinstance(value, str):  # an unknown number is neither more nor less
            return False
        return value < float(wanted) if sign == "<" else value > float(wanted)
    if sign == "~":
        return wanted in str(value)
    return (str(value) == wanted) == (sign == "=")


def count(question: str, book: Path = BOOK) -> int:
    """How many records, or cells, a question asks for.  Raises what `select` raises."""
    if question in CELLS:
        cells = [cell for table in everything(book).values() for record in table for cell in record.cells.values()]
        return sum(map(CELLS[question], cells))
    return len(select(question, book))


def names(question: str, book: Path = BOOK) -> str:
    """The names of the records that a question asks for, as words.  Raises what `select` raises."""
    found = [record.name for record in select(question, book)]
    return " and ".join(filter(None, [", ".join(found[:-1]), *found[-1:]])) or "none"


def statement(question: str, book: Path = BOOK) -> str | int | float:
    """What the cell of a record says: "NAME: FIELD".  Raises ValueError for a name or a field that there is not."""
    name, _, field = question.rpartition(":")
    known = {record.name: record for table in everything(book).values() for record in table}
    record = known[one_of("survey: name", name.strip(), known)]
    return record.cells[one_of("survey: field", field.strip(), COLUMNS)].value


def _role(answer: Callable[[str], Any]) -> Callable[..., tuple[list, list]]:
    def role(name: str, raw: str, text: str, line: int, inliner: Inliner, *_: Any) -> tuple[list, list]:
        for path in sorted((BOOK / "survey").glob("*.yml")):
            inliner.document.settings.env.note_dependency(str(path))
        try:
            return [nodes.inline("", str(answer(text)), classes=["surveyed"])], []
        except ValueError as error:
            message = inliner.reporter.error(str(error), line=line)
            return [inliner.problematic(raw, raw, message)], [message]

    return role


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_role("counted", _role(count))
    app.add_role("named", _role(names))
    app.add_role("stated", _role(statement))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
