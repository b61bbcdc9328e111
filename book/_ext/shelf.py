"""What the pages of the book know of one another, read from their sources: titles, numbers, labels, references.

Numbers are those of the published pages: chapters count through all parts, and a figure, an equation or an exercise
has the number of its chapter before its own.
"""

import os
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jupytext
import nbformat
import yaml
from pybtex.database import Entry, parse_file
from pybtex.richtext import Text

KINDS = {"figure": "Fig.", "equation": "Equation", "exercise": "Exercise"}
BLOCK = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<name>figure|math|exercise)\}(?P<body>.*?)^(?P=fence)[ ]*$"
    r"|\$\$.+?\$\$[ ]*\((?P<equation>[\w:-]+)\)"
    r"|^(?P<code>`{3,}|~{3,})[^`\n]*\n.*?^(?P=code)[ ]*$",
    re.M | re.S,
)
LABEL = re.compile(r"^:(?:label|name): (\S+)$", re.M)
TARGET = re.compile(r"^\(([\w-]+)\)=\n+#+ (.+)$", re.M)


def clean(title: str) -> str:
    """A title without roles' and links' marks."""
    return re.sub(r"\{[\w:-]+\}`([^`]*)`|\[([^\]]+)\]\([^)]*\)", r"\1\2", title).strip()


@dataclass(frozen=True)
class Label:
    """A place that others refer to: its page, its number (empty for a section) and its words, such as `Fig. 3.1`."""

    page: str
    number: str
    words: str


class Book:
    """All pages, in order; `repository` and `site` are public addresses, or empty."""

    def __init__(self, root: Path, repository: str = "", site: str = "") -> None:
        self.root, self.repository, self.site = root, repository.rstrip("/"), site.rstrip("/")
        toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
        parts = toc.get("parts", [toc])
        self.numbers: dict[str, int] = {}
        self.pages = [toc["root"]]
        for part in parts:
            for chapter in part["chapters"]:
                self.pages += [chapter["file"], *(section["file"] for section in chapter.get("sections", []))]
                if part.get("numbered"):
                    self.numbers[chapter["file"]] = len(self.numbers) + 1
        self.sources = {page: (root / f"{page}.md").read_text(encoding="utf-8") for page in self.pages}
        self.titles = {page: clean(re.search(r"^# (.+)$", text, re.M)[1]) for page, text in self.sources.items()}
        self._read: dict[str, nbformat.NotebookNode] = {}

    def read(self, page: str) -> nbformat.NotebookNode:
        """The cells of a page, as they stand in its source."""
        if page not in self._read:
            self._read[page] = jupytext.reads(self.sources[page], fmt="md:myst")
        return self._read[page]

    @cached_property
    def notebooks(self) -> list[str]:
        """The pages that run something."""
        return [page for page in self.pages if "{code-cell}" in self.sources[page]]

    @cached_property
    def labels(self) -> dict[str, Label]:
        """Everything that has a name."""
        return {name: label for page in self.pages for name, label in self._labels(page)}

    def _labels(self, page: str) -> list[tuple[str, Label]]:
        counts: Counter[str] = Counter()
        found = []

        def add(kind: str, name: str | None) -> None:
            counts[kind] += 1
            number = ".".join(map(str, filter(None, [self.numbers.get(page), counts[kind]])))
            if name:
                found.append((name, Label(page, number, f"{KINDS[kind]} {number}")))

        cells = self.read(page).cells if page in self.notebooks else [_whole(self.sources[page])]
        for cell in cells:
            if cell.cell_type == "code":
                figure = cell.metadata.get("mystnb", {}).get("figure", {})
                if "caption" in figure:
                    add("figure", figure.get("name"))
                continue
            found += [(match[1], Label(page, "", clean(match[2]))) for match in TARGET.finditer(cell.source)]
            for block in BLOCK.finditer(cell.source):
                label = LABEL.search(block["body"] or "")
                if block["equation"]:
                    add("equation", block["equation"])
                elif block["name"] in ("figure", "exercise"):
                    add(block["name"], label and label[1])
                elif block["name"] == "math" and label:
                    add("equation", label[1])
        return found

    def find(self, label: str, page: str) -> Label:
        """A label.  Raises ValueError, with the page that asks, for one that is nowhere."""
        if label not in self.labels:
            raise ValueError(f"{page}: no page has the label {label!r}")
        return self.labels[label]

    def address(self, page: str, here: str, published: bool = False) -> str:
        """Where a link to a page leads: to the site if it has an address, else to the notebook beside `here`'s."""
        if self.site:
            return f"{self.site}/{page}.html"
        return (
            "" if published or page not in self.notebooks else os.path.relpath(f"{page}.ipynb", os.path.dirname(here))
        )

    def budget(self, page: str) -> str:
        """What a page may take, in words, in the place of what it took."""
        found = re.search(r"^budget: ([^,\n]+)", self.sources[page], re.M)
        return f"at most {found[1]}" if found and page in self.notebooks else "no code"

    @cached_property
    def references(self) -> dict[str, Entry]:
        """The bibliography by key."""
        return parse_file(str(self.root / "book" / "references.bib")).entries

    def cite(self, key: str, form: str) -> str:
        """Authors and year of a reference, as the published page writes them."""
        if key not in self.references:
            raise ValueError(f"the bibliography has no {key!r}")
        entry = self.references[key]
        people = entry.persons.get("author") or entry.persons.get("editor") or []
        names = [_plain(" ".join([*person.prelast_names, *person.last_names])) for person in people]
        who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
        return form.format(who or _plain(entry.fields.get("key", key)), entry.fields.get("year", "n.d."))

    def reference(self, key: str) -> str:
        """A line for the list of references."""
        fields = self.references[key].fields
        where = next(
            (fields[name] for name in ("journal", "booktitle", "publisher", "howpublished") if name in fields), ""
        )
        address = fields.get("url") or (f"https://doi.org/{fields['doi']}" if "doi" in fields else "")
        title = _plain(fields["title"])
        pieces = [self.cite(key, "{} ({})"), f"[{title}]({address})" if address else title, _plain(where)]
        return f"- {'. '.join(filter(None, pieces))}."


def _plain(text: str) -> str:
    return str(Text.from_latex(text)).strip()


def _whole(source: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_markdown_cell(source)
