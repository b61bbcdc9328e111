"""The reference: every public name of the package is in it, with its text, and every link of it leads somewhere."""

import ast
import os
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
import yaml

from api_source import Package
from fingerprint import Sources

ROOT = Path(__file__).parents[2]
API = ROOT / "book" / "back" / "api"
CONF = """
extensions = ["myst_parser", "api"]
exclude_patterns = ["gadkit", "out"]
nitpicky = True
toc_object_entries = False
html_theme = "basic"
html_use_index = html_domain_indices = html_copy_source = False
"""
Pages = dict[str, str]


def build(folder: Path, pages: Pages, strict: bool = True) -> subprocess.CompletedProcess:
    """A plain build of pages, beside the package that is in the folder."""
    for name, text in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "conf.py").write_text(CONF, encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", *["-W"] * strict, "--keep-going", "-b", "html", ".", "out"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "book" / "_ext")}
    return subprocess.run(command, cwd=folder, env=environment, check=strict, capture_output=True, text=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of the reference, and in the place of every other page one with its title alone."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "gadkit").symlink_to(ROOT / "gadkit")
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    pages = {f"{name}.md": f"# {name}\n" for name in [toc["root"], *chapters] if "/api/" not in name}
    shutil.copytree(API, folder / "book" / "back" / "api")
    build(folder, pages | {"index.md": "# Book\n\n```{toctree}\n:glob:\nbook/**\n```\n"})
    return folder / "out"


@pytest.fixture(scope="module")
def texts(built: Path) -> Pages:
    return {path.name: path.read_text(encoding="utf-8") for path in (built / "book" / "back" / "api").glob("*.html")}


def public() -> dict[str, str]:
    """Every public module, class, function and method, read by itself, with the first words of its docstring."""
    found = {}

    def enter(name: str, node: ast.AST) -> None:
        found[name] = (ast.get_docstring(node) or "").split("\n")[0]
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            if named and not child.name.startswith("_") and not isinstance(node, ast.FunctionDef):
                enter(f"{name}.{child.name}", child)

    for name, tree in Sources(ROOT).trees.items():
        enter(name, tree)
    return found


def ids(text: str) -> set[str]:
    return {*re.findall(r'\bid="([^"]+)"', text)}


def test_every_public_name_is_in_the_reference(texts: Pages) -> None:
    names = public()
    assert len(names) > 1500
    anchors = set().union(*map(ids, texts.values()))
    assert not [name for name in names if not {name, f"module-{name}"} & anchors]
    words = re.sub(r"\W", "", unescape(re.sub("<.*?>", "", "".join(texts.values()))))
    assert not [text for text in names.values() if re.sub(r"\W", "", text) not in words]


def test_every_link_of_the_reference_leads_somewhere(built: Path, texts: Pages) -> None:
    links, seen = 0, {}
    for name, text in texts.items():
        for href in re.findall(r'href="([^"]+)"', text):
            if href.startswith(("http", "mailto")) or "_static" in href:
                continue
            page, _, anchor = unescape(href).partition("#")
            path = (
                (built / "book" / "back" / "api" / page).resolve() if page else built / "book" / "back" / "api" / name
            )
            if path not in seen:
                seen[path] = ids(path.read_text(encoding="utf-8"))
            assert not anchor or anchor in seen[path], f"{name}: {href}"
            links += bool(anchor)
    assert links > 5000


def test_every_module_leads_to_its_chapters(texts: Pages) -> None:
    lost = []
    for name, tree in Sources(ROOT).trees.items():
        if named := re.search(r"^Book: (.+?)\.?$", ast.get_docstring(tree) or "", re.MULTILINE):
            section = next(text for text in texts.values() if f'id="module-{name}"' in text)
            section = section.split(f'id="module-{name}"')[1].split("<section")[0].split("<dl")[0]
            lost += [
                (name, page) for page in named[1].split(", ") if f'/{page}.html"' not in section.replace("../", "/")
            ]
    assert not lost


def test_an_entry_says_what_its_source_says(tmp_path: Path) -> None:
    source = '''"""A room.

    code(1)

- one
- two `f`

| a | b |
| --- | --- |
| `C` | 2 |

Source: Somebody 2020,
https://example.org/paper.
Book: part/page, part/other
"""

from gadkit.deep.inner import g

# the largest
MOST = 3
LONG = ("something that is far too long to be shown here", "x")
_HIDDEN = 1


class C(Base):
    """A thing, by `f`.

    `a`   the first,
          see `g`.
    `b`   the second
    """

    size: int  # in pixels

    def __init__(self, a: int, b: "C | None" = None) -> None:
        """Raises ValueError for 0."""

    @property
    def width(self) -> int:
        """As `size`."""

    @classmethod
    def read(cls, *words: str, key: str = "k") -> "C":
        """Read `words`, `size` and `nothing`."""


def f(c: C, x: Float[Tensor, "b d"], g: int = 1) -> C | None:
    """Takes `g` and makes `C.width`."""
'''
    pages = {
        "gadkit/__init__.py": '"""The package."""\n',
        "gadkit/room.py": source,
        "gadkit/deep/__init__.py": '"""A door."""\nfrom gadkit.deep.inner import g\n__all__ = ["g"]\n',
        "gadkit/deep/inner.py": '"""Behind it."""\ndef g() -> None:\n    """As `room.f`."""\n',
        "index.md": "# All\n\n```{toctree}\n:glob:\nbook/part/*\n```\n\n```{api} gadkit.room gadkit.deep\n```\n",
        "book/part/page.md": "# The page\n",
        "book/part/other.md": "# The other page\n",
    }
    build(tmp_path, pages)
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8").split('role="main"')[1]
    words = re.sub(r"\s+", " ", unescape(re.sub("<.*?>", "", page)))
    assert "Source: Somebody 2020, https://example.org/paper. Explained in The page, The other page." in words
    assert {*re.findall(r'href="(book/[^"]+)"', page)} >= {"book/part/page.html", "book/part/other.html"}
    assert re.search(r"<pre><span></span>code\(1\)", page)
    assert "MOST = 3¶ the largest" in words
    assert "LONG¶ " in words
    assert "HIDDEN" not in words
    assert "class gadkit.room.C(a: int, b: C | None = None)¶ A thing, by f. athe first, see g. bthe second" in words
    assert "Raises ValueError for 0." in words
    assert "size: int¶ in pixels" in words
    assert "property width: int¶ As size." in words
    assert "classmethod read(*words: str, key: str = 'k') → C¶" in words
    assert "gadkit.room.f(c: C, x: Float[Tensor, 'b d'], g: int = 1) → C | None¶ Takes g and makes C.width." in words
    links = re.findall(r'<a class="reference internal" href="#([\w.-]+)"', page)
    expected = {"gadkit.room.f": 3, "gadkit.room.C": 5, "gadkit.deep.inner.g": 2, "gadkit.room.C.size": 2}
    assert {name: links.count(name) for name in expected} == expected
    assert links.count("gadkit.room.C.width") == 1
    pages["index.md"] = pages["index.md"].replace("gadkit.deep", "gadkit.attic")
    assert "api: expected modules of the package, got gadkit.attic" in build(tmp_path, pages, strict=False).stderr


def test_a_name_means_what_it_means_in_its_module(tmp_path: Path) -> None:
    files = {
        "__init__": "",
        "a": "from gadkit.b import f as g\nclass K:\n    def m(self): ...\n    x = 1\n",
        "b": "def f(): ...\n",
    }
    (tmp_path / "gadkit").mkdir()
    for name, text in files.items():
        (tmp_path / "gadkit" / f"{name}.py").write_text(text)
    package = Package(tmp_path)
    where = ("gadkit.a", "gadkit.a.K")
    found = {
        word: package.find(word, *where) for word in ("g", "m", "K.m", "gadkit.a.g", "b.f", "f", "K.y", "x", "str")
    }
    empty = dict.fromkeys(("f", "K.y", "str"), "")
    assert found == empty | {
        "g": "gadkit.b.f",
        "gadkit.a.g": "gadkit.b.f",
        "b.f": "gadkit.b.f",
        "m": "gadkit.a.K.m",
        "K.m": "gadkit.a.K.m",
        "x": "gadkit.a.K.x",
    }
