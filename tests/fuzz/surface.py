"""What a reader of the book meets of the package: every function and class that a page or the README shows."""

import ast
import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
CELL = re.compile(r"^```+\{code-cell\}[^\n]*\n(.*?)^```+\s*$", re.M | re.S)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


def trees(page: Path) -> Iterator[ast.Module]:
    """The code of a page, cell by cell, without its options and its notebook magic."""
    for match in (BLOCK if page.name == "README.md" else CELL).finditer(page.read_text(encoding="utf-8")):
        code = re.sub(r"\A(---\n.*?^---\n|(:[^\n]*\n)+)", "", match[1], flags=re.M | re.S)
        yield ast.parse("\n".join(line for line in code.splitlines() if not line.lstrip().startswith(("%", "!"))))


def imported(tree: ast.Module) -> Iterator[tuple[str, object]]:
    """Names of the package that a cell imports, and what they stand for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gadkit":
            for alias in node.names:
                module = importlib.import_module(node.module)
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
                yield alias.asname or alias.name, getattr(module, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "gadkit":
                    module = importlib.import_module(alias.name)
                    yield (alias.asname, module) if alias.asname else ("gadkit", importlib.import_module("gadkit"))


def resolve(node: ast.expr, names: dict[str, object]) -> object:
    """What a name, or a chain of attributes of modules, stands for; None if it is none of the package's."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = resolve(node.value, names)
        return getattr(owner, node.attr, None) if isinstance(owner, ModuleType) else None
    return None


def pages() -> list[Path]:
    """The README and every page of the book; assignments are solved, and not read."""
    written = sorted((ROOT / "book").rglob("*.md"))
    return [
        ROOT / "README.md",
        *(p for p in written if not {"notebooks", "_build", "assignments"} & {*p.relative_to(ROOT).parts}),
    ]


def shown() -> dict[str, Callable]:
    """Functions and classes of the package that some page names, by their full names."""
    found = {}
    for page in pages():
        names: dict[str, object] = {}
        for tree in trees(page):
            names |= dict(imported(tree))
            for node in ast.walk(tree):
                thing = resolve(node, names) if isinstance(node, ast.Name | ast.Attribute) else None
                if callable(thing) and getattr(thing, "__module__", "").split(".")[0] == "gadkit":
                    found[f"{thing.__module__}.{thing.__qualname__}"] = thing
    return dict(sorted(found.items()))
