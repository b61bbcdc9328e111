"""Hidden sources share one button, numbers keep their deviations, facts stand at the foot, no script comes twice."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

EXTENSIONS = Path(__file__).parents[2] / "book" / "_ext"


def cell(name: str, tag: str | None = "hide-input", prints: bool = False) -> nbformat.NotebookNode:
    outputs = [new_output("stream", text=f"print_{name}\n")] if prints else []
    return new_code_cell(f"source_{name}", metadata={"tags": [tag] if tag else []}, outputs=outputs)


def build(folder: Path, cells: list[nbformat.NotebookNode], *extensions: str, **head: str) -> str:
    """The HTML of a page of these cells, by a real build without execution."""
    metadata = {"language_info": {"name": "python"}} | head
    notebook = new_notebook(cells=[new_markdown_cell("# Page"), *cells], metadata=metadata)
    nbformat.write(notebook, folder / "index.ipynb")
    loaded = ["myst_nb", *extensions]
    settings = [f"extensions = {loaded}", "nb_execution_mode = 'off'", "nb_render_markdown_format = 'myst'"]
    (folder / "conf.py").write_text("\n".join(settings))
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(folder), str(folder / "out")]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(EXTENSIONS)}, check=True)
    return (folder / "out" / "index.html").read_text(encoding="utf-8")


def test_hidden_sources_that_follow_one_another_have_one_button(tmp_path: Path) -> None:
    prose, runs = new_markdown_cell("Some prose."), ["a b c", "d", "e f", "g h", "i", "k"]
    cells = [
        *(cell("a"), cell("b"), cell("c", prints=True)),  # an output ends a run
        *(cell("d", prints=True), cell("e"), cell("f")),
        *(prose, cell("g"), cell("h")),  # prose ends a run
        *(cell("x", tag=None), cell("i")),  # so does a source that is shown
        *(cell("y", tag="hide-output"), cell("k", prints=True)),
    ]
    page = build(tmp_path, cells, "house")
    folds = re.findall(r"<details.*?</details>", page, re.S)
    assert [" ".join(re.findall(r"source_(.)", fold)) for fold in folds] == runs
    assert re.findall(r"(?:source|print)_(.)", page) == list("abccddefghxiykk")  # nothing is lost or moved
    assert not any("print_" in fold for fold in folds)
    assert page.count('<div class="cell ') == len(runs) + 2


def test_a_number_and_its_deviation_share_one_line(tmp_path: Path) -> None:
    lines = ["0.93 ± 0.12 are | x", "--- | ---", "0.9 ± 0.1 | -0.1 ± 0.2, 3 / 4 of a / b"]
    stored = new_output("display_data", data={"text/markdown": "| 1 ± 2 | y |\n| --- | --- |\n| 0.95 ± 0.03 | z |"})
    printing = new_code_cell("source", outputs=[stored])
    page = build(tmp_path, [new_markdown_cell("\n".join(f"| {line} |" for line in lines)), printing], "house")
    cells = [re.sub("<.*?>", "", text) for text in re.findall(r"<t[hd][ >].*?</t[hd]>", page)]
    expected = ["0.93_±_0.12 are", "x", "0.9_±_0.1", "-0.1_±_0.2, 3_/_4 of a / b", "1_±_2", "y", "0.95_±_0.03", "z"]
    assert cells == [text.replace("_", "\N{NO-BREAK SPACE}") for text in expected]


def test_no_script_of_live_cells_reaches_a_page(tmp_path: Path) -> None:
    for name in ("without", "with"):
        (tmp_path / name).mkdir()
    assert build(tmp_path / "without", [], "sphinx_thebe").count("const THEBE_JS_URL") == 2  # what is mended
    assert "THEBE" not in (page := build(tmp_path / "with", [], "sphinx_thebe", "house"))
    assert "sphinx-thebe.js" not in page


def test_the_facts_of_a_page_stand_at_its_foot(tmp_path: Path) -> None:
    head = {"gadkit": "gadkit.nn, gadkit.viz", "budget": "1 minute, 2 GB"}
    page = re.sub("<.*?>", "", build(tmp_path, [new_markdown_cell("The last words.")], "house", **head))
    assert page.index("The last words.") < page.index(
        "Explains gadkit.nn · gadkit.viz · budget on two CPU cores: 1 min"
    )
