"""Decimal numbers in the prose of the parts on learning and on words have sources, and results files agree."""

from pathlib import Path

import prose_numbers
import pytest
import yaml
from prose_numbers import Figure, Mention, find, page, paragraphs

HERE = Path(__file__).parent
PARTS = ("selfsup", "pretext", "multimodal")
SOURCES = yaml.safe_load((HERE / "number_sources.yml").read_text(encoding="utf-8"))
PAGES = sorted(f"{part}/{path.stem}" for part in PARTS for path in (prose_numbers.ROOT / "book" / part).glob("*.md"))


def unexplained(name: str) -> list[Mention]:
    """The numbers of a page that neither a citation nor its code explains."""
    mentions, known, _ = page(name)
    return [mention for mention in mentions if "{cite" not in mention.sentence and mention.value not in known]


def listed(name: str) -> dict[str, list[str]]:
    """The numbers that the file of sources gives for a page, by the kind of source."""
    given = SOURCES[name]
    found = {kind: given.get(kind, "").split() for kind in ("papers", "cells", "drawn")}
    return found | {"results": [row[-1] for row in given.get("results", [])]}


def test_every_page_is_looked_at() -> None:
    assert sorted(SOURCES) == PAGES


@pytest.mark.parametrize("name", PAGES)
def test_every_number_in_prose_has_a_source(name: str) -> None:
    written = {mention.text.replace("−", "-"): mention.sentence for mention in unexplained(name)}
    given = {number for numbers in listed(name).values() for number in numbers}
    missing = {number: sentence for number, sentence in written.items() if number not in given}
    assert not missing, "a line in number_sources.yml says where they come from"
    assert not given - written.keys(), "these numbers are no longer in the prose"


@pytest.mark.parametrize("name", [name for name in PAGES if SOURCES[name].get("results")])
def test_numbers_from_results_files_are_those_of_today(name: str) -> None:
    wrong = []
    for stem, *words, text in SOURCES[name]["results"]:
        value = find(stem, *map(str, words))
        if abs(value - float(text)) > Mention(text, "", "").step:
            wrong.append(f"{stem} {', '.join(map(str, words))}: the page says {text}, the file {value:.5f}")
    assert not wrong


@pytest.mark.parametrize("name", [name for name in PAGES if SOURCES[name].get("papers")])
def test_numbers_from_papers_stand_on_a_page_that_cites(name: str) -> None:
    assert "{cite" in (prose_numbers.ROOT / "book" / f"{name}.md").read_text(encoding="utf-8")


def test_the_reader_of_pages_sees_prose_and_nothing_else() -> None:
    source = (
        "# 1.5 in a title\n\nIt is 0.25\nof `0.75`. See [2.5](x.md).\n\n| 3.5 |\n| --- |\n\n"
        ":::{exercise}\n:label: four-4.5\n\nWhy 5.5?\n:::\n\n```{math}\n6.5\n```\n"
    )
    numbers = [number for text in paragraphs(source) for number in prose_numbers.NUMBER.findall(text)]
    assert sorted(numbers) == ["0.25", "0.75", "2.5", "5.5"]
    assert prose_numbers.NUMBER.findall("1.2.3 v1.5 1,000.5 −0.5, (0.25) 0.5% a/0.5 3.5x") == ["−0.5", "0.25", "0.5"]
    assert Mention("−0.50", "", "").value == -0.5
    assert Mention("0.50", "", "").step == pytest.approx(0.005)


def test_a_value_is_found_by_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = {
        "rows": [{"method": "a", "device": "b", "values": {"x": [1, 2], "y": 3}}, {"method": "c", "values": {"x": 4}}]
    }
    monkeypatch.setattr(prose_numbers, "figures", lambda stem: tuple(prose_numbers._walk(tree, ())))
    assert Figure(("rows", "a", "values", "x"), 1.5) in prose_numbers.figures("any")
    assert find("any", "a", "x") == 1.5
    for words in (("x",), ("b", "x"), ("c", "y")):
        with pytest.raises(ValueError, match="expected one value for"):
            find("any", *words)
