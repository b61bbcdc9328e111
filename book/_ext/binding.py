"""The pages of a built book as one document to print, without what only works on a screen."""

import os
from html import escape
from itertools import count
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

SCREEN = "a.headerlink, button, form, input, label, script, select, summary, .live-bar, [hidden]"  # none is for paper
WORDS = {
    "en": {"contents": "Contents", "without": "Without {}.", "solutions": "solutions", "code": "hidden code"},
    "ko": {"contents": "차례", "without": "{} 없음.", "solutions": "풀이", "code": "숨긴 코드"},
}
PAGE = """<!doctype html>
<html lang="{language}" data-theme="light"><head><meta charset="utf-8"><title>{title}</title>
{head}<style>{sheet}</style></head><body>
<section id="front">{cover}</section>
<nav id="toc"><h1>{contents}</h1>{rows}</nav>
{articles}</body></html>"""
ROW = (
    '<p class="entry"><a href="#{key}"><span class="title">{title}</span></a>'
    '<span class="dots"></span><span class="number" data-chapter="{key}">000</span></p>'
)
HEADING = (
    '@page {key} {{ @top-left {{ content: "{part}" }} @top-right {{ content: "{title}" }} }} #{key} {{ page: {key} }}'
)


class Binding:
    """A built book in a folder, to be bound; `solutions` and `code` say whether it has solutions and hidden code.

    Raises ValueError where there is no built book.
    """

    def __init__(self, folder: Path, solutions: bool = True, code: bool = True) -> None:
        self.folder, self.solutions, self.code = folder.resolve(), solutions, code
        self.root = self.folder / "book" / "index.html"
        if not self.root.is_file():
            raise ValueError(f"{folder}: expected a built book with book/index.html; `make book` builds it")
        self.first = _parsed(self.root)
        self.parts = self._parts()
        self.key = {path: f"p{number}" for path, number in zip(self._paths(), count())}
        self.keys = [*self.key.values()]
        self.titles: dict[str, str] = {}  # of the chapters, by their keys, once there is a document

    def _parts(self) -> list[tuple[str, list[Path]]]:
        """The captions of the parts and their pages, from the contents beside every page."""
        parts = [("", [])]
        for entry in self.first.select("nav.bd-links .caption-text, nav.bd-links a.internal"):
            if entry.name == "span":
                parts.append((entry.get_text().strip(), []))
            else:
                parts[-1][1].append(self._local(self.root, entry["href"])[0])
        return parts

    def _paths(self) -> list[Path]:
        return [path for _, paths in self.parts for path in paths]

    def _local(self, page: Path, address: str) -> tuple[Path | None, str]:
        """The file that an address on a page leads to, or nothing if it leads out, and the place in it."""
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            return None, ""
        path = Path(os.path.normpath(page.parent / unquote(parts.path))) if parts.path else page
        return path, unquote(parts.fragment)

    def document(self, sheet: str) -> str:
        """All as one page of HTML; its style is the book's and a sheet for print."""
        words = WORDS.get(language := self.first.html["lang"], WORDS["en"])
        rows, articles, headings = [], [], []
        for part, paths in self.parts:
            rows.append(f'<p class="part">{escape(part)}</p>' if part else "")
            for path in paths:
                article = self.article(path)
                key = self.key[path]
                title = self.titles[key] = article.find("h1").get_text().strip()
                rows.append(ROW.format(key=key, title=escape(title)))
                headings.append(HEADING.format(key=key, part=_string(part), title=_string(title)))
                articles.append(article)
        self._settle(articles)
        return PAGE.format(
            language=language,
            title=escape(self.title),
            head=self._head(),
            sheet=sheet + "\n".join(headings),
            cover=self._cover(words),
            contents=words["contents"],
            rows="\n".join(rows),
            articles="\n".join(map(str, articles)),
        )

    @property
    def title(self) -> str:
        """The book's title, as it stands in the window of every page."""
        return self.first.title.get_text().rsplit("\N{EM DASH}", 1)[-1].strip()

    def article(self, path: Path) -> Tag:
        """A page's text, with names and addresses that hold in the whole document."""
        article = _parsed(path).select_one("article.bd-article")
        for fold in article.select("details.hide"):
            fold.unwrap() if self.code else fold.decompose()
        for solution in article.select("div.solution"):
            solution["class"].remove("dropdown") if "dropdown" in solution["class"] else None
            if not self.solutions:
                solution.decompose()
        for element in article.select(SCREEN):
            element.decompose()
        for cell in article.select("div.cell"):
            if not cell.find(["pre", "img", "table", "svg"]) and not cell.get_text().strip():
                cell.decompose()
        key = self.key[path]
        for element in article.find_all(id=True):
            element["id"] = f"{key}-{element['id']}"
        article["id"] = key
        for image in article.find_all("img"):
            image["src"] = self._local(path, image["src"])[0].as_uri()
        for link in article.find_all("a", href=True):
            target, place = self._local(path, link["href"])
            if target in self.key:
                link["href"] = f"#{self.key[target]}" + (f"-{place}" if place else "")
            elif target is not None:  # a file beside the book
                link.unwrap()
        return article

    def _settle(self, articles: list[Tag]) -> None:
        """Take the links out that lead to what was left out."""
        there = {element["id"] for article in articles for element in [article, *article.find_all(id=True)]}
        for link in (link for article in articles for link in article.select("a[href^='#']")):
            if link["href"][1:] not in there:
                before, after = link.previous_sibling, link.next_sibling
                if str(before).endswith(" (") and str(after).startswith(")"):  # such as " (solution)"
                    before.replace_with(str(before)[:-2]), after.replace_with(str(after)[1:]), link.decompose()
                else:
                    link.unwrap()

    def _head(self) -> str:
        """The style sheets and the script for mathematics that the pages have."""
        sheets = self.first.select("head link[rel=stylesheet]")
        scripts = [x for x in self.first.select("head script") if "mathjax" in f"{x.get('src')} {x.string}".lower()]
        for element, name in [(x, "href") for x in sheets] + [(x, "src") for x in scripts if x.get("src")]:
            element[name] = self._local(self.root, element[name])[0].as_uri()
        return "\n".join(map(str, [*sheets, *scripts]))

    def _cover(self, words: dict[str, str]) -> str:
        """Title, what it is about, its opening picture, authors and licence, and what was left out."""
        article = self.article(self.root)
        about, picture, logo = article.select_one("h1 ~ p"), article.find("img"), self.first.select_one(".logo__image")
        logo["src"] = self._local(self.root, logo["src"])[0].as_uri()
        author, licence = self.first.select_one(".component-author"), self.first.select_one(".extra_footer")
        left_out = [words[name] for name in ("solutions", "code") if not getattr(self, name)]
        without = words["without"].format(", ".join(left_out)) if left_out else ""
        lines = [
            f'<img class="logo" src="{logo["src"]}" alt="">',
            f'<p class="title">{escape(self.title)}</p>',
            f'<p class="about">{about.get_text().strip()}</p>' if about else "",
            f'<img class="opening" src="{picture["src"]}" alt="{escape(picture["alt"])}">' if picture else "",
            f'<p class="author">{author.get_text().strip()}</p>' if author else "",
            f'<p class="licence">{licence.decode_contents() if licence else ""} {without}</p>',
        ]
        return "\n".join(lines)


def _parsed(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def _string(text: str) -> str:
    """A text as it stands between the quotes of a style sheet."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
