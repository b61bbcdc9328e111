"""Look at every page of a built book as a reader's browser shows it: light, dark, and as narrow as a telephone.

    python book/_ext/crawl.py _build/html
    python book/_ext/crawl.py _build/html --pages book/index ko/book/index

Each fault is a line with its page, its views and its element: a request that leaves the book, an error on the console,
a link or an anchor that leads nowhere, an equation that is not typeset, a picture without alternative text or caption,
a page wider than its window, letters whose contrast is below WCAG's level AA.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from chromium import Chromium

SCRIPT = Path(__file__).with_suffix(".js")
VIEWS = {"light": (1280, False), "dark": (1280, True), "420 px": (420, False)}  # width in pixels, dark
OWN = ("file:", "data:", "blob:")  # addresses that need no network
OTHERS = {"_static", "_sources", "_images", "notebooks"}  # folders that hold no page
FORWARD = re.compile(r"<meta[^>]+http-equiv=.?refresh", re.IGNORECASE)
LEAD = ("https:", "http:", "mailto:")  # links that lead out of the book, which nobody follows here


class Fault(NamedTuple):
    """What is wrong, in which element of which page, and in which views."""

    page: str
    views: tuple[str, ...]
    kind: str
    element: str
    told: str

    def __str__(self) -> str:
        return " ".join(f"{self.page} [{', '.join(self.views)}] {self.kind}: {self.element}: {self.told}".split())


class Anchors(HTMLParser):
    """The places on a page that a link can lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the ids, and the names of anchors."""
        self.names |= {value for key, value in attrs if value and (key == "id" or (tag == "a" and key == "name"))}


class Book:
    """A built book in a folder.  Raises ValueError where there is none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        if not (self.folder / "index.html").is_file():
            raise ValueError(f"{folder}: expected a built book with an index.html; `make book` builds it")
        self._anchors: dict[Path, set[str]] = {}

    def pages(self) -> list[str]:
        """The names of all pages, such as "book/index", without static files and pages that only lead to another."""
        found = (path.relative_to(self.folder).with_suffix("") for path in sorted(self.folder.rglob("*.html")))
        pages = (path.as_posix() for path in found if not OTHERS & {*path.parts})
        return [page for page in pages if not FORWARD.search(self.file(page).read_text(encoding="utf-8"))]

    def file(self, page: str) -> Path:
        """The file of a page.  Raises ValueError where there is none."""
        path = self.folder / f"{page}.html"
        if not path.is_file():
            raise ValueError(f"{page}: expected a page of {self.folder}, such as book/index")
        return path

    def lost(self, written: str, address: str) -> str:
        """Why a link leads nowhere; empty if it leads somewhere."""
        parts = urlsplit(address)
        if written.startswith(LEAD):
            return ""
        if parts.scheme != "file":
            return f"expected a page of the book or an address, got {written!r}"
        path = Path(unquote(parts.path))
        if not path.is_relative_to(self.folder):
            return f"{written} leads out of the book's folder"
        if not path.is_file():
            return f"{written} leads to no file"
        if path.suffix == ".html" and path not in self._anchors:
            self._anchors[path] = Anchors(path.read_text(encoding="utf-8")).names
        anchor = unquote(parts.fragment)
        return "" if not anchor or anchor in self._anchors.get(path, ()) else f"{written}: its page has no such anchor"


def look(page: Chromium, book: Book, view: str) -> Iterator[tuple[str, str, str]]:
    """The faults of the open page in one view: kind, element, what is wrong."""
    page.look(*VIEWS[view])
    found = page.run(SCRIPT.read_text(encoding="utf-8"))
    yield from map(tuple, found["faults"])
    for written, address, element in found["links"]:
        if why := book.lost(written, address):
            yield "link", element, why
    yield from (("request", "the page", f"asks for {x}") for x in page.requests if not x.startswith(OWN))
    yield from (("console", "the page", x) for x in page.errors)
    page.errors.clear(), page.requests.clear()


def crawl(book: Book, names: Iterable[str], views: Sequence[str] = tuple(VIEWS)) -> Iterator[Fault]:
    """The faults of some pages, one after the other; what is the same in several views is one fault.

    Raises RuntimeError where there is no Chromium.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, Chromium(Path(profile)) as page:
        for name in names:
            found: dict[tuple[str, str, str], list[str]] = {}
            page.look(*VIEWS[views[0]])
            page.open(book.file(name))
            for view in views:
                for fault in dict.fromkeys(look(page, book, view)):
                    found.setdefault(fault, []).append(view)
            for fault, where in found.items():
                yield Fault(name, tuple(where), *fault)


def main(arguments: Sequence[str] | None = None) -> int:
    """Crawl a book and print its faults; the status is 1 if there are any, 2 if the book or Chromium is missing."""
    parser = argparse.ArgumentParser(description="Look at a built book's pages in Chromium, and print their faults.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the built book, such as _build/html")
    parser.add_argument("--pages", nargs="+", metavar="PAGE", help="such as book/index (default: all)")
    given = parser.parse_args(arguments)
    count = 0
    try:
        book = Book(given.folder)
        names = given.pages or book.pages()
        for fault in crawl(book, names):
            count += 1
            sys.stdout.write(f"{fault}\n")
            sys.stdout.flush()
    except (ValueError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{count} faults on {len(names)} pages, each in {len(VIEWS)} views\n")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
