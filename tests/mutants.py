"""How good are the tests?  Small faults are planted at random, one at a time, and the suite has to see them.

`python tests/mutants.py --count 60 --seed 0` changes one comparison, operator, number or condition of the core at a
time, in a copy of the project.  It runs the tests that are named after the changed file, then those of its room, then
those that import it or belong to a room that does; `--all` runs all the others, too.  What survives is printed with its
place: either a test is missing, or the change makes no difference.  Nothing in the suite runs it: 60 mutants take half
an hour or more, although each run of tests is forked from a process that has imported the large libraries.

Source: DeMillo, Lipton and Sayward 1978, Hints on test data selection.
"""

import argparse
import ast
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[1]
CORE = ("losses", "selfsup", "anomaly", "search", "evaluation")
KEPT = [
    "gadkit",
    "tests",
    "book",
    "benchmarks",
    "cards",
    "coursework",
    "experiments",
    "pyproject.toml",
    "requirements.txt",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "Makefile",
    "_config.yml",
    "_toc.yml",
    ".ci",
]
COMPARE = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
OPERATOR = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Pow: "*", ast.MatMult: "*"}
SILENT = ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr  # messages and names: nothing to compute
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "amax": "amin", "amin": "amax", "mean": "sum"}
TINY = 1e-5  # smaller numbers guard against rounding: half as much again changes nothing
MINUTES = 10  # after which a run of tests counts as failed: a mutant may loop
LIBRARIES = ["pytest", "hypothesis", "jaxtyping", "beartype", "open_clip", "matplotlib.pyplot", "sklearn.linear_model"]
TIMES = itertools.count(1)  # of changes: bytecode is told apart by them, even where two come within a second
FORKS = multiprocessing.get_context("forkserver")  # its server imports LIBRARIES, and nothing of the project


@dataclass(frozen=True)
class Mutant:
    """One change: the piece of a file from `start` to `end`, as offsets, becomes `new`."""

    file: str
    line: int
    start: int
    end: int
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.old!r} -> {self.new!r}"


def mutants(file: Path, root: Path = ROOT) -> Iterator[Mutant]:
    """Every change that can be made to a file, outside docstrings, types, error messages and decorators."""
    source = file.read_text(encoding="utf-8")
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def at(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    for node in _code(ast.parse(source)):
        for first, last, new in _changes(node):
            start, end = at(*first), at(*last)
            text = new(source[start:end]) if callable(new) else new
            if text is not None and text != source[start:end]:
                yield Mutant(str(file.relative_to(root)), first[0], start, end, source[start:end], text)


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that compute something."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or isinstance(node, SILENT):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, SILENT):
                yield child
                yield from _code(child)


def _span(node: ast.AST) -> tuple[tuple[int, int], tuple[int, int]]:
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def _between(left: ast.AST, right: ast.AST) -> tuple[tuple[int, int], tuple[int, int]]:
    return (left.end_lineno, left.end_col_offset), (right.lineno, right.col_offset)


def _swap(new: str) -> Callable[[str], str | None]:
    """Replace the operator in the text between two operands; brackets and spaces stay."""

    def swapped(text: str) -> str | None:
        operator = text.strip(" ()\n\t")
        return text.replace(operator, new, 1) if operator and "#" not in text else None

    return swapped


def _changes(node: ast.AST) -> Iterator[tuple]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARE:
        yield *_between(node.left, node.comparators[0]), _swap(COMPARE[type(node.ops[0])])
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATOR:
        yield *_between(node.left, node.right), _swap(OPERATOR[type(node.op)])
    elif isinstance(node, ast.BoolOp):
        other = "or" if isinstance(node.op, ast.And) else "and"
        yield *_between(*node.values[:2]), _swap(other)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        if 0 < abs(node.value) < TINY:
            return
        yield *_span(node), str(node.value + 1 if isinstance(node.value, int) else node.value * 1.5 or 0.5)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield *_span(node), str(not node.value)
    elif isinstance(node, ast.If | ast.IfExp):
        yield *_span(node.test), lambda text: f"(not ({text}))"
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        if name in CALLS:
            end = (node.func.end_lineno, node.func.end_col_offset)
            yield (end[0], end[1] - len(name)), end, CALLS[name]


@cache
def _imports(file: Path) -> frozenset[str]:
    """The dotted names of all modules that a file imports; what is imported from a module might be one, too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def _room(file: Path, folder: Path) -> str:
    return Path(file.relative_to(folder).parts[0]).stem


def tests_of(file: str, folder: Path, everything: bool) -> Iterator[list[str]]:
    """Which tests to run for a changed file, the likeliest to notice first."""
    package, place, path = folder / "gadkit", folder / "tests", folder / file
    modules = {".".join(Path(file).with_suffix("").parts).removesuffix(".__init__")}
    if modules & _imports(path.with_name("__init__.py")):
        modules.add(".".join(Path(file).parent.parts))  # the package hands on what is in the module
    users = {_room(other, package) for other in package.rglob("*.py") if modules & _imports(other)}
    tests = sorted(place.rglob("test_*.py"))
    inside = [test for test in tests if _room(test, place) == _room(path, package)]
    stages = [
        [test for test in inside if path.stem in test.stem or test.stem.endswith("_defaults")],
        inside,
        [test for test in tests if modules & _imports(test)],
        [test for test in tests if _room(test, place).removeprefix("test_") in users],
        tests if everything else [],
    ]
    done: set[Path] = {place / "test_architecture.py", place / "test_documents.py"}
    for stage in stages:
        fresh = [test for test in stage if test not in done]
        done.update(fresh)
        if fresh:
            yield [str(test.relative_to(folder)) for test in fresh]


def _run(folder: Path, tests: list[str]) -> None:
    """Run tests in a copy of the project: in a process of its own, which ends with pytest's exit code."""
    sys.dont_write_bytecode = False  # what is not changed is compiled once
    os.setsid()  # what the tests start belongs to this process, and ends with it
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1), os.dup2(nowhere.fileno(), 2)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = f"{folder}{os.pathsep}{folder / 'book/_ext'}"  # for the programs that tests start
    import pytest

    # the plugins are imported already: no assertion in them is to be rewritten, and none in the tests needs to be
    sys.exit(pytest.main(["-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", "--assert=plain", *tests]))


def _fails(folder: Path, tests: list[str]) -> bool:
    """Whether a test fails."""
    process = FORKS.Process(target=_run, args=(folder, tests))
    process.start()
    process.join(60 * MINUTES)
    if process.exitcode is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return process.exitcode not in (0, 5)  # 5: all tests there are slow ones


def _write(file: Path, source: str) -> None:
    """Change a file, and the time of its change: Python compiles it again, and nothing else."""
    file.write_text(source, encoding="utf-8")
    os.utime(file, (time := next(TIMES), time))


def survives(mutant: Mutant, folder: Path, everything: bool) -> bool:
    """Whether no test in a copy of the project sees the change; the copy is as before afterwards."""
    file = folder / mutant.file
    source = file.read_text(encoding="utf-8")
    stages = list(tests_of(mutant.file, folder, everything))
    _write(file, source[: mutant.start] + mutant.new + source[mutant.end :])
    try:
        return not any(_fails(folder, stage) for stage in stages)
    finally:
        _write(file, source)


def main() -> None:
    """Plant the mutants and print which survive."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=60, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="copies of the project that are tested at once"
    )
    parser.add_argument("--all", action="store_true", help="run the whole suite before a mutant counts as alive")
    parser.add_argument("--only", default="", metavar="TEXT", help="change only files that have it in their path")
    given = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    FORKS.set_forkserver_preload(LIBRARIES)
    files = [file for room in CORE for file in sorted((ROOT / "gadkit" / room).rglob("*.py"))]
    files = [file for file in files if given.only in str(file.relative_to(ROOT))]
    every = [mutant for file in files for mutant in mutants(file)]
    chosen = random.Random(given.seed).sample(every, min(given.count, len(every)))
    print(f"{len(every)} possible changes in {len(files)} files; {len(chosen)} are tried", flush=True)
    with tempfile.TemporaryDirectory() as place:
        free: SimpleQueue[Path] = SimpleQueue()
        for job in range(given.jobs):
            for name in KEPT:
                source, copy = ROOT / name, Path(place) / str(job) / name
                copy.parent.mkdir(exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
                elif source.exists():
                    shutil.copy(source, copy)
            free.put(Path(place) / str(job))

        def tried(mutant: Mutant) -> bool:
            folder = free.get()
            try:
                alive = survives(mutant, folder, given.all)
            finally:
                free.put(folder)
            print("SURVIVED" if alive else "killed", mutant, flush=True)
            return alive

        with ThreadPoolExecutor(given.jobs) as pool:
            alive = list(pool.map(tried, chosen))
    print(f"{len(alive) - sum(alive)} of {len(alive)} killed ({1 - sum(alive) / len(alive):.0%})")


if __name__ == "__main__":
    main()
