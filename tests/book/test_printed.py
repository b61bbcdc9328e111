"""Numbers in prose, held against what the cells of a built page print."""

from pathlib import Path

import pytest

import printed

PAGE = """<p>Of 0.75 and 9.5.</p><div class="cell_output docutils"><div><pre>AUROC 0.8549, 1,234.5 images, -2.25</pre>
</div>
<table><tr><td>.31</td><td>1e-3</td></tr></table><figure><img src="a.png"/>
<figcaption>It is 0.66.</figcaption></figure></div>
<div class="cell_output"><pre>0.7</pre></div>"""


def test_what_cells_print_is_read_without_prose_and_captions() -> None:
    assert sorted(printed.printed(PAGE)) == [-2.25, 0.001, 0.31, 0.7, 0.8549, 1234.5]


@pytest.mark.parametrize("text", ["0.85", "0.855", "0.31", "0.70", "2.25", "\N{MINUS SIGN}2.25", "1234.5"])
def test_a_number_that_an_output_rounds_to_is_not_missing(text: str) -> None:
    assert printed.missing([text], printed.printed(PAGE)) == []


@pytest.mark.parametrize("text", ["0.86", "0.856", "0.75", "0.66", "0.32", "9.5"])
def test_a_number_that_no_output_rounds_to_is_missing(text: str) -> None:
    assert printed.missing(["0.7", text], printed.printed(PAGE)) == [text]


def test_the_command_names_page_and_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = tmp_path / "sources.yml"
    sources.write_text("a/b:\n  cells: '0.85 0.99'\na/c: {}\n", encoding="utf-8")
    monkeypatch.setattr(printed, "SOURCES", sources)
    assert printed.main([str(tmp_path)]) == 2
    (tmp_path / "book" / "a").mkdir(parents=True)
    (tmp_path / "book" / "a" / "b.html").write_text(PAGE, encoding="utf-8")
    assert printed.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == (
        "book/a/b: no cell prints 0.99\n1 of 2 numbers are printed by a cell of their page\n"
    )
    sources.write_text("a/b:\n  cells: '0.85'\n", encoding="utf-8")
    assert printed.main([str(tmp_path)]) == 0
