"""Two real processes share the cells of a benchmark, and end with the table and the file that one would have."""

import io
import json
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch

DIGITS = ("--semantic", "digits", "--protocol", "one-vs-all", "--categories", "3", "5", "8", "--each", "2")
COMMAND = ("benchmark", *DIGITS, "--size", "32", "--detectors", "colour", "--shots", "1", "2", "--seeds", "0", "1")
TIMES = re.compile(r"\| +\d+\.\d +\|(?= +\d+\.\d +\|)")  # milliseconds; the next column is megabytes
STARTED = 5  # cells that an earlier run, which was killed, has left in its journal


def call(out: Path) -> tuple[int, str]:
    from gadkit.cli import main

    told = io.StringIO()
    with redirect_stdout(told), redirect_stderr(io.StringIO()):
        return main([*COMMAND, "--out", str(out)]), told.getvalue()


def rows_of(out: Path) -> list[dict]:
    from gadkit.anomaly.comparison import cell
    from gadkit.evaluation import results

    rows = sorted(results.read(out), key=cell)
    return [{name: value for name, value in row.items() if name not in ("ms", "threads")} for row in rows]


def main(folder: str) -> None:
    """What each of the two processes does; here it counts its cells, too."""
    from gadkit import distributed
    from gadkit.anomaly import benchmark

    measures, count = benchmark.measures, []
    benchmark.measures = lambda *arguments: count.append(1) or measures(*arguments)
    found = call(Path(folder) / "two.parquet")
    assert distributed.world() == 2
    text = torch.tensor(list(json.dumps([*found, len(count)]).encode()), dtype=torch.uint8)
    torch.save({"found": text}, Path(folder) / f"{distributed.rank()}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture
def one(tmp_path: Path) -> tuple[int, str]:
    """What a single process says; and for the two, what a run that was killed has left of it."""
    from gadkit.evaluation import journal, results

    said = call(tmp_path / "one.json")
    with journal.writing(tmp_path / "two.parquet") as book:
        for row in results.read(tmp_path / "one.json")[:STARTED]:
            book.keep(row)
    return said


def test_two_processes_are_one(
    one: tuple[int, str], two_processes: list[dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    (code, told), (first, second) = one, (json.loads(bytes(o["found"].tolist())) for o in two_processes)
    assert (code, first[0], second[:2]) == (0, 0, [0, ""])
    assert TIMES.sub("| ms |", first[1]) == TIMES.sub("| ms |", told)
    assert rows_of(tmp_path / "two.parquet") == rows_of(tmp_path / "one.json")
    assert sorted([first[2], second[2]]) == [3, 4], "12 cells less those that were there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.pt", "1.pt", "one.json", "two.parquet"]
