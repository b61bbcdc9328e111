"""A page is executed again when something that it imports has changed, and not at any edit of the package.

Executed pages are cached by the code of their cells alone, which does not notice that what is behind them has changed.
So every page has a cache folder of its own, named after a hash of everything else that its results depend on: the
modules that its cells import, and those that these import, also inside functions and by name; the shipped weights and
the results files that any of them reads; the versions of all libraries; the preset.
"""

import ast
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import ahead

PACKAGE = "gadkit"
DOTTED = re.compile(rf"{PACKAGE}(\.\w+)+([:.]\w+)?")  # a module, or something in it, named in a string
STARTS_PROCESSES = re.compile(r"^\s*[!%]|\bsubprocess\b|\bos\.system\b|\brunpy\b", re.MULTILINE)
IMPORTERS = ("import_module", "__import__")


class Sources:
    """The modules below a folder, and what imports what: at once, later in a function, or by a name in a string."""

    def __init__(self, root: Path, rooms: Sequence[str] = (PACKAGE,)) -> None:
        self.root = root
        self.files = {
            ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
            for room in rooms
            for path in sorted((root / room).rglob("*.py"))
        }
        self.trees = {name: ast.parse(path.read_bytes()) for name, path in self.files.items()}
        self._imports: dict[str, frozenset[str]] = {}

    def imports(self, module: str) -> frozenset[str]:
        """The modules of ours that a module imports, without the packages that they lie in."""
        if module not in self._imports:
            self._imports[module] = frozenset(self.named(self.trees[module], module)) - {module}
        return self._imports[module]

    def named(self, tree: ast.Module, module: str = "") -> set[str]:
        """The modules of ours that code imports; `module` is the code's own name, for relative imports.

        Code that imports by a name which is nowhere written down may import any.
        """
        found, written, anything = set(), set(), False
        quiet = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {self._known(alias.name) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                source = self.absolute(node, module)
                found |= {self._known(f"{source}.{alias.name}") for alias in node.names}
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in quiet:
                written |= {self._known(node.value.replace(":", "."))} if DOTTED.fullmatch(node.value) else set()
            elif isinstance(node, ast.Call) and _name(node.func) in IMPORTERS:
                below = _prefix(node, module)
                anything |= below is None
                written |= {name for name in self.files if below and name.startswith(f"{below}.")}
        return {*self.files} if anything and not written else (found | written) - {""}

    def absolute(self, node: ast.ImportFrom, module: str) -> str:
        """The module that a `from ... import` names, with its leading dots resolved."""
        parts = module.split(".")
        base = parts[: len(parts) - node.level + (self.files[module].name == "__init__.py")] if node.level else []
        return ".".join([*base, *filter(None, [node.module])])

    def _known(self, name: str) -> str:
        """The longest beginning of a dotted name that is a module of ours, or ""."""
        while name and name not in self.files:
            name = name.rpartition(".")[0]
        return name

    def closure(self, names: Iterable[str]) -> set[str]:
        """Modules, all that they import, and the packages that they lie in, which Python runs as well."""
        found, waiting = set(), [*names]
        while waiting:
            name = waiting.pop()
            if name in self.files and name not in found:
                found.add(name)
                waiting += [*self.imports(name), name.rpartition(".")[0]]
        return found


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _prefix(call: ast.Call, module: str) -> str | None:
    """The package below which `import_module(f"{__name__}.{...}")` looks; "" for a plain string, None for anything."""
    name = call.args[0] if call.args else None
    if isinstance(name, ast.Constant):
        return ""  # found as a string
    first = name.values[0] if isinstance(name, ast.JoinedStr) else None
    if isinstance(first, ast.Constant):
        return first.value.rpartition(".")[0] or None
    itself = isinstance(first, ast.FormattedValue) and _name(first.value) in ("__name__", "__package__")
    return module if itself and module else None


class Fingerprints:
    """The files that pages' results depend on, and a short hash of them."""

    def __init__(self, root: Path) -> None:
        self.sources = Sources(root)
        self.root = root
        self._digests: dict[Path, bytes] = {}

    def files(self, page: Path) -> set[Path]:
        """The files that a page's results depend on, besides the page; none for a page that runs nothing."""
        import jupytext  # imported late: it takes a second, and those who want `Sources` don't need it

        text = page.read_text(encoding="utf-8")
        cells = jupytext.reads(text, fmt="md:myst").cells if text.startswith("---") else []
        code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        if not code:
            return set()
        try:
            modules = self.sources.closure(self.sources.named(ast.parse(code)))
        except SyntaxError:  # a magic, or a mistake that the page is about
            modules = set(self.sources.files)
        if STARTS_PROCESSES.search(code):
            modules = set(self.sources.files)
        used = {self.sources.files[name] for name in modules}
        return used | {self.root / "requirements.txt"} | self._data(code, used)

    def _data(self, code: str, modules: set[Path]) -> set[Path]:
        """The data files that code reads itself or through modules: weights all or none, results by their names."""
        texts = [code, *(path.read_text(encoding="utf-8") for path in modules)]
        weights = self.root.glob(f"{PACKAGE}/assets/**/*") if any(re.search("(?i)assets", t) for t in texts) else ()
        folders = ("results", "survey")
        results = [path for name in folders for path in self.root.glob(f"book/{name}/**/*") if path.is_file()]
        named = [path for path in results if any(path.name in text for text in texts)]
        if re.search(r"""["'/]results["'/]""", code) and not any(path.name in code for path in results):
            named = results
        return {path for path in [*weights, *named] if path.is_file()}

    def of(self, page: Path) -> str:
        """A short hash of the files, their names and the preset."""
        digest = hashlib.sha256(os.environ.get("GADKIT_PRESET", "tiny").encode())
        for path in sorted(filter(Path.is_file, self.files(page))):
            if path not in self._digests:
                self._digests[path] = hashlib.sha256(path.read_bytes()).digest()
            digest.update(f"{path.relative_to(self.root)}\0".encode() + self._digests[path])
        return digest.hexdigest()[:12]


class PageCache:
    """Sphinx's events, in the order in which they come."""

    def start(self, app: Sphinx) -> None:
        """Read the package, once for all pages."""
        self.fingerprints = Fingerprints(Path(app.srcdir))

    def find_outdated(self, app: Sphinx, env: BuildEnvironment, added: set, changed: set, removed: set) -> list[str]:
        """The pages that must be read again although they have not changed themselves."""
        pages = env.found_docs - added - changed
        return [page for page in pages if env.metadata[page].get("fingerprint") != self.of(env, page)]

    def choose_folder(self, app: Sphinx, page: str, source: list[str]) -> None:
        """Give a page that is about to be read its own cache folder."""
        app.env.metadata[page]["fingerprint"] = self.of(app.env, page)
        app.env.mystnb_config = app.env.mystnb_config.copy(execution_cache_path=str(self.folder(app.env, page)))

    def execute(self, app: Sphinx, env: BuildEnvironment, pages: list[str]) -> None:
        """Execute the pages that are about to be read and are not cached, side by side."""
        ahead.execute(env, {page: self.folder(env, page) for page in pages})

    def folder(self, env: BuildEnvironment, page: str) -> Path:
        """The cache folder of a page as it stands."""
        return Path(env.srcdir) / "_build" / ".jupyter_cache" / page / self.of(env, page)

    def of(self, env: BuildEnvironment, page: str) -> str:
        """The fingerprint of a page."""
        return self.fingerprints.of(Path(env.doc2path(page)))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    ahead.encrypt()
    cache = PageCache()
    app.connect("builder-inited", cache.start)
    app.connect("env-get-outdated", cache.find_outdated)
    app.connect("env-before-read-docs", cache.execute)
    app.connect("source-read", cache.choose_folder)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
