"""Files that are whole or not there, and the facts that results carry."""

import json
import os
from pathlib import Path

import pytest

from gadkit.files import provenance, replacing


def test_a_file_appears_whole_and_an_error_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "table.json"
    with replacing(target) as part:
        part.write_text("old")
        assert not target.exists(), "nothing is there before the block has ended"
    with pytest.raises(UnicodeEncodeError), replacing(target) as part:
        part.write_text("half \udcff", encoding="utf-8")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.json"], "no part is left"


def test_a_file_has_the_rights_of_any_other_file_and_keeps_those_it_had(tmp_path: Path) -> None:
    plain, target = tmp_path / "plain", tmp_path / "target"
    plain.write_text("")
    for rights in (plain.stat().st_mode, 0o100640):
        with replacing(target) as part:
            part.write_text("x")
            part.chmod(0o600)  # as safetensors writes
        assert target.stat().st_mode == rights
        target.chmod(0o640)


def test_a_name_as_long_as_names_may_be_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    with replacing(target) as part:
        part.write_text("x")
    assert target.read_text() == "x"


def test_provenance_is_json_and_names_what_computed() -> None:
    facts = json.loads(json.dumps(provenance("cpu")))
    assert facts["device"] == "cpu"
    assert facts["threads"] >= 1
    assert {*facts["versions"]} == {"torch", "python"}
