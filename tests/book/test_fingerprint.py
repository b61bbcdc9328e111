"""A page is executed again when something that it imports has changed, and only then."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fingerprint import Fingerprints, Sources

PAGE = """---
jupytext:
  text_representation:
    format_name: myst
kernelspec:
  name: python3
  display_name: Python 3
  language: python
---

# A page

```{code-cell} ipython3
%s
```
"""


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A package of eight modules, its data, and a page's worth of settings."""
    return write(
        tmp_path,
        {
            "gadkit/__init__.py": "",
            "gadkit/one.py": "def late():\n    from gadkit import two\n",
            "gadkit/two.py": "",
            "gadkit/table.py": "ROWS = ['gadkit.room.left:Left']\n",
            "gadkit/room/__init__.py": "from importlib import import_module\n"
            "def pick(name):\n    return import_module(f'{__name__}.{name}')\n",
            "gadkit/room/left.py": "from ..one import late\n",
            "gadkit/room/right.py": "",
            "gadkit/alone.py": '"""Says gadkit.two and nothing else."""\n"gadkit.one"\n',
            "gadkit/loads.py": "from pathlib import Path\nASSETS = Path(__file__).with_name('assets')\n",
            "gadkit/assets/net.safetensors": "weights",
            "book/results/a.json": "1",
            "book/results/b.json": "2",
            "book/survey/papers.json": "3",
            "requirements.txt": "torch==2.0",
        },
    )


def depends(world: Path, code: str) -> set[str]:
    page = world / "page.md"
    page.write_text(PAGE % code, encoding="utf-8")
    return {str(path.relative_to(world)) for path in Fingerprints(world).files(page)} - {"requirements.txt"}


@pytest.mark.parametrize(
    ("code", "modules"),
    [
        ("import gadkit.two", "two"),
        ("from gadkit import one", "one two"),  # which imports the other one later, inside a function
        ("def f():\n    import gadkit.two as t", "two"),
        ("from gadkit.one import late", "one two"),
        ("import gadkit.table", "table room room/left room/right one two"),  # by a name in a string
        ("import gadkit.room", "room room/left room/right one two"),  # by a name that is put together
        ("from gadkit import alone", "alone"),  # a text that stands for itself imports nothing
        ("import torch\nprint('gadkit.one is a module')", None),
        ("import importlib\nimportlib.import_module('gadkit.two')", "two"),
    ],
)
def test_imports_are_followed(world: Path, code: str, modules: str | None) -> None:
    expected = {f"gadkit/{name}.py".replace("room.py", "room/__init__.py") for name in (modules or "").split()}
    assert depends(world, code) == expected | ({"gadkit/__init__.py"} if modules else set())


@pytest.mark.parametrize(
    "code", ["!gadkit detect", "import subprocess", "from gadkit import two\nimport importlib as i\ni.import_module(x)"]
)
def test_code_that_could_run_anything_depends_on_everything(world: Path, code: str) -> None:
    assert {name for name in depends(world, code) if name.endswith(".py")} == {
        str(path.relative_to(world)) for path in (world / "gadkit").rglob("*.py")
    }


def test_data_are_followed(world: Path) -> None:
    assert "gadkit/assets/net.safetensors" in depends(world, "import gadkit.loads")
    assert "gadkit/assets/net.safetensors" not in depends(world, "import gadkit.two")
    assert depends(world, "open('../results/a.json')") == {"book/results/a.json"}
    assert depends(world, "find_results('papers.json')") == {"book/survey/papers.json"}
    assert depends(world, "folder = Path('../results')") == {
        *("book/results/a.json", "book/results/b.json", "book/survey/papers.json")
    }


def test_the_hash_follows_contents_libraries_and_preset(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = world / "page.md"
    page.write_text(PAGE % "import gadkit.one", encoding="utf-8")
    hashes = [Fingerprints(world).of(page)]
    assert Fingerprints(world).of(page) == hashes[0]
    for name, text in (("gadkit/alone.py", "a = 1"), ("gadkit/two.py", "a = 1"), ("requirements.txt", "torch==2.1")):
        write(world, {name: text})
        hashes.append(Fingerprints(world).of(page))
    monkeypatch.setenv("GADKIT_PRESET", "paper")
    hashes.append(Fingerprints(world).of(page))
    assert hashes[0] == hashes[1]
    assert len(set(hashes[1:])) == 4


def test_the_modules_of_this_package_are_found() -> None:
    root = Path(__file__).parents[2]
    sources = Sources(root)
    page = root / "book" / "anomaly" / "measuring.md"
    assert root / "gadkit" / "anomaly" / "metrics.py" in Fingerprints(root).files(page)
    assert "gadkit.factory.parts.metal" in sources.closure(["gadkit.factory"])
    assert sources.closure(["gadkit.losses.contrastive"]).isdisjoint({"gadkit.viz", "gadkit.cli", "gadkit.factory"})


def test_a_build_executes_what_has_changed(tmp_path: Path) -> None:
    cell = "import gadkit.{0}\nfrom pathlib import Path\nPath('log').open('a').write(gadkit.{0}.NAME + '\\n')"
    root = write(
        tmp_path,
        {
            "gadkit/__init__.py": "",
            "gadkit/left.py": "NAME = 'left'\n",
            "gadkit/right.py": "NAME = 'right'\n",
            "requirements.txt": "",
            "conf.py": "extensions = ['myst_nb', 'fingerprint']\nnb_execution_mode = 'cache'\n"
            "nb_execution_raise_on_error = True\nexclude_patterns = ['_build']\n",
            "index.md": "# Book\n\n```{toctree}\nleft\nright\n```\n",
            "left.md": PAGE % cell.format("left"),
            "right.md": PAGE % cell.format("right"),
        },
    )
    extensions = Path(__file__).parents[2] / "book" / "_ext"
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{extensions}"}
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "dummy", str(root), str(root / "_build" / "out")]

    def build() -> list[str]:
        (root / "log").write_text("")
        done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
        assert "encryption" not in done.stderr, "kernels that others can listen to, or that say so once a page"
        return sorted((root / "log").read_text().split())

    assert build() == ["left", "right"]
    write(root, {"gadkit/left.py": "NAME = 'west'\n", "right.md": (root / "right.md").read_text() + "\nMore prose.\n"})
    assert build() == ["west"]
    write(root, {"gadkit/left.py": "NAME = 'left'\n"})
    assert build() == []  # it is as it was at first, and so are its results
