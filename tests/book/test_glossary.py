"""The glossary: every term has its Korean word, one sentence, and a chapter that exists, in alphabetical order."""

import re
from pathlib import Path

BOOK = Path(__file__).parents[2] / "book"
ENTRY = re.compile(r"^(?P<english>\S.*)\n(?P<korean>\S.*)\n  (?P<sentence>.+\.) See \[\]\((?P<page>\S+\.md)\)\.$", re.M)
TEXT = (BOOK / "glossary.md").read_text(encoding="utf-8")
INSIDE = TEXT.split("```{glossary}\n")[1].split("\n```")[0]


def test_an_entry_has_a_korean_word_a_sentence_and_a_chapter() -> None:
    entries = [*ENTRY.finditer(INSIDE)]
    assert len(entries) == INSIDE.count("\n\n") + 1 > 60
    for entry in entries:
        assert re.search("[가-힣]", entry["korean"]), entry[0]
        assert not re.search("[가-힣]", entry["english"] + entry["sentence"]), entry[0]
        assert len(entry["sentence"].split()) <= 30, entry[0]
        assert (BOOK / entry["page"]).is_file(), entry[0]


def test_terms_stand_once_and_in_order() -> None:
    for language in ("english", "korean"):
        names = [entry[language].lower() for entry in ENTRY.finditer(INSIDE)]
        assert len(names) == len({*names}), language
    english = [entry["english"].lower() for entry in ENTRY.finditer(INSIDE)]
    assert english == sorted(english)


def test_the_landing_page_leads_to_the_back_matter() -> None:
    landing = (BOOK / "index.md").read_text(encoding="utf-8")
    assert all(f"]({page}.md)" in landing for page in ("glossary", "notation", "references"))
