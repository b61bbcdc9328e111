"""Prompts as data: what they hold, what they refuse, and the way through a file."""

import json
from pathlib import Path

import pytest

from gadkit.anomaly.hybrid import GENERAL, PLAIN, HybridPrompts, is_prompts

MINE = HybridPrompts(("defect on {}",), ("bent {}", "scratch"), "nut", 3, 0.25, 0.5, 2)


def test_texts_name_the_part() -> None:
    assert GENERAL == ("defect on {}", "damage on {}", "flaw on {}")
    assert PLAIN.texts("metal nut") == ["defect on metal nut", "damage on metal nut", "flaw on metal nut"]
    assert MINE.texts("metal nut") == ["defect on nut", "bent nut", "scratch"], "the prompts' own noun"
    assert MINE.texts("metal nut", specific=False) == ["defect on nut"]
    assert HybridPrompts(specific=(" scratch ", "scratch")).texts("nut")[3:] == ["scratch"]
    assert HybridPrompts(noun="carpet,").named("carpet") == "carpet,", "as the reference's object prompt has it"
    assert PLAIN.named(" {} ") == "{}"


def test_a_file_brings_them_back(tmp_path: Path) -> None:
    for i, prompts in enumerate((PLAIN, MINE, HybridPrompts(noun="Schraube Größe 3"))):
        path = tmp_path / f"{i}.json"
        prompts.write(path)
        assert HybridPrompts.read(path) == prompts
        assert is_prompts(path)
    assert json.loads((tmp_path / "1.json").read_text()) == {
        "gadkit": "hybrid prompts",
        "format": 1,
        "general": ["defect on {}"],
        "specific": ["bent {}", "scratch"],
        "noun": "nut",
        "count": 3,
        "area": 0.25,
        "inside": 0.5,
        "keep": 2,
    }
    (tmp_path / "short.json").write_text('{"gadkit": "hybrid prompts", "format": 1, "keep": 9}')
    assert HybridPrompts.read(tmp_path / "short.json") == HybridPrompts(keep=9)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"specific": "hole"}, "specific: expected a tuple of texts, got str 'hole'"),  # letters, one by one
        ({"general": ()}, "general, specific: expected at least one text of either kind, got none"),
        ({"general": ("{} on {}",)}, "general: expected texts with at most one {} for the part, got '{} on {}'"),
        ({"specific": (" ",)}, "specific: expected texts"),
        ({"specific": (3,)}, "specific: expected texts"),
        ({"noun": " "}, 'noun: expected a text such as "metal nut", or None'),
        ({"count": 0}, "count: expected a whole number from 1"),
        ({"count": True}, "count: expected a whole number from 1"),
        ({"area": 0}, r"area: expected a share in \(0, 1\]"),
        ({"inside": -0.1}, r"inside: expected a share in \[0, 1\]"),
        ({"keep": 1.5}, "keep: expected a whole number from 1"),
        ({"magic": 1}, "prompts: expected the fields general, .*, keep, got magic"),
        ([], "prompts: expected the fields general, .*, keep, got list"),
    ],
    ids=str,
)
def test_what_they_refuse(values: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HybridPrompts.of(values)


def test_blank_names_and_missing_texts() -> None:
    with pytest.raises(ValueError, match="object name: expected a text"):
        PLAIN.texts(" ")
    with pytest.raises(ValueError, match="general: expected at least one text where the specific ones are left out"):
        HybridPrompts((), ("hole",)).texts("nut", specific=False)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"path,score\n", "got another file"),
        (b"\xff\xfe", "got another file"),
        (b"[1]", "got another file"),
        (b'{"specific": []}', "got another file"),
        (b'{"gadkit": "hybrid prompts"}', "expected format 1 in .*, got None"),
        (b'{"gadkit": "hybrid prompts", "format": 2}', "expected format 1 in .*, got 2"),
        (b'{"gadkit": "hybrid prompts", "format": 1, "sharpness": 2}', r"prompts in .*x\.json: .* got sharpness"),
        (b'{"gadkit": "hybrid prompts", "format": 1, "area": "big"}', "area: expected a share"),
    ],
    ids=str,
)
def test_files_that_are_none(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        HybridPrompts.read(path)
