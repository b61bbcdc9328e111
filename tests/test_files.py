"""Files that are whole or not there, folders that one run has to itself, and the facts that results carry."""

import contextlib
import errno
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hatchling.builders.wheel import WheelBuilder
from PIL import Image
from safetensors.torch import save_file

from gadkit.files import LOCK, OLD, claimed, explain, find_results, provenance, replacing, writable


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


@pytest.mark.parametrize("letter", ["n", "é", "螺", "🔩"])
def test_a_name_as_long_as_names_may_be_can_be_written(tmp_path: Path, letter: str) -> None:
    target = tmp_path / (letter * (255 // len(letter.encode())))
    with replacing(target) as part:
        part.write_text("x")
    assert target.read_text() == "x"


def test_a_name_that_is_too_long_is_the_one_that_the_error_names(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 256)
    with pytest.raises(OSError, match=r"n{256}") as caught, replacing(target) as part:
        part.write_text("x")
    assert explain(caught.value) == f"{target}: the name is longer than the file system allows"
    assert not os.listdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "none" / "file") as part:
        part.write_text("x")
    assert explain(caught.value) == f"{tmp_path / 'none' / 'file'}: no such file or folder"


def test_one_process_may_write_two_files_of_nearly_the_same_name(tmp_path: Path) -> None:
    first, second = tmp_path / ("n" * 200 + "1"), tmp_path / ("n" * 200 + "2")
    with replacing(first) as a, replacing(second) as b:
        a.write_text("1")
        b.write_text("2")
    assert (first.read_text(), second.read_text()) == ("1", "2")


def test_folders_and_devices_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path(os.devnull)):
        with (
            pytest.raises(ValueError, match=f"{path}: expected a name for a file"),
            replacing(path),
        ):
            pytest.fail("the block is not entered")
    assert Path(os.devnull).is_char_device()


def noise() -> np.ndarray:
    """Pixels that no compression makes smaller, (700, 700, 3)."""
    return np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)


def write_array(part: Path) -> None:
    """Save an array as the command saves maps."""
    with open(part, "wb") as file:
        np.save(file, BIG.numpy())


BIG = torch.zeros(2**18)  # 1 MiB
WRITERS = {
    "text": lambda part: part.write_text("x" * 2**20),
    "torch": lambda part: torch.save({"weights": BIG}, part),
    "safetensors": lambda part: save_file({"weights": BIG}, part),
    "numpy": write_array,
    "pillow": lambda part: Image.fromarray(noise()).save(part, "PNG"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_named_and_leaves_no_truncated_file(small_disk: Path, writer: str) -> None:
    target = small_disk / "model.pt"
    target.write_text("old")
    with pytest.raises(OSError, match=re.escape(str(target))) as caught, replacing(target) as part:
        WRITERS[writer](part)
    assert caught.value.errno == errno.ENOSPC
    assert explain(caught.value) == f"{target}: the disk is full"
    assert target.read_text() == "old"
    assert os.listdir(small_disk) == ["model.pt"]


def test_a_full_disk_is_found_before_the_work(small_disk: Path) -> None:
    assert writable(small_disk / "new") == small_disk / "new"
    with contextlib.suppress(OSError):
        (small_disk / "filler").write_bytes(bytes(2**20))
    with pytest.raises(ValueError, match=r"--out: expected a folder that can be written to, got .* \(the disk is full"):
        writable(small_disk / "new", "--out")


def test_a_folder_below_a_file_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"folder: expected .* \(a part of the path is a file, not a folder\)"):
        writable(tmp_path / "file" / "below")
    with pytest.raises(ValueError, match=r"folder: expected .* \(there is a file of this name\)"):
        writable(tmp_path / "file")


HOLDER = """
import sys
from gadkit.files import claimed
with claimed(sys.argv[1]):
    print("mine", flush=True)
    sys.stdin.read()
"""


def test_a_folder_belongs_to_one_run_until_it_ends_or_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", HOLDER, folder], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(ValueError, match="--out: expected a folder that no other run writes to"):
            claimed(folder, "--out").__enter__()
        other.kill()
        other.wait()
        with claimed(folder) as mine, claimed(tmp_path / "." / "out"):  # a command and what it calls
            assert mine == folder
            assert (folder / LOCK).exists()
        assert not os.listdir(folder), "the lock is gone"


def test_what_kills_left_is_taken_away_by_the_next_run(tmp_path: Path) -> None:
    old, young, foreign = (tmp_path / name for name in (".model.pt.0a1b2c3d.part", ".table.9f8e7d6c.part", "x.part"))
    for path in (old, young, foreign):
        path.touch()
    for path in (old, foreign):
        os.utime(path, (time.time() - OLD - 60,) * 2)
    with claimed(tmp_path):
        assert sorted(os.listdir(tmp_path)) == sorted([young.name, foreign.name, LOCK])


def test_errors_in_words() -> None:
    assert explain(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) == "the disk is full"
    assert explain(OSError("something else")) == "something else"
    assert explain(OSError(errno.ELOOP, os.strerror(errno.ELOOP), b"a")) == f"a: {os.strerror(errno.ELOOP)}"
    assert explain(MemoryError()) == "MemoryError"
    assert explain(ValueError("k: expected 1")) == "k: expected 1"


def test_provenance_is_json_and_names_what_computed() -> None:
    facts = json.loads(json.dumps(provenance("cpu")))
    assert facts["device"] == "cpu"
    assert facts["threads"] >= 1
    assert {*facts["versions"]} == {"torch", "python"}


def test_results_are_found_in_the_clone_and_beside_the_notebook_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "part").mkdir()
    monkeypatch.chdir(tmp_path / "part")
    shipped = Path(__file__).parents[1] / "book"
    assert find_results("scores.json") == shipped / "results" / "scores.json"
    assert find_results("parity.json") == shipped / "survey" / "parity.json"
    (tmp_path / "results").mkdir()
    for place in (tmp_path / "results", tmp_path / "part"):
        (place / "scores.json").write_text("{}")
        assert find_results("scores.json").resolve() == place / "scores.json"


def test_the_wheel_carries_every_results_file() -> None:
    root = Path(__file__).parents[1]
    carried = {file.distribution_path for file in WheelBuilder(str(root)).recurse_included_files()}
    files = [*(root / "book" / "results").iterdir(), *(root / "book" / "survey").glob("*.json")]
    assert {f"gadkit/results/{path.name}" for path in files} <= carried


def test_a_results_file_that_is_missing_is_named_with_the_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=re.escape("nothing.json: this results file is not here")) as caught:
        find_results("nothing.json")
    assert str(tmp_path / "results") in str(caught.value)
    for bad in ("", "../results/scores.json", "results/scores.json", ".."):
        with pytest.raises(ValueError, match="without a folder"):
            find_results(bad)
