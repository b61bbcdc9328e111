"""The reference of the package's public names, made from its sources when the book is built.

    ```{api} gadkit.nn gadkit.losses
    ```

Each module of these rooms gets a section: what it is for, the pages that explain it (the line `Book:` of its
docstring), and its names with their arguments, types and descriptions.  A name of ours in a signature, and one between
backticks in a description, is a link.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from api_source import Entry, Package

FOOT = re.compile(r"^(Book|Source): (.+(?:\n(?!Book: |Source: ).+)*)", re.MULTILINE)
TERMS = re.compile(r"^`[^`]+`(, `[^`]+`)*  +\S")  # the first line of a list of arguments or fields
SPAN = re.compile(r"`([^`]+)`|<?(https?://[^\s<>]+[^\s<>.,;:)])>?")
WORD = re.compile(r"[A-Za-z_][\w.]*")


class Prose:
    """The descriptions of one place: docstrings to nodes, with links to the names that they mention."""

    def __init__(self, package: Package, module: str, owner: str = "", arguments: tuple[str, ...] = ()) -> None:
        self.package, self.module, self.owner, self.arguments = package, module, owner, arguments

    def blocks(self, text: str) -> Iterator[nodes.Node]:
        """Paragraphs, lists of terms, lists, tables and code, one after the other."""
        for block in _blocks(text):
            lines = block.split("\n")
            if lines[0].startswith("    "):
                yield _code("\n".join(line[4:] for line in lines))
            elif TERMS.match(block):
                yield self._terms(lines)
            elif lines[0].startswith("|"):
                yield self._table(lines)
            elif lines[0].startswith("- "):
                items = re.split(r"^- ", block, flags=re.MULTILINE)[1:]
                yield nodes.bullet_list("", *(nodes.list_item("", self.line(item)) for item in items))
            else:
                yield self.line(block)

    def line(self, text: str) -> nodes.paragraph:
        """A paragraph."""
        return nodes.paragraph("", "", *self.spans(re.sub(r"\s+", " ", text).strip()))

    def spans(self, text: str) -> Iterator[nodes.Node]:
        """Words, code and addresses."""
        place = 0
        for match in SPAN.finditer(text):
            yield nodes.Text(text[place : match.start()])
            place = match.end()
            yield nodes.reference("", match[2], refuri=match[2]) if match[2] else self.code(match[1])
        yield nodes.Text(text[place:])

    def code(self, words: str) -> nodes.Node:
        """Code in a line: a link, if it is a name of ours."""
        literal = nodes.literal("", words)
        name = words.removesuffix("()")
        if not WORD.fullmatch(name) or name in self.arguments:
            return literal
        full = self.package.find(name, self.module, self.owner)
        return _reference(full, literal) if full and full not in (self.owner, self.module) else literal

    def _terms(self, lines: list[str]) -> nodes.definition_list:
        found = nodes.definition_list(classes=["simple"])
        for item in re.split(r"\n(?=`)", "\n".join(lines)):
            names, _, text = re.sub(r"\s*\n\s+", " ", item).partition("  ")
            term = nodes.term("", "", *self.spans(names))
            found += nodes.definition_list_item("", term, nodes.definition("", self.line(text)))
        return found

    def _table(self, lines: list[str]) -> nodes.table:
        rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if not line.startswith("| -")]
        group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in rows[0]), cols=len(rows[0]))
        made = [nodes.row("", *(nodes.entry("", self.line(cell)) for cell in row)) for row in rows]
        group += [nodes.thead("", made[0]), nodes.tbody("", *made[1:])]
        return nodes.table("", group)


def _blocks(text: str) -> list[str]:
    """What blank lines part; code that they part stays together, and a list of terms begins a block of its own."""
    found: list[str] = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.split("\n")
        start = next((i for i, line in enumerate(lines) if TERMS.match(line)), 0)
        for part in filter(None, ("\n".join(lines[:start]), "\n".join(lines[start:]))):
            if found and part.startswith("    ") and found[-1].startswith("    "):
                found[-1] += f"\n\n{part}"
            else:
                found.append(part)
    return found


def _code(text: str) -> nodes.Element:
    return nodes.literal_block(text, text, language="pycon" if text.startswith(">>>") else "none")


def _reference(full: str, inside: nodes.Node) -> addnodes.pending_xref:
    return addnodes.pending_xref("", inside, refdomain="py", reftype="obj", reftarget=full, refexplicit=True)


class Api(SphinxDirective):
    """`{api}`: the modules of some rooms, each a section."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """The sections.  A room that does not exist is an error."""
        package = read(str(self.env.srcdir))
        found = []
        for room in self.arguments[0].split():
            if not (modules := package.below(room)):
                raise self.error(f"api: expected modules of the package, got {room}")
            found += [self._module(package, package.module(name)) for name in modules]
        return found

    def _module(self, package: Package, module: Entry) -> nodes.section:
        self.env.note_dependency(str(package.sources.files[module.name]))
        prose, anchor = Prose(package, module.name), f"module-{module.name}"
        section = nodes.section(ids=[anchor], names=[])
        section += nodes.title("", "", nodes.literal("", module.name))
        domain = self.env.get_domain("py")
        domain.note_module(module.name, anchor, "", "", False)
        door = module.name.rpartition(".")[0]
        if not door or module.name not in {entry.name for entry in package.module(door).children}:
            domain.note_object(module.name, "module", anchor, location=section)  # else a function has that name
        section += prose.blocks(FOOT.sub("", module.text))
        section += self._foot(module, prose)
        if borrowed := package.borrowed(module.name):
            line = nodes.paragraph("", "Names: ", classes=["api-names"])
            for short, full in borrowed.items():
                line += [_reference(full, nodes.literal("", short)), nodes.Text(", ")]
            line[-1] = nodes.Text(".")
            section += line
        self.env.ref_context["py:module"] = module.name
        for entry in module.children:
            section += self._described(package, module.name, entry, "")
        for key in ("py:module", "py:class"):
            self.env.ref_context.pop(key, None)
        return section

    def _foot(self, module: Entry, prose: Prose) -> Iterator[nodes.Node]:
        """Where a module's contents come from, and the pages that explain it."""
        found = dict(FOOT.findall(module.text))
        if "Source" in found:
            yield prose.line(f"Source: {found['Source']}")
        if "Book" in found:
            line = nodes.paragraph("", "Explained in ", classes=["api-book"])
            for page in found["Book"].rstrip(".").split(", "):
                place = {"refdomain": "std", "reftype": "doc", "reftarget": f"/book/{page}", "refexplicit": False}
                line += [addnodes.pending_xref("", nodes.inline("", page), refdoc=self.env.docname, **place)]
                line += nodes.Text(", ")
            line[-1] = nodes.Text(".")
            yield line

    def _described(self, package: Package, module: str, entry: Entry, owner: str) -> list[nodes.Node]:
        """A name as the Python domain writes it, its description, and what is in it."""
        self.env.ref_context["py:class"] = owner[len(module) + 1 :]  # left out of the signature
        made = self._declare(module, entry)
        described = made[-1]
        self._link(package, module, owner, described[0])
        inner = entry.name if entry.kind == "class" else owner
        content = described[-1]
        content += Prose(package, module, inner, entry.arguments).blocks(entry.text)
        for child in entry.children:
            content += self._described(package, module, child, entry.name)
        return made

    def _declare(self, module: str, entry: Entry) -> list[nodes.Node]:
        """The signature."""
        options: dict[str, Any] = {mark: None for mark in entry.marks if mark in ("classmethod", "staticmethod")}
        options |= {key: value for key in ("type", "value") if (value := getattr(entry, key))}
        signature = entry.name[len(module) + 1 :] + entry.signature * (entry.kind != "property")
        kind = entry.kind.replace("class", "exception") if entry.name.endswith("Error") else entry.kind
        directive = self.env.get_domain("py").directive(kind)
        place = (self.lineno, self.content_offset, self.block_text, self.state, self.state_machine)
        return directive(f"py:{kind}", [signature], options, StringList(), *place).run()

    def _link(self, package: Package, module: str, owner: str, signature: nodes.Element) -> None:
        """Leave links to names of ours in a signature, and no others."""
        for link in list(signature.findall(addnodes.pending_xref)):
            full = package.find(link["reftarget"], module, owner)
            link.replace_self([_reference(full, child) for child in link.children] if full else link.children)


@lru_cache(1)
def read(root: str) -> Package:
    """The package in the book's repository, read once for all pages."""
    return Package(Path(root))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("api", Api)
    app.connect("builder-inited", lambda app: read.cache_clear())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
