"""The book's Markdown as any Jupyter reads it: directives and roles become headings, pictures, numbers and links.

`Plain` turns the text of one page, piece by piece.  Of the other pages it asks a `Book` (book/_ext/shelf.py).
"""

import re
from collections.abc import Callable
from pathlib import Path

from shelf import Book, clean

FENCE = re.compile(r"^(`{3,}|:{3,})\{([\w:-]+)\}[ ]*([^\n]*)\n(.*?)^\1[ ]*$", re.M | re.S)
OPTION = re.compile(r":([\w-]+):[ ]*(.*)\n?")
LITERAL = re.compile(r"^(`{3,}|~{3,})[^{`\n]*\n.*?^\1[ ]*$", re.M | re.S)
TOKEN = re.compile(
    r"\{(?P<role>[\w:-]+)\}`(?P<body>[^`]+)`"
    r"|(?P<ticks>`+)(?!`)(?:(?!\n\n).)+?(?<!`)(?P=ticks)(?!`)"
    r"|\$\$(?P<display>.+?)\$\$(?:[ ]*\((?P<label>[\w:-]+)\))?"
    r"|!\[(?P<alt>[^\]]*)\]\((?P<picture>[^)\s]+)\)"
    r"|\[(?P<text>[^\]]*)\]\((?P<target>(?!https?:|mailto:|attachment:)[^)\s]+)\)",
    re.S,
)
SHOWN_ON_THE_PAGE = {  # what the build draws, sorts or runs in the browser
    *("bibliography", "exercise-index", "live", "survey", "survey-browser", "survey-figures"),
    *("survey-timeline", "survey-tree"),
}
BOXES = ("admonition", "attention", "caution", "hint", "important", "note", "seealso", "tip", "warning")
FRAMES = ("grid", "grid-item", "grid-item-card", "card", "tab-set", "tab-item", "margin", "sidebar")  # only layout
SOLUTIONS = ("solution", "solution-start", "solution-end")
MIMES = {"svg": "image/svg+xml", "png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}


class Plain:
    """The text of one page for one edition; `pictures` are the files that the last text shows, by attachment name."""

    def __init__(self, book: Book, page: str, edition: str) -> None:
        self.book, self.page, self.edition = book, page, edition
        self.folder = (book.root / page).parent
        self.pictures: dict[str, Path] = {}
        self.cited: list[str] = []

    def text(self, source: str) -> str:
        """Markdown without MyST's own marks.  Raises ValueError for a directive or role that is not known here."""
        out, end = [], 0
        for block in blocks(source):
            out += [self._prose(source[end : block.start()]), self._block(block)]
            end = block.end()
        joined = "".join([*out, self._prose(source[end:])])
        return re.sub(r"\n{3,}", "\n\n", joined).strip()

    def _block(self, block: re.Match) -> str:
        if block.re is LITERAL:
            return block[0]
        name, argument, body = block[2], block[3], block[4]
        options = {}
        while option := OPTION.match(body):
            options[option[1]], body = option[2], body[option.end() :]
        if name in SHOWN_ON_THE_PAGE:
            return f"*What stands here is drawn by the book's build: see {self._page(self.page, published=True)}.*"
        if name in FRAMES:
            return "\n\n".join(filter(None, [f"**{clean(argument)}**" * name.endswith("card"), self.text(body)]))
        turn: dict[str, Callable[[str, dict, str], str]] = {
            "figure": self._figure,
            "image": self._figure,
            "math": lambda argument, options, body: self._display(body.strip(), options.get("label")),
            "exercise": self._exercise,
            "glossary": lambda argument, options, body: self.text(
                re.sub(r"^(\S.*)\n[ :]+", r"**\1**: ", body, flags=re.M)
            ),
            **dict.fromkeys(SOLUTIONS, self._solution),
            **dict.fromkeys(BOXES, lambda argument, options, body: self._box(argument or name.capitalize(), body)),
        }
        if name not in turn:
            raise ValueError(f"{self.page}: the editions do not know the directive {name!r}")
        return turn[name](argument, options, body)

    def _figure(self, argument: str, options: dict, body: str) -> str:
        picture = self._picture(options.get("alt", ""), argument)
        return f"{picture}\n\n{self.caption(body, options.get('name'))}" if body.strip() else picture

    def caption(self, text: str, label: str | None) -> str:
        """A caption under a figure, with the figure's number."""
        number = f"**Fig. {self.book.labels[label].number}.** " if label in self.book.labels else ""
        return number + self._prose(text.strip())

    def _exercise(self, argument: str, options: dict, body: str) -> str:
        where = self.book.labels[options["label"]]
        return f"**{where.words}.** {clean(argument)}\n\n{self.text(body)}"

    def _solution(self, argument: str, options: dict, body: str) -> str:
        raise ValueError(f"{self.page}: a solution inside of something else: {argument}")

    def _box(self, title: str, body: str) -> str:
        lines = [f"**{self._prose(title)}**", "", *self.text(body).splitlines()]
        return "\n".join(f"> {line}".rstrip() for line in lines)

    def _display(self, formula: str, label: str | None) -> str:
        tag = rf" \tag{{{self.book.labels[label].number}}}" if label in self.book.labels else ""
        return f"$$\n{formula}{tag}\n$$"

    def _prose(self, text: str) -> str:
        text = re.sub(r"^\([\w-]+\)=\n|^\{[.#][^}\n]*\}\n|^\+\+\+.*\n", "", text, flags=re.M)
        return TOKEN.sub(self._token, text)

    def _token(self, found: re.Match) -> str:
        if found["ticks"]:
            return found[0]
        if found["role"]:
            return self._role(found["role"], " ".join(found["body"].split()))
        if found["display"]:
            return self._display(found["display"].strip(), found["label"])
        if found["picture"]:
            return self._picture(found["alt"], found["picture"])
        return self._link(found["text"], found["target"])

    def _picture(self, alt: str, target: str) -> str:
        path = (self.folder / target).resolve()
        if not path.is_file() or path.suffix[1:] not in MIMES:
            raise ValueError(f"{self.page}: no picture {target}")
        self.pictures[path.name] = path
        return f"![{alt}](attachment:{path.name})"

    def _role(self, role: str, body: str) -> str:
        text, label = re.fullmatch(r"(.*?)\s*<(.+)>", body).groups() if "<" in body and role != "math" else ("", body)
        if role in ("cite", "cite:p", "cite:t"):
            keys = [key.strip() for key in body.split(",")]
            self.cited += [key for key in keys if key not in self.cited]
            cites = [self.book.cite(key, "{} ({})" if role == "cite:t" else "{}, {}") for key in keys]
            return ", ".join(cites) if role == "cite:t" else f"({'; '.join(cites)})"
        if role == "math":
            return f"${body}$"
        if role in ("eq", "numref", "ref"):
            where = self.book.find(label, self.page)
            words = f"({where.number})" if role == "eq" else text.replace("%s", where.number) or where.words
            return words if where.page == self.page else f"{words} of {self._page(where.page)}"
        if role == "doc":
            return self._link(text, label + ".md")
        if role == "took":
            return self.book.budget(body)
        if role == "glue:text":
            return "*(computed above)*"
        if role in ("term", "abbr", "sub", "sup", "kbd"):
            return text or body
        raise ValueError(f"{self.page}: the editions do not know the role {role!r}")

    def _link(self, text: str, target: str) -> str:
        address, _, anchor = target.partition("#")
        if address.endswith(".md"):
            path = (self.folder / address).resolve().relative_to(self.book.root.resolve())
            return self._page(str(path.with_suffix("")), text)
        label = anchor or address
        if label in self.book.labels:
            return text or self.book.labels[label].words
        return text or f"[{label}](#{label})"

    def _page(self, page: str, text: str = "", published: bool = False) -> str:
        """A link to a page: the published one where its address is known, else its notebook beside this one."""
        if page not in self.book.titles:
            raise ValueError(f"{self.page}: a link to {page!r}, which is not in the table of contents")
        words = text or self.book.titles[page]
        address = self.book.address(page, self.page, published)
        return f"[{words}]({address})" if address else f"*{words}*"


def blocks(text: str) -> list[re.Match]:
    """Directives and literal blocks of a text, the outermost ones, in order."""
    found, end = [], 0
    while True:
        firsts = [match for rule in (FENCE, LITERAL) if (match := rule.search(text, end))]
        if not firsts:
            return found
        found.append(min(firsts, key=re.Match.start))
        end = found[-1].end()
