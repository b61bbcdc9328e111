"""Editions of the book in several languages: the English one at the root, each other in a folder of its name.

- A switch in the header of every page leads to the same page in the other language; `hreflang` tells search engines.
- A page of a translation says how much of it is translated, where that is not all.
- Search in Korean finds words inside of words: Korean adds particles to nouns, and the text is indexed by pairs of
  syllables.
"""

import re
from pathlib import Path
from typing import Any, ClassVar

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po
from docutils import nodes
from sphinx.addnodes import toctree
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.search import SearchLanguage, languages

NAMES = {"en": "English", "ko": "한국어"}
PARTLY = {"ko": "이 페이지는 {share:.0%}만 번역되었습니다. 나머지는 영어 원문입니다."}
NOT_YET = {"ko": "이 페이지는 아직 번역되지 않았습니다. 아래는 영어 원문입니다."}


class Korean(SearchLanguage):
    """Search by pairs of syllables: "결함을" and "결함이" are both found by "결함"."""

    lang = "ko"
    language_name = "Korean"
    stopwords: ClassVar[set[str]] = set()
    js_splitter_code = r"""
function splitQuery(query) {
  const out = [];
  for (const word of query.match(/[가-힣]+|[\p{L}\p{N}_]+/gu) || []) {
    if (!/[가-힣]/.test(word) || word.length < 3) { out.push(word); continue; }
    for (let i = 0; i + 2 <= word.length; i++) out.push(word.slice(i, i + 2));
  }
  return out;
}
"""

    def split(self, text: str) -> list[str]:
        """The words of a text, those in Hangul as overlapping pairs of syllables."""
        found = []
        for word in re.findall(r"[가-힣]+|\w+", text):
            pairs = len(word) > 2 and "가" <= word[0] <= "힣"
            found += [word[i : i + 2] for i in range(len(word) - 1)] if pairs else [word]
        return found

    def word_filter(self, word: str) -> bool:
        """Whether a word is worth indexing."""
        return len(word) > 1


def edition(config: Config) -> str:
    """The language that is being built."""
    return config.language if config.language in NAMES else "en"


def choose_search(app: Sphinx, config: Config) -> None:
    """Give a Korean edition its search."""
    languages["ko"] = Korean
    if edition(config) == "ko":
        config.html_search_language = "ko"


def address(page: str, here: str, there: str) -> str:
    """The relative address of a page's twin in another edition."""
    up = "../" * (page.count("/") + (here != "en"))
    return up + ("" if there == "en" else f"{there}/") + f"{page}.html"


def link(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Put the switch and the alternates of a page into its context."""
    here = edition(app.config)
    context["editions"] = [
        {"language": code, "name": name, "address": address(page, here, code), "here": code == here}
        for code, name in NAMES.items()
    ]
    if doctree is not None:  # a page with a source, so with a twin
        links = (
            f'<link rel="alternate" hreflang="{e["language"]}" href="{e["address"]}" />' for e in context["editions"]
        )
        context["metatags"] = context.get("metatags", "") + "\n".join(links)


def share_sources(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Lead the button for a page's source to the English edition: sources are English, and lie there only."""
    if edition(app.config) != "en":
        up = "../" * (page.count("/") + 1)
        for group in context.get("header_buttons", ()):
            for button in group.get("buttons", ()):
                if button.get("label") == "download-source-button":
                    button["url"] = f"{up}_sources/{context['sourcename']}"


def catalogue(app: Sphinx, page: str) -> Catalog:
    """The translation of a page; empty if there is none."""
    for folder in app.config.locale_dirs:
        path = Path(app.srcdir, folder, edition(app.config), "LC_MESSAGES", f"{page}.po")
        if path.exists():
            with path.open("rb") as file:
                return read_po(file)
    return Catalog()


def translate_parts(app: Sphinx, doctree: nodes.document) -> None:
    """Translate the captions of the contents: they are put into the page after Sphinx has translated it."""
    if edition(app.config) != "en" and (parts := [*doctree.findall(toctree)]):
        catalog = catalogue(app, app.env.docname)
        for part in parts:
            message = part.get("caption") and catalog.get(part["caption"])
            if message and message.string:
                part["caption"] = message.string


def translate_prompts(app: Sphinx, doctree: nodes.document) -> None:
    """Translate what a folded cell is called where it has words of its own: it stands in the cell's metadata."""
    if edition(app.config) != "en":
        catalog = catalogue(app, app.env.docname)
        for cell in doctree.findall(nodes.container):
            for name in ("prompt_show", "prompt_hide"):
                message = cell.get(name) and catalog.get(cell[name])
                if message and message.string:
                    cell[name] = message.string


def say_how_much(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put a line under the title of a page that is not translated, or not all of it."""
    here = edition(app.config)
    title = next(doctree.findall(nodes.title), None)
    if here == "en" or title is None:
        return
    catalog = catalogue(app, docname)
    done = sum(bool(message.id and message.string and not message.fuzzy) for message in catalog)
    if not done or done < len(catalog):
        text = PARTLY[here].format(share=done / len(catalog)) if done else NOT_YET[here]
        note = nodes.note("", nodes.paragraph("", text), classes=["translation"])
        title.parent.insert(title.parent.index(title) + 1, note)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("config-inited", choose_search)
    app.connect("doctree-read", translate_parts, priority=900)
    app.connect("doctree-read", translate_prompts)
    app.connect("html-page-context", link)
    app.connect("html-page-context", share_sources, priority=900)
    app.connect("doctree-resolved", say_how_much)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
