"""A translation says what the English says: the same formulas, roles, code, links and figures, of today's text."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from babel.messages.catalog import Catalog

EXTENSIONS = Path(__file__).parents[2] / "book" / "_ext"
sys.path.append(str(EXTENSIONS))
import editions  # noqa: E402
import translate  # noqa: E402

PAGES = translate.translated("ko")
MARKS = {  # each is taken out before the next is looked for
    "roles": re.compile(r"\{[a-z:]+\}`[^`]*`"),
    "code": re.compile(r"`[^`]+`"),
    "formulas": re.compile(r"(?<!\\)\$[^$]+\$"),
    "links": re.compile(r"\]\(([^)]*)\)"),
    "figures": re.compile(r"\d*\.\d+"),
}
ENOUGH = 0.9  # of a page's messages: below, a page is no translation


def marks(text: str) -> dict[str, Counter]:
    """What must be the same in every language, kind by kind."""
    found = {}
    for kind, pattern in MARKS.items():
        found[kind], text = Counter(pattern.findall(text)), pattern.sub(" ", text)
    return found


def test_marks_are_seen() -> None:
    text = "The value $x_1$ of {cite:t}`a` is 0.72, see [](page.md) and `fit`."
    assert all(sum(found.values()) == 1 for found in marks(text).values())


@pytest.mark.parametrize("page", PAGES)
def test_a_translation_has_the_marks_of_the_original(page: str) -> None:
    catalog = translate.read(translate.catalogue("ko", page), "ko")
    wrong = [m.id for m in catalog if m.id and m.string and not m.fuzzy and marks(m.id) != marks(m.string)]
    assert not wrong


def test_the_catalogues_are_those_of_todays_text() -> None:
    """After a change of a translated page: `python book/_ext/translate.py update ko`, and translate what is new."""
    assert PAGES
    for page, template in translate.messages(PAGES).items():
        catalog = translate.read(translate.catalogue("ko", page), "ko")
        assert [m.id for m in catalog if m.id] == [m.id for m in template if m.id], page
        done = sum(bool(m.string) and not m.fuzzy for m in catalog if m.id)
        assert done >= ENOUGH * len(catalog), page


def test_captions_and_alternative_texts_of_cells_are_there_to_translate() -> None:
    found = [*translate.drawn("book/anomaly/measuring")]
    assert any(text.startswith("A memory of colours marks foreign matter") for text in found)
    assert any(text.startswith("Four connectors with the outlines") for text in found)


def test_an_update_keeps_what_is_translated_and_marks_what_changed(tmp_path: Path, monkeypatch) -> None:
    page, said = "book/index", "Two good parts are enough for this."
    templates = iter([[said, "A second paragraph."], [said.replace("Two", "Three"), "A second paragraph."]])

    def messages(names: list[str]) -> dict[str, Catalog]:
        template = Catalog()
        for text in next(templates):
            template.add(text)
        return {page: template}

    monkeypatch.setattr(translate, "messages", messages)
    translate.update("ko", [page], tmp_path)
    path = translate.catalogue("ko", page, tmp_path)
    path.write_text(re.sub(r'(parts.*\n)msgstr ""', r'\1msgstr "양품 두 개"', path.read_text()), encoding="utf-8")
    translate.update("ko", [page], tmp_path)
    changed, second = (m for m in translate.read(path, "ko") if m.id)
    assert changed.id.startswith("Three")
    assert changed.string == "양품 두 개"
    assert changed.fuzzy
    assert second.string == ""
    assert not second.fuzzy


def test_search_finds_words_inside_of_words() -> None:
    split = editions.Korean({}).split
    assert {"결함"} == {*split("결함을 찾습니다")} & {*split("모든 결함이")}
    assert split("AUROC 0.9") == ["AUROC", "0", "9"]


@pytest.mark.parametrize(
    ("page", "here", "there", "expected"),
    [
        ("index", "en", "ko", "ko/index.html"),
        ("book/a/b", "en", "ko", "../../ko/book/a/b.html"),
        ("book/a/b", "ko", "en", "../../../book/a/b.html"),
        ("book/a/b", "ko", "ko", "../../../ko/book/a/b.html"),
    ],
)
def test_the_twin_of_a_page(page: str, here: str, there: str, expected: str) -> None:
    assert editions.address(page, here, there) == expected


@pytest.mark.parametrize(("language", "url"), [("en", "_sources/a/b.md"), ("ko", "../../_sources/a/b.md")])
def test_the_button_for_a_source_leads_to_the_one_there_is(language: str, url: str) -> None:
    buttons = [{"label": "download-source-button", "url": "_sources/a/b.md"}, {"label": "other", "url": "x"}]
    context = {"header_buttons": [{"type": "link"}, {"buttons": buttons}], "sourcename": "a/b.md"}
    editions.share_sources(SimpleNamespace(config=SimpleNamespace(language=language)), "a/b", "", context, None)
    assert [button["url"] for button in buttons] == [url, "x"]


def test_an_edition_is_built_with_its_search_and_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "index.md").write_text(
        "# Title\n\nA defect is found.\n\n```{toctree}\n:caption: Part\n\nother\n```\n", encoding="utf-8"
    )
    (tmp_path / "other.md").write_text("# Other\n\nNothing here is translated.\n", encoding="utf-8")
    folder = tmp_path / "locale" / "ko" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    head = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'
    said = {"Title": "제목", "Part": "부", "A defect is found.": "결함을 찾습니다."}
    text = "\n".join(f'msgid "{english}"\nmsgstr "{korean}"\n' for english, korean in said.items())
    (folder / "index.po").write_text(head + text, encoding="utf-8")
    settings = ["extensions = ['myst_parser', 'editions']", "language = 'ko'", "locale_dirs = ['locale']"]
    (tmp_path / "conf.py").write_text("\n".join(settings), encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(tmp_path), str(tmp_path / "out")]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(EXTENSIONS)}, check=True)
    index, other = ((tmp_path / "out" / f"{name}.html").read_text(encoding="utf-8") for name in ("index", "other"))
    assert 'lang="ko"' in index
    assert "결함을 찾습니다." in index
    assert editions.NOT_YET["ko"] in other
    assert editions.NOT_YET["ko"] not in index
    assert 'hreflang="en" href="../other.html"' in other
    assert json.dumps("결함") in (tmp_path / "out" / "searchindex.js").read_text(encoding="utf-8")
    assert "splitQuery" in (tmp_path / "out" / "_static" / "language_data.js").read_text(encoding="utf-8")
