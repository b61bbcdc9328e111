"""README, CONTRIBUTING and the pages name commands, modules and files that exist."""

import ast
import re
from pathlib import Path

import pytest
from test_architecture import FLOOR

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "book").rglob("*.md"))]
CODE = re.compile(r"^```\w*\n(.*?)^```|(?<!`)`([^`\n]+)`(?!`)", re.MULTILINE | re.DOTALL)


def code_of(path: Path) -> str:
    """What a document writes as code, in a line or as a block of no particular language."""
    return "\n".join("".join(match.groups("")) for match in CODE.finditer(path.read_text(encoding="utf-8")))


def test_commands_that_are_named_exist() -> None:
    from gadkit.cli import parser

    (commands,) = (action.choices for action in parser()._actions if action.dest == "COMMAND" or action.choices)
    named = {word for path in DOCUMENTS for word in re.findall(r"^\s*gadkit ([a-z]+)", code_of(path), re.MULTILINE)}
    assert {"detect", "curate", "train"} <= named
    assert named <= {*commands}


def test_the_readme_s_example_imports_what_there_is() -> None:
    (example,) = re.findall(
        r"^```python\n(.*?)^```", DOCUMENTS[0].read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    imports = [node for node in ast.parse(example).body if isinstance(node, ast.ImportFrom)]
    assert imports
    for node in imports:
        exec(compile(ast.Module([node], []), "README.md", "exec"), {})


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_scripts_that_are_named_exist(path: Path) -> None:
    for name in re.findall(r"python -m ((?:gadkit|benchmarks|cards|coursework|experiments)[\w.]*)", code_of(path)):
        place = ROOT / name.replace(".", "/")
        file = next(file for file in (place / "__main__.py", place.with_suffix(".py")) if file.is_file())
        assert '__name__ == "__main__"' in file.read_text(encoding="utf-8")


def test_files_that_contributing_names_exist() -> None:
    words = re.findall(r"`([\w.]+/[\w./-]*)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    named = {word.rstrip("/") for word in words if not re.search("[A-Z]{4}", word)}
    assert len(named) > 12
    assert not [name for name in named if not (ROOT / name).exists()]


def test_contributing_has_the_floors_of_the_architecture() -> None:
    rows = re.findall(r"^\| (\d) \| (.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    named = {name: int(floor) for floor, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert named.items() <= FLOOR.items()
    rooms = {
        path.stem for path in (ROOT / "gadkit").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    rooms -= {"__init__", "__main__"}
    assert rooms == named.keys()
