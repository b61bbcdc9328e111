"""More than two thousand spoilt inputs: what a page or the command shows gives a result, or a ValueError that says why.

Functions are found on the pages, so that a new one is tried without being listed.  What it needs is one valid call of
it in `valid_calls.py`, of which an argument at a time is spoilt.
"""

import inspect
import random
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from spoil import spoilt
from surface import shown
from valid_calls import CALLS, EXCLUDED, METHODS, valid

from gadkit.weights import WeightsUnavailable

LEAST = 2000  # in all, those of the command not counted
EACH = 12  # spoilt inputs a function ...
FEW = 4  # ... and of one whose valid call takes a tenth of a second
SLOW = (
    "held_out",
    "WinCLIP.fit",
    "WinCLIP.score",
    "protocol.evaluate",
    "show_detections",
    "plot_scatter",
    "learn",
    "OpenCLIP",
)
SHOWN = shown()


def entry(name: str, table: dict[str, Any]) -> str | None:
    """The key of a table that is a function's name, or its end at a dot: so a function may move to another module."""
    ends = [name.split(".", i)[-1] for i in range(name.count(".") + 1)]
    return next((end for end in ends if end in table), None)


def test_every_function_that_a_page_shows_has_a_valid_call() -> None:
    lost = [name for name in SHOWN if not entry(name, CALLS) and not entry(name, EXCLUDED)]
    assert not lost, "write a valid call into valid_calls.py, or the reason why there is none"
    used = {entry(name, table) for name in SHOWN for table in (CALLS, EXCLUDED)}
    assert {*CALLS, *EXCLUDED} <= used, "calls of functions that no page shows any more"


NAMES = [name for name in SHOWN if entry(name, CALLS)]


def calls() -> Iterator[tuple[str, Callable, Callable[[], dict[str, Any]]]]:
    """Everything to try: its name, the function, and what makes valid arguments."""
    for name in NAMES:
        yield name, SHOWN[name], CALLS[entry(name, CALLS)]
    yield from METHODS


TRIED = {name: (function, arguments) for name, function, arguments in calls()}


NOT_THERE = (WeightsUnavailable, FileNotFoundError)
LOADING = ("find_results", "zoo.find", "zoo.facts")  # by a name alone


def loads(name: str, function: Callable) -> bool:
    """Whether it reads files or weights: only there may something be missing that was rightly asked for."""
    taken = inspect.signature(function).parameters.values()
    return name.endswith(LOADING) or any("Path" in str(p.annotation) for p in taken)


def often(name: str) -> int:
    """How many spoilt inputs a function gets."""
    return FEW if name.endswith(SLOW) else EACH


def test_there_are_as_many_spoilt_inputs_as_this_file_says() -> None:
    assert sum(map(often, TRIED)) >= LEAST


def run(function: Callable, arguments: dict[str, Any]) -> Any:
    """Call it; a generator up to its first value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a result with a warning is a result
        found = function(*arguments.pop("*", ()), **arguments)
        return next(found, None) if inspect.isgenerator(found) else found


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untyped: None) -> None:
    """A folder of its own, and no type checks but the package's own."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("somewhere")
@pytest.mark.parametrize("name", TRIED)
def test_spoilt_arguments_give_a_result_or_a_value_error(name: str) -> None:
    function, arguments = TRIED[name]
    run(function, valid(arguments))
    names, absent = sorted(valid(arguments)), NOT_THERE if loads(name, function) else ()
    for attempt in range(often(name)):
        dice = random.Random(zlib.crc32(f"{name}/{attempt}".encode()))
        given = valid(arguments)
        which = names[attempt % len(names)]
        given[which] = spoilt(which, given[which], dice)
        torch.manual_seed(0)
        try:
            run(function, given)
        except (ValueError, *absent):
            continue
        except Exception as error:
            pytest.fail(f"{name}({which}={given.get(which)!r:.200}): {type(error).__name__}: {error}")
