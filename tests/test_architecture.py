"""The house keeps its own rules: floors, sizes, names that are explained, and pages that know their modules.

A rule is one test over all modules; it shows every module that breaks it, and what breaks it there.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from fingerprint import Sources

ROOT = Path(__file__).parent.parent
BOOK = ROOT / "book"

FLOORS = """
0  protocols checks runtime distributed files weights
1  nn losses search factory data
2  train runs method selfsup pretext supervised
3  backbones zoo methods objects multimodal
4  evaluation curation
5  anomaly
6  viz templates report inspector cli __main__
"""
FLOOR = {name: int(line.split()[0]) for line in FLOORS.strip().splitlines() for name in line.split()[1:]}
GROUND_IMPORTS = {*sys.stdlib_module_names, "torch", "jaxtyping", "gadkit"}
MAX_FILE, MAX_FUNCTION = 300, 60
# outside the wheel: no module of the package imports one
BESIDE = ("benchmarks", "cards", "coursework", "demo", "experiments")
TOP = {
    "CITATION.cff",
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "Makefile", "pyproject.toml", "requirements.txt"),
    *("_config.yml", "_toc.yml", ".ci", ".gitignore", "book", "gadkit", "tests", *BESIDE),
}
SOURCES = Sources(ROOT, ("gadkit", *BESIDE))
FILES, TREES = SOURCES.files, SOURCES.trees
Function = ast.FunctionDef | ast.AsyncFunctionDef


def breaches(check: Callable[[str], object]) -> dict[str, object]:
    """What `check` finds wrong, by module."""
    return {name: wrong for name in TREES if (wrong := check(name))}


def storey(module: str) -> int | None:
    """The floor that a module stands on: above the roof what is beside the package; `gadkit` itself on none."""
    parts = module.split(".")
    if parts[0] in BESIDE:
        return max(FLOOR.values()) + 1
    return FLOOR[parts[1]] if len(parts) > 1 else None


def imports(module: str, nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Every module that is imported, of this package or another."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield SOURCES.absolute(node, module)


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
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    pages = [toc["root"], *(page["file"] for first in chapters for page in (first, *first.get("sections", [])))]
    return [page.removeprefix("book/") for page in pages]


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The groups of modules each of which imports, by some way, every other one of its group."""
    reach = {name: set(others) for name, others in graph.items()}
    for middle in graph:
        for name in graph:
            if middle in reach[name]:
                reach[name] |= reach[middle]
    groups = {
        frozenset(other for other in reach[name] if name in reach[other]) for name in graph if name in reach[name]
    }
    return sorted(map(set, groups), key=sorted)


def probes(tree: ast.Module, protocols: dict[str, set[str]]) -> Iterator[str]:
    """The calls of `getattr` and `hasattr` that ask whether an object keeps a protocol."""
    members = set().union(*protocols.values())
    for function in (node for node in ast.walk(tree) if isinstance(node, Function)):
        typed = {
            arg.arg
            for arg in [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            if arg.annotation and re.search(rf"\b({'|'.join(protocols)})\b", ast.unparse(arg.annotation))
        }
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call) and len(node.args) > 1):
            what, attribute = call.args[:2]
            asks = isinstance(attribute, ast.Constant) and getattr(call.func, "id", "") in ("getattr", "hasattr")
            if asks and (attribute.value in members or getattr(what, "id", "") in typed):
                yield ast.unparse(call)


def contracts() -> dict[str, set[str]]:
    """The public members of every protocol."""
    classes = [node for node in TREES["gadkit.protocols"].body if isinstance(node, ast.ClassDef)]
    return {
        node.name: {
            getattr(getattr(member, "target", member), "id", getattr(member, "name", "_")) for member in node.body
        }
        for node in classes
        if any("Protocol" in ast.unparse(base) for base in node.bases)
    }


def test_a_module_imports_from_its_own_floor_or_a_lower_one() -> None:
    """At once, late or by a name in a string."""

    def upward(name: str) -> list[str]:
        own = storey(name)
        return [m for m in SOURCES.imports(name) if m != "gadkit" and (own is None or storey(m) > own)]

    assert not breaches(upward)


def test_no_module_imports_itself_by_any_way() -> None:
    """At once, late or by a name in a string."""
    round_trips = circles({name: set(SOURCES.imports(name)) for name in TREES})
    assert not breaches(lambda name: [group for group in round_trips if name in group])


def test_the_check_of_circles_can_fail() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"d", "f"}, "f": {"e"}}
    assert circles(graph) == [{"a", "b", "c"}, {"e", "f"}]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_what_a_protocol_promises_is_not_probed() -> None:
    promised = contracts()
    assert {"Backbone", "Detector"} <= promised.keys()
    assert not breaches(lambda name: [*probes(TREES[name], promised)] if name.startswith("gadkit") else [])


def test_the_check_of_probing_can_fail() -> None:
    code = "def f(x: Backbone, y: int):\n getattr(x, 'a', 1); hasattr(y, 'a'); hasattr(y, 'fit'); getattr(x, y)"
    found = [*probes(ast.parse(code), {"Backbone": {"encode_image"}, "Detector": {"fit"}})]
    assert found == ["getattr(x, 'a', 1)", "hasattr(y, 'fit')"]


def test_no_function_leaves_its_types_unchecked() -> None:
    assert not breaches(lambda name: FILES[name].read_text(encoding="utf-8").count("no_type_check"))


def test_the_ground_floor_needs_torch_and_the_standard_library_only() -> None:
    """Imports inside a function are paid for by those who call it."""

    def foreign(name: str) -> set[str]:
        return {m.split(".")[0] for m in imports(name, iter(TREES[name].body))} - GROUND_IMPORTS

    assert not breaches(lambda name: foreign(name) if storey(name) == 0 else ())


def test_only_the_roof_draws() -> None:
    def draws(name: str) -> bool:
        return "matplotlib" in {m.split(".")[0] for m in imports(name, ast.walk(TREES[name]))}

    assert not breaches(lambda name: draws(name) and not name.startswith("gadkit.viz"))


def test_files_and_functions_fit_the_eye() -> None:
    def long(name: str) -> list[str]:
        sizes = [(f.name, f.end_lineno - f.lineno + 1) for f in ast.walk(TREES[name]) if isinstance(f, Function)]
        lines = len(FILES[name].read_text(encoding="utf-8").splitlines())
        return [f"{lines} lines: make it a folder with the same public names"] * (lines > MAX_FILE) + [
            f"{label}: {size} lines" for label, size in sizes if size > MAX_FUNCTION
        ]

    assert not breaches(long)


def test_every_public_name_is_documented() -> None:
    def silent(name: str) -> list[str]:
        found = [label for label, node in public(TREES[name].body) if not ast.get_docstring(node)]
        return found if ast.get_docstring(TREES[name]) else ["the module", *found]

    assert not breaches(silent)


def bare_parts(function: Function) -> list[str]:
    """The arguments, and `return`, that a function leaves without a type."""
    args = function.args
    given = [*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, [args.vararg, args.kwarg])]
    bare = [arg.arg for arg in given if arg.annotation is None and arg.arg not in ("self", "cls")]
    return bare + ["return"] * (function.returns is None and function.name != "__init__")


def test_every_public_name_is_annotated() -> None:
    def untyped_parts(name: str) -> dict[str, list[str]]:
        functions = {label: node for label, node in public(TREES[name].body) if isinstance(node, Function)}
        for label, node in public(TREES[name].body):
            if isinstance(node, ast.ClassDef):
                functions |= {f"{label}.__init__": f for f in node.body if getattr(f, "name", "") == "__init__"}
        return {label: parts for label, node in functions.items() if (parts := bare_parts(node))}

    assert not breaches(untyped_parts)


def test_a_module_names_a_page_that_names_it() -> None:
    def unknown(name: str) -> list[str]:
        parts = (Function, ast.ClassDef, ast.Assign, ast.AnnAssign)
        defines = any(isinstance(node, parts) for node in TREES[name].body)
        if (
            FILES[name].name in ("__init__.py", "__main__.py")
            and not pages_of(name)
            and (not defines or name == "gadkit")
        ):
            return []  # a package's front door that only lets in what other files define
        wrong = [] if pages_of(name) else ["the docstring ends with no `Book: part/page`"]
        for page in pages_of(name):
            if not (BOOK / f"{page}.md").is_file():
                wrong.append(f"there is no page {page}")
            elif not any(name == m or name.startswith(m + ".") for m in modules_of(page)):
                wrong.append(f"the page {page} does not name it")
        return wrong

    assert not breaches(unknown)


@pytest.mark.parametrize("page", contents())
def test_a_page_names_modules_that_name_it(page: str) -> None:
    for module in modules_of(page):
        assert module in FILES, f"{page} names {module}, which does not exist"
        inside = [name for name in FILES if name == module or name.startswith(module + ".")]
        assert any(page in pages_of(name) for name in inside), f"{module} does not name {page}"


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The files that git keeps."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def test_everything_has_its_place(tracked: list[str]) -> None:
    assert {name.split("/")[0] for name in tracked} <= TOP
    assert {Path(name).parts[1].removesuffix(".py") for name in tracked if name.startswith("gadkit/")} <= {
        *("__init__", "assets", *FLOOR)
    }
    rooms = {Path(name).parts[1] for name in tracked if re.match("tests/.*/", name)}
    assert rooms <= {"book", "fuzz", *FLOOR, *BESIDE}, "tests mirror what they test"


def test_no_file_is_empty(tracked: list[str]) -> None:
    assert not [n for n in tracked if not (ROOT / n).stat().st_size and not n.endswith("__init__.py")]


def test_the_wheel_holds_the_package_and_nothing_else() -> None:
    from hatchling.builders.wheel import WheelBuilder

    inside = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {name.split("/")[0] for name in inside} == {"gadkit"}
    assert {"gadkit/__init__.py", "gadkit/assets/clip-scratch.safetensors", "gadkit/assets/report.html"} <= inside


def test_every_page_on_disk_is_in_the_table_of_contents() -> None:
    on_disk = {str(path.relative_to(BOOK).with_suffix("")) for path in BOOK.rglob("*.md")}
    unlisted = {page for page in on_disk if not page.startswith(("_", "coursework/assignments/"))} - {*contents()}
    assert not unlisted


def loaded_by(statement: str) -> set[str]:
    """The modules that a new Python holds after a statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    return {*subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()}


def test_importing_is_light() -> None:
    heavy = {"timm", "open_clip", "transformers", "matplotlib", "torchvision", "scipy", "sklearn", "skimage"}
    assert not loaded_by("from gadkit import cli, weights, zoo") & {*heavy, "torch"}
    assert not loaded_by("from gadkit import protocols, runtime") & heavy


def test_scores_do_not_wait_for_a_library_that_draws() -> None:
    assert not {name.split(".")[0] for name in loaded_by("from gadkit.cli import detect, fit, inspection, words")} & {
        "matplotlib"
    }
