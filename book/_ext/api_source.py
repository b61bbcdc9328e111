"""The public names of the package, read from its sources: nothing is imported, so that reading takes a second.

A name is public if no part of it begins with an underscore.  Its description is its docstring, or the comment above or
behind a constant or an attribute.
"""

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fingerprint import PACKAGE, Sources

Function = ast.FunctionDef | ast.AsyncFunctionDef
LONGEST = 40  # characters of a default or of a constant's value; a longer one is left out
MARKS = ("property", "cached_property", "classmethod", "staticmethod", "overload")


@dataclass
class Entry:
    """A public name: `kind` is Sphinx's word for it (module, class, function, method, property, attribute, data).

    `signature` has the arguments with their brackets and what is returned, for what can be called; `type` and `value`
    belong to attributes and constants.
    """

    name: str
    kind: str
    text: str = ""
    signature: str = ""
    type: str = ""
    value: str = ""
    marks: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    children: list["Entry"] = field(default_factory=list)

    def all(self) -> Iterator["Entry"]:
        """The entry and everything in it."""
        yield self
        for child in self.children:
            yield from child.all()


class Package:
    """The modules of the package below a folder, each as an `Entry` whose name is full; made when it is asked for."""

    def __init__(self, root: Path) -> None:
        self.sources = Sources(root)
        self._modules: dict[str, Entry] = {}

    def below(self, room: str) -> list[str]:
        """The names of a room's modules, itself first: a package with its files, or one file; the front door alone."""
        if room == PACKAGE:
            return [room]
        return [name for name in self.sources.files if name == room or name.startswith(f"{room}.")]

    def module(self, name: str) -> Entry:
        """A module with all its public names."""
        if name not in self._modules:
            tree = self.sources.trees[name]
            notes = comments(self.sources.files[name].read_text(encoding="utf-8"))
            found = Entry(name, "module", ast.get_docstring(tree) or "")
            found.children = [*_entries(tree.body, name, notes, inside=False)]
            self._modules[name] = found
        return self._modules[name]

    def borrowed(self, name: str) -> dict[str, str]:
        """What a package's front door lets in from its files: public names, and where they are defined."""
        if self.sources.files[name].name != "__init__.py":
            return {}
        own = {entry.name for entry in self.module(name).children}
        listed = _exported(self.sources.trees[name])
        found = {x: self.canonical(f"{name}.{x}") for x in sorted(listed, key=str.lower) if f"{name}.{x}" not in own}
        return {short: full for short, full in found.items() if full.startswith(f"{name}.")}

    @cached_property
    def names(self) -> dict[str, str]:
        """All public names, full, with their kinds."""
        return {entry.name: entry.kind for name in self.sources.files for entry in self.module(name).all()}

    @cached_property
    def _imports(self) -> dict[str, dict[str, str]]:
        return {name: dict(self._bindings(name)) for name in self.sources.files}

    def _bindings(self, module: str) -> Iterator[tuple[str, str]]:
        for node in ast.walk(self.sources.trees[module]):
            if isinstance(node, ast.ImportFrom):
                source = self.sources.absolute(node, module)
                if source.split(".")[0] == PACKAGE:
                    yield from ((alias.asname or alias.name, f"{source}.{alias.name}") for alias in node.names)

    def canonical(self, full: str) -> str:
        """Where a full name is defined, through front doors that let it in; "" for what is no public name of ours."""
        for _ in range(8):  # doors one behind the other
            if full in self.names:
                return full
            parts = full.split(".")
            for i in range(len(parts) - 1, 0, -1):
                owner, rest = ".".join(parts[:i]), parts[i:]
                if owner in self._imports:
                    if rest[0] not in self._imports[owner]:
                        return ""
                    full = ".".join([self._imports[owner][rest[0]], *rest[1:]])
                    break
            else:
                return ""
        return ""

    def find(self, word: str, module: str, owner: str = "") -> str:
        """What a dotted word means inside a module, and inside the class `owner` (its full name); "" for nothing."""
        first, _, rest = word.partition(".")
        if first == PACKAGE:
            return self.canonical(word)
        tries = [f"{owner}.{word}"] if owner else []
        tries += [f"{module}.{word}", f"{module.rpartition('.')[0]}.{word}"]
        tries += [".".join(filter(None, [self._imports[module].get(first), rest]))]
        tries += [f"{PACKAGE}.{word}"] if rest and f"{PACKAGE}.{first}" in self.sources.files else []
        return next((found for full in tries if full and (found := self.canonical(full))), "")


def comments(source: str) -> dict[int, tuple[str, bool]]:
    """The comments of a file by their lines, without the mark, and whether each has its line to itself."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            found[token.start[0]] = (token.string.lstrip("# "), not token.line[: token.start[1]].strip())
    return found


def _exported(tree: ast.Module) -> list[str]:
    """What `__all__` lists; without one, what a front door imports from the package."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return [x.value for x in ast.walk(node.value) if isinstance(x, ast.Constant)]
    froms = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return [alias.asname or alias.name for node in froms for alias in node.names if not alias.name.startswith("_")]


def _entries(body: list[ast.stmt], owner: str, notes: dict[int, tuple[str, bool]], inside: bool) -> Iterator[Entry]:
    """The public names of a module's or a class's body, in their order; of several definitions the last counts."""
    found: dict[str, Entry] = {}
    for node in body:
        if isinstance(node, Function):
            new = [_function(node, owner, inside)]
        elif isinstance(node, ast.ClassDef):
            new = [_class(node, owner, notes)]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            new = _values(node, owner, notes, inside)
        elif isinstance(node, ast.If | ast.Try):
            new = [*_entries([*node.body, *node.orelse], owner, notes, inside)]
        else:
            continue
        found |= {entry.name: entry for entry in new if not entry.name.rpartition(".")[2].startswith("_")}
    yield from found.values()


def _function(node: Function, owner: str, inside: bool) -> Entry:
    names = {(d.id if isinstance(d, ast.Name) else getattr(d, "attr", "")) for d in node.decorator_list}
    marks = tuple(mark for mark in MARKS if mark in names)
    is_property = {"property", "cached_property", "setter"} & names
    kind = "property" if is_property else "method" if inside else "function"
    bound = inside and "staticmethod" not in marks
    returns = _type(node.returns)
    return Entry(
        f"{owner}.{node.name}",
        kind,
        ast.get_docstring(node) or "",
        _call(node.args, bound) + (f" -> {returns}" if returns not in ("", "None") else ""),
        type=returns if is_property else "",
        marks=marks,
        arguments=tuple(arg.arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg)),
    )


def _call(args: ast.arguments, bound: bool) -> str:
    """The arguments as they are written, in brackets, without `self` and without long defaults."""
    args = ast.parse(f"def f({ast.unparse(args)}): ...").body[0].args  # a copy
    first = args.posonlyargs or args.args
    if bound and first:
        del first[0]
        del args.defaults[: max(len(args.defaults) - len(args.posonlyargs) - len(args.args), 0)]
    for arg in ast.walk(args):
        if isinstance(arg, ast.arg) and arg.annotation:
            arg.annotation = ast.parse(_type(arg.annotation), mode="eval").body
    args.defaults = [_short(value) for value in args.defaults]
    args.kw_defaults = [value and _short(value) for value in args.kw_defaults]
    return f"({ast.unparse(args)})"


def _type(annotation: ast.expr | None) -> str:
    """A type as it is written; one that had to be put between quotes, without them."""
    text = isinstance(annotation, ast.Constant) and isinstance(annotation.value, str)
    return annotation.value if text else ast.unparse(annotation) if annotation else ""


def _short(value: ast.expr) -> ast.expr:
    return value if len(ast.unparse(value)) <= LONGEST else ast.Constant(...)


def _class(node: ast.ClassDef, owner: str, notes: dict[int, tuple[str, bool]]) -> Entry:
    full = f"{owner}.{node.name}"
    found = Entry(full, "class", ast.get_docstring(node) or "", children=[*_entries(node.body, full, notes, True)])
    start = next((x for x in node.body if isinstance(x, Function) and x.name == "__init__"), None)
    if start:
        made = _function(start, full, True)
        found.signature, found.arguments = made.signature, made.arguments
        found.text = "\n\n".join(filter(None, [found.text, made.text]))
    elif any("dataclass" in ast.unparse(d) for d in node.decorator_list):
        fields = [x for x in node.body if isinstance(x, ast.AnnAssign) and "ClassVar" not in ast.unparse(x.annotation)]
        pairs = [(ast.unparse(x.target), x.value) for x in fields]
        words = [name + (f"={ast.unparse(_short(value))}" if value else "") for name, value in pairs]
        found.signature, found.arguments = f"({', '.join(words)})", tuple(name for name, _ in pairs)
    return found


def _values(node: ast.Assign | ast.AnnAssign, owner: str, notes: dict, inside: bool) -> list[Entry]:
    """Constants or attributes that one statement gives their values: `a = 1`, `a, b = 1, 2`, `a: int`."""
    targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
    flat = [x for target in targets for x in getattr(target, "elts", [target])]
    names = [x.id for x in flat if isinstance(x, ast.Name)]
    value = ast.unparse(node.value) if node.value else ""
    kind = "attribute" if inside else "data"
    shown = value if len(value) <= LONGEST and len(names) == 1 else ""
    type_ = _type(node.annotation) if isinstance(node, ast.AnnAssign) else ""
    text = _note(node, notes)
    return [Entry(f"{owner}.{name}", kind, text, type=type_, value=shown) for name in names if name != "__all__"]


def _note(node: ast.stmt, notes: dict[int, tuple[str, bool]]) -> str:
    """The comment behind the first or last line of a statement, else the comments right above it."""
    for line in (node.lineno, node.end_lineno):
        if line in notes:
            return notes[line][0]
    above, line = [], node.lineno - 1
    while line in notes and notes[line][1]:
        above.insert(0, notes[line][0])
        line -= 1
    return " ".join(above)
