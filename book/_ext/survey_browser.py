"""The survey's large tables: all records, and all published anomaly figures, to be sorted and filtered in the page.

    ```{survey-browser}
    ```
    ```{survey-figures}
    ```

The tables are plain HTML; `_static/survey.js`, which only these pages load, adds the controls.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from jinja2 import Environment, StrictUndefined
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from survey import BIBLIOGRAPHY, BOOK, COLUMNS, TABLES, UNKNOWN, everything, references

TEMPLATE = Path(__file__).with_name("survey_browser.html")
NUMBERS = BOOK / "survey" / "anomaly-numbers.json"
RECORDS = {
    "name": "Method",
    "part": "Part",
    "family": "Family",
    **COLUMNS,
    "figures": "Anomaly AUROC",
    "here": "In gadkit",
}
PARTS = {"methods": "seeing", "words": "words", "objects": "objects", "detectors": "anomalies"}
VIEWS = {
    "what it is": ("name", "part", "family", "year", "supervision", "gives", "builds"),
    "what it costs": ("name", "year", "backbone", "parameters", "size", "data"),
    "may I use it": ("name", "year", "code", "weights", "here"),
    "how good": ("name", "year", "supervision", "backbone", "figures"),
    "all": RECORDS,
}
FIGURES = {
    "method": "Method",
    "setting": "Setting",
    "dataset": "Data set",
    "shots": "Good parts",
    "measure": "Measure",
    "value": "Percent",
    "protocol": "Protocol",
}


class Shown(NamedTuple):
    """A cell on the page: what it says, the reference that says so, and where."""

    value: Any
    href: str = ""
    title: str = ""


def figures(path: Path = NUMBERS) -> list[dict[str, Any]]:
    """The published figures: one row a number."""
    return json.loads(path.read_text(encoding="utf-8"))["rows"]


def figures_of(name: str, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The image AUROCs of one record: of a method by its name or with a "+", of a network as the eyes of a method."""
    plain = name.replace(" ", "")
    return [
        row
        for row in rows
        if row["measure"] == "image AUROC"
        and (row["method"].removesuffix("+") == name.removesuffix("+") or row["method"].endswith(f" on {plain}"))
    ]


def _spoken(row: Mapping[str, Any]) -> str:
    """One figure in few words, such as "MVTec AD, 1 good part: 97.1"."""
    shots = row["shots"]
    given = "all good parts" if shots is None else f"{shots} good part{'' if shots == 1 else 's'}"
    return f"{row['dataset']}, {given}: {row['value']}"


def records_table(bibliography: str = "references.html", book: Path = BOOK) -> str:
    """All records of the survey as HTML, for survey.js to bring to life.  Raises what `everything` raises."""
    names, numbers = references(book / "references.bib"), figures(book / "survey" / NUMBERS.name)
    rows = []
    for table, records in everything(book).items():
        for record in records:
            row = {"name": Shown(record.name), "part": Shown(PARTS[table]), "family": Shown(record.family)}
            for column, cell in record.cells.items():
                title = "; ".join(names[key] for key in cell.cite) + (f": {cell.where}" if cell.where else "")
                row[column] = Shown(cell.value, f"{bibliography}#ref-{cell.cite[0]}", title)
            found = figures_of(record.name, numbers)
            spoken, sources = "; ".join(map(_spoken, found)), "; ".join(names[x["source"]] for x in found)
            href = f"{bibliography}#ref-{found[0]['source']}" if found else ""
            row["figures"] = Shown(spoken or UNKNOWN, href, sources)
            row["here"] = Shown(", ".join(record.here) or "–")
            rows.append(row)
    return _rendered("All records of the survey", RECORDS, rows, ("part", "family", "supervision"), VIEWS)


def figures_table(bibliography: str = "references.html", book: Path = BOOK) -> str:
    """All published anomaly figures as HTML, each with its source and the place where it was read."""
    names = references(book / "references.bib")
    rows = []
    for number in figures(book / "survey" / NUMBERS.name):
        row = {column: Shown(number[column]) for column in FIGURES}
        row["shots"] = Shown("all" if number["shots"] is None else number["shots"])
        title = f"{names[number['source']]}: {number['verified']}"
        row["value"] = Shown(number["value"], f"{bibliography}#ref-{number['source']}", title)
        rows.append(row)
    return _rendered("Published anomaly figures", FIGURES, rows, ("setting", "dataset", "measure"))


def _rendered(
    label: str,
    headings: Mapping[str, str],
    rows: Sequence[Mapping[str, Shown]],
    filters: Sequence[str],
    views: Mapping[str, Sequence[str]] | None = None,
) -> str:
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return page.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        label=label,
        headings=headings,
        rows=rows,
        filters=filters,
        choices={column: dict.fromkeys(row[column].value for row in rows) for column in filters},
        views={view: tuple(shown) for view, shown in (views or {}).items()},
        numbers=("year", "parameters", "size", "value", "shots"),
        unknown=UNKNOWN,
    )


class Browser(SphinxDirective):
    """`{survey-browser}` and `{survey-figures}`: the tables, drawn again when the data have changed."""

    def run(self) -> list[nodes.Node]:
        """The table as a node.  Data that break a rule are an error of the page."""
        for path in (*(BOOK / "survey" / f"{name}.yml" for name in TABLES), NUMBERS, BOOK / "references.bib", TEMPLATE):
            self.env.note_dependency(str(path))
        self.env.metadata[self.env.docname]["survey"] = "browser"
        draw = {"survey-browser": records_table, "survey-figures": figures_table}[self.name]
        try:
            page = draw(self.env.app.builder.get_relative_uri(self.env.docname, BIBLIOGRAPHY))
        except (ValueError, FileNotFoundError) as error:
            raise self.error(str(error)) from error
        return [nodes.raw("", page, format="html")]


def add_script(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Load the script on the pages that have such a table."""
    if app.env.metadata.get(page, {}).get("survey") == "browser":
        app.add_js_file("survey.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("survey-browser", Browser)
    app.add_directive("survey-figures", Browser)
    app.connect("html-page-context", add_script)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
