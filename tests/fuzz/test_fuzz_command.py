"""Every option of every command with values that do not fit: a documented exit code, and never a traceback."""

import argparse
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from gadkit.cli import main, parser

EACH = 5  # values an option
VALUES = (
    "",
    "nonsense",
    "0",
    "-1",
    "2.5",
    "nan",
    "-inf",
    "1e999",
    "9" * 30,
    "a\tb",
    "x" * 300,
    "cuda:99",
    "two",
    "0x1",
)
PATHS = ("", "nowhere", "photographs/one.png", "photographs/one.png/below", "x" * 300, "/dev/null", "photographs", "..")

QUICK = ["--detector", "knn", "--backbone", "random", "--device", "cpu"]

# a run of each command that ends soon; what trains is asked for no photographs, so that it never begins
COMMANDS = {
    "detect": ["photographs", "--normal", "good", *QUICK],
    "fit": ["--normal", "good", *QUICK, "--out", "kept.gad"],
    "export": ["kept.gad", "--out", "kept.html"],  # which is not there: what is exported takes seconds
    "prompts": ["--object", "nut"],
    "curate": ["photographs", "--keep", "1", "--duplicates", "0.9", "--device", "cpu", "--out", "chosen"],
    "search": ["photographs", "a cat", "--device", "cpu"],
    "data export": ["exported", "--category", "felt", "--per-class", "1", "--size", "16"],
    "train": ["simclr", "--photographs", "0"],
    "evaluate": ["nobody"],  # neither do these two, which would take minutes
    "benchmark": ["--categories", "nobody"],
    "kernel install": ["--prefix", "kernels", "--device", "cpu"],
}


def leaves(top: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command, with its parser."""
    below = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield name, top
    for action in below:
        for word, command in action.choices.items():
            yield from leaves(command, f"{name} {word}".strip())


LEAVES = dict(leaves(parser()))
OPTIONS = [
    (name, action.option_strings[-1], action)
    for name, command in LEAVES.items()
    for action in command._actions
    if action.option_strings and action.nargs != 0
]


def test_every_command_is_tried() -> None:
    assert {*LEAVES} == {*COMMANDS}


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untyped: None) -> None:
    """A folder with two photographs, and one with two good parts."""
    monkeypatch.chdir(tmp_path)
    for folder, level in (("photographs", 30), ("good", 35)):
        (tmp_path / folder).mkdir()
        for i, name in enumerate(("one", "two")):
            Image.effect_noise((24, 20), level + 40 * i).convert("RGB").save(f"{folder}/{name}.png")


@pytest.mark.usefixtures("photographs", "words_once")
@pytest.mark.parametrize(("command", "option", "action"), OPTIONS, ids=[f"{c} {o}" for c, o, _ in OPTIONS])
def test_a_wrong_value_is_a_result_or_a_sentence(
    command: str, option: str, action: argparse.Action, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(zlib.crc32(f"{command} {option}".encode()))
    values = dice.sample(PATHS if action.type is Path else VALUES, EACH)
    if command == "train":
        values = [value for value in values if not value.isdigit() or int(value) == 0]  # any other number would train
    for value in values:
        code = main([*command.split(), *COMMANDS[command], option, value])
        shown = capsys.readouterr().err
        assert code in (0, 1, 2, 74), (value, shown)  # 74: the system refuses the path, and the message says why
        assert "Traceback" not in shown, value
        assert code == 0 or shown.strip(), f"{option} {value!r}: exit code {code}, and not a word"
