"""The book in another language: what there is to translate, how far a translation is, and the build of an edition.

A translation is gettext's: `book/locale/LANGUAGE/LC_MESSAGES/PAGE.po`, one catalogue a page, a paragraph a message.
Sphinx finds the paragraphs.  Captions and alternative texts of figures that cells draw, and the words of folded cells,
stand in the cells' metadata, where it doesn't look before a page is executed; they are read from there.

    python book/_ext/translate.py update ko              new and changed messages into the catalogues
    python book/_ext/translate.py status ko              translated, fuzzy and missing messages, page by page
    python book/_ext/translate.py build ko               the edition, into _build/html/ko
"""

import argparse
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jupytext
import yaml
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).parents[2]
LOCALE = ROOT / "book" / "locale"
TITLE = "Spot the Difference"
INTERFACE = {
    "ko": {"nb_code_prompt_show": "코드 보기", "nb_code_prompt_hide": "코드 숨기기"}
}  # words outside of the pages
# what no translator touches
MARKED = re.compile(
    r"^\s*\\.*|^\n.*|\{[a-z:]+\}`[^`]*`|`[^`]+`|\$[^$]+\$|\]\([^)]*\)", re.DOTALL
)  # not for translators
WORDS = re.compile("[A-Za-z]")


def pages(root: Path = ROOT) -> list[str]:
    """The names of all pages in the order of the contents, such as "book/anomaly/winclip"."""
    contents = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter for part in contents["parts"] for chapter in part["chapters"]]
    return [contents["root"], *(page["file"] for first in chapters for page in (first, *first.get("sections", [])))]


def sphinx(output: Path, builder: str, doctrees: Path, strict: bool = False, **options: Any) -> None:
    """Run Sphinx by the book's `_config.yml`, some options overruled.  Raises RuntimeError where it fails."""
    from jupyter_book.sphinx import build_sphinx

    options |= {"external_toc_path": str(ROOT / "_toc.yml"), "latex_individualpages": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations among the libraries
        status = build_sphinx(
            ROOT,
            output,
            noconfig=True,
            path_config=ROOT / "_config.yml",
            confoverrides=options,
            doctreedir=doctrees,
            builder=builder,
            warningiserror=strict,
            keep_going=True,
            really_quiet=builder == "gettext",  # a few pages alone refer to others that are not there
        )
    if isinstance(status, BaseException):
        raise RuntimeError(f"{builder}: {status}") from status
    if status:
        raise RuntimeError(f"{builder}: ended with status {status}")


def drawn(page: str, root: Path = ROOT) -> Iterator[str]:
    """The captions and alternative texts of the figures that a page's cells draw, and what folded cells are called."""
    text = (root / f"{page}.md").read_text(encoding="utf-8")
    for cell in jupytext.reads(text, fmt="md:myst").cells if text.startswith("---") else []:
        options = cell.metadata.get("mystnb", {})
        caption = options.get("figure", {}).get("caption", "")
        alt = options.get("image", {}).get("alt", "")
        folded = (options.get(f"code_prompt_{what}", "") for what in ("show", "hide"))
        yield from (str(words).strip().replace("\n", " ") for words in (caption, alt, *folded) if words)


def messages(names: Sequence[str], root: Path = ROOT) -> dict[str, Catalog]:
    """What there is to translate on some pages: a catalogue without translations each, in the order of the text."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        others = [f"{name}.md" for name in pages(root) if name not in names and name != "book/index"]
        options = {"nb_execution_mode": "off", "gettext_compact": False, "gettext_uuid": False}
        sphinx(Path(folder, "pot"), "gettext", Path(folder, "doctrees"), **options, exclude_patterns=_excluded(others))
        for name in names:
            with Path(folder, "pot", f"{name}.pot").open("rb") as file:
                template = read_po(file)
            found[name] = Catalog(project=TITLE)
            for text in dict.fromkeys([*(message.id for message in template if message.id), *drawn(name, root)]):
                found[name].add(text)
    return found


def _excluded(others: Sequence[str]) -> list[str]:
    """The book's own exclusions, and some pages."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    return [*config["exclude_patterns"], "**.ipynb_checkpoints", ".DS_Store", "Thumbs.db", "_build", *others]


def catalogue(language: str, page: str, folder: Path = LOCALE) -> Path:
    """Where a page's translation lies."""
    return folder / language / "LC_MESSAGES" / f"{page}.po"


def read(path: Path, language: str) -> Catalog:
    """A catalogue from its file; an empty one if there is none."""
    if not path.exists():
        comment = f"# {TITLE}, translated: {language}. Licence: CC BY 4.0, as the book."
        return Catalog(language, header_comment=comment, project=TITLE, version="1", fuzzy=False)
    with path.open("rb") as file:
        return read_po(file, language)


def update(language: str, names: Sequence[str], folder: Path = LOCALE) -> None:
    """Put new messages into the catalogues; one whose English changed keeps its translation and is marked fuzzy."""
    for page, template in messages(names).items():
        path = catalogue(language, page, folder)
        catalog = read(path, language)
        catalog.update(template, update_creation_date=False)
        catalog.obsolete.clear()
        for message in catalog:
            if message.id and not WORDS.search(MARKED.sub("", message.id)):
                message.string = message.id  # a formula, a link or a number is the same in every language
            message.flags -= {"python-format", "python-brace-format"}  # guessed from the braces of roles
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            write_po(file, catalog, width=110, sort_output=False, omit_header=False, include_lineno=False)
        part.replace(path)


def status(language: str, names: Sequence[str], folder: Path = LOCALE) -> dict[str, tuple[int, int, int]]:
    """The numbers of translated, fuzzy and missing messages of some pages, by the English of today."""
    counts = {}
    for page, template in messages(names).items():
        catalog = read(catalogue(language, page, folder), language)
        there = [catalog.get(message.id) for message in template if message.id]
        fuzzy = sum(bool(message and message.fuzzy) for message in there)
        done = sum(bool(message and message.string and not message.fuzzy) for message in there)
        counts[page] = (done, fuzzy, len(there) - done - fuzzy)
    return counts


def translated(language: str, folder: Path = LOCALE) -> list[str]:
    """The pages that have a catalogue."""
    return [page for page in pages() if catalogue(language, page, folder).exists()]


def build(language: str) -> Path:
    """Build the edition beside the English one; pages are not executed twice, because the cache is the same."""
    output = ROOT / "_build" / "html" / language
    options = INTERFACE.get(language, {}) | {
        "language": language,
        "locale_dirs": [str(LOCALE)],
        "gettext_compact": False,
        "nitpicky": True,
    }
    sphinx(output, "html", ROOT / "_build" / f".doctrees-{language}", strict=True, **options)
    shutil.rmtree(output / "_sources", ignore_errors=True)  # they are English, and lie in the English edition
    return output / "index.html"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description="The book in another language.")
    parser.add_argument("command", choices=("update", "status", "build"))
    parser.add_argument("language", metavar="LANGUAGE", help='such as "ko"')
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="such as book/anomaly/winclip (default: translated)")
    given = parser.parse_args(arguments)
    if unknown := {*given.pages} - {*pages()}:
        parser.error(f"expected pages of _toc.yml, got {', '.join(sorted(unknown))}")
    names = given.pages or translated(given.language)
    if given.command == "build":
        sys.stdout.write(f"{build(given.language)}\n")
        return 0
    if not names:
        parser.error(f"no page is translated into {given.language} yet; name one")
    if given.command == "update":
        update(given.language, names)
    for page, (done, fuzzy, missing) in status(given.language, names).items():
        sys.stdout.write(f"{page}: {done} translated, {fuzzy} fuzzy, {missing} missing\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
