"""The house keeps its own rules: floors, sizes, names that are explained, and pages that know their modules."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "book"

FLOORS = """
0  protocols checks runtime distributed files weights
1  losses nn search factory data
2  method runs train pretext selfsup supervised
3  backbones methods zoo
4  multimodal objects evaluation curation
5  anomaly
6  viz cli report __main__
"""
FLOOR = {name: int(line.split()[0]) for line in FLOORS.strip().splitlines() for name in line.split()[1:]}
GROUND_IMPORTS = {*sys.stdlib_module_names, "torch", "jaxtyping", "gadkit"}
MAX_FILE, MAX_FUNCTION = 300, 60
BESIDE = (
    "benchmarks",
    "cards",
    "experiments",
)  # outside the wheel: no module of the package imports one

FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in ("gadkit", *BESIDE)
    for path in sorted((ROOT / room).rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
every_module = pytest.mark.parametrize("name", TREES)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def storey(module: str) -> int | None:
    """The floor that a module stands on: above the roof what is beside the package; `gadkit` itself on none."""
    parts = module.split(".")
    if parts[0] in BESIDE:
        return max(FLOOR.values()) + 1
    return FLOOR[parts[1]] if len(parts) > 1 else None


def absolute(node: ast.ImportFrom, module: str) -> str:
    """The module that a `from ... import` names, with its leading dots resolved."""
    if not node.level:
        return node.module or ""
    is_package = FILES[module].name == "__init__.py"
    base = module.split(".")[: len(module.split(".")) - node.level + is_package]
    return ".".join([*base, *([node.module] if node.module else [])])


def imports(module: str, nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Every module that is imported, with names that are modules themselves spelled out."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = absolute(node, module)
            yield from (f"{source}.{alias.name}" if source == "gadkit" else source for alias in node.names)


def named(tree: ast.AST) -> Iterator[str]:
    """Every module of the package that a string names, alone or with an attribute: what a late import may hide."""
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        if match := re.fullmatch(r"(gadkit(?:\.\w+)+)(?::\w+)?", text):
            yield match[1]


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Functions, classes and methods that a caller may use."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}{node.name}.")


def pages_of(module: str) -> list[str]:
    """The pages that the last line of a module's docstring names."""
    last = (ast.get_docstring(TREES[module]) or "").strip().rsplit("\n", 1)[-1]
    match = re.fullmatch(r"Book: (.+?)\.?", last)
    return match[1].split(", ") if match else []


def front_matter(page: str) -> dict:
    """The YAML block at the head of a page; a page without one explains no module."""
    head, block, *_ = [*(BOOK / f"{page}.md").read_text(encoding="utf-8").split("---\n", 2), ""]
    return {} if head else yaml.safe_load(block)


def modules_of(page: str) -> list[str]:
    """The modules that a page's front matter names."""
    named = front_matter(page).get("gadkit") or ""
    return named.split(", ") if named else []


def contents() -> list[str]:
    """Every page in the table of contents, without the leading `book/`."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    pages = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    return [page.removeprefix("book/") for page in pages]


@every_module
def test_a_module_imports_from_its_own_floor_or_a_lower_one(name: str) -> None:
    own = storey(name)
    upward = {
        other
        for other in (*imports(name, ast.walk(TREES[name])), *named(TREES[name]))
        if other in FILES and other != "gadkit" and (own is None or storey(other) > own)
    }
    assert not upward, f"{name} stands on floor {own} and reaches up"


@every_module
def test_the_ground_floor_needs_torch_and_the_standard_library_only(name: str) -> None:
    if storey(name) == 0:  # imports inside a function are paid for by those who call it
        assert {other.split(".")[0] for other in imports(name, iter(TREES[name].body))} <= GROUND_IMPORTS


@every_module
def test_only_the_roof_draws(name: str) -> None:
    if "matplotlib" in {other.split(".")[0] for other in imports(name, ast.walk(TREES[name]))}:
        assert name.startswith("gadkit.viz"), "gadkit.viz is the only module that imports matplotlib"


@every_module
def test_files_and_functions_fit_the_eye(name: str) -> None:
    lines = len(FILES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE, f"{name} has {lines} lines: make it a folder with the same public names"
    functions = (node for node in ast.walk(TREES[name]) if isinstance(node, Function))
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions if f.end_lineno - f.lineno >= MAX_FUNCTION}
    assert not long, f"{name} has functions of more than {MAX_FUNCTION} lines"


@every_module
def test_every_public_name_is_documented(name: str) -> None:
    assert ast.get_docstring(TREES[name]), f"{name} has no docstring"
    silent = [label for label, node in public(TREES[name].body) if not ast.get_docstring(node)]
    assert not silent, f"{name}: no docstring"


def bare_parts(function: Function) -> list[str]:
    """The arguments, and `return`, that a function leaves without a type."""
    args = function.args
    given = [*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, [args.vararg, args.kwarg])]
    bare = [arg.arg for arg in given if arg.annotation is None and arg.arg not in ("self", "cls")]
    return bare + ["return"] * (function.returns is None and function.name != "__init__")


@every_module
def test_every_public_name_is_annotated(name: str) -> None:
    functions = {label: node for label, node in public(TREES[name].body) if isinstance(node, Function)}
    for label, node in public(TREES[name].body):
        if isinstance(node, ast.ClassDef):
            functions |= {f"{label}.__init__": f for f in node.body if getattr(f, "name", "") == "__init__"}
    bare = {label: parts for label, node in functions.items() if (parts := bare_parts(node))}
    assert not bare, f"{name}: no type"


@every_module
def test_a_module_names_a_page_that_names_it(name: str) -> None:
    defines = any(isinstance(node, Function | ast.ClassDef | ast.Assign | ast.AnnAssign) for node in TREES[name].body)
    if FILES[name].name in ("__init__.py", "__main__.py") and not pages_of(name) and (not defines or name == "gadkit"):
        return  # a package's front door that only lets in what other files define
    assert pages_of(name), f"{name}: the docstring ends with no `Book: part/page`"
    for page in pages_of(name):
        assert (BOOK / f"{page}.md").is_file(), f"{name} names the page {page}, which does not exist"
        assert any(name == m or name.startswith(m + ".") for m in modules_of(page)), f"{page} does not name {name}"


@pytest.mark.parametrize("page", contents())
def test_a_page_names_modules_that_name_it(page: str) -> None:
    for module in modules_of(page):
        assert module in FILES, f"{page} names {module}, which does not exist"
        inside = [name for name in FILES if name == module or name.startswith(module + ".")]
        assert any(page in pages_of(name) for name in inside), f"{module} does not name {page}"


def test_every_page_on_disk_is_in_the_table_of_contents() -> None:
    on_disk = {str(path.relative_to(BOOK).with_suffix("")) for path in BOOK.rglob("*.md")}
    unlisted = {page for page in on_disk if not page.startswith(("coursework/", "notebooks/", "_"))} - {*contents()}
    assert not unlisted


@pytest.mark.parametrize(
    "module", ["gadkit", "gadkit.runtime", "gadkit.weights", "gadkit.zoo", "gadkit.protocols", "gadkit.cli"]
)
def test_importing_is_light(module: str) -> None:
    heavy = "timm open_clip transformers matplotlib torchvision scipy sklearn skimage"
    code = f"import sys, {module}; print(*(m for m in {heavy.split()} if m in sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == []
    if module in ("gadkit", "gadkit.weights", "gadkit.zoo", "gadkit.cli"):
        code = f"import sys, {module}; print('torch' in sys.modules)"
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert out.stdout.strip() == "False"
