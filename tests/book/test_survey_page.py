"""The survey's page: what it counts and draws is what the data hold, and its table works with scripts and without."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from docutils import nodes

import survey
import survey_browser
import survey_drawings
import survey_query
from survey import BOOK, UNKNOWN

PAGE = (BOOK / "survey" / "index.md").read_text(encoding="utf-8")
TABLES = survey.everything()
RECORDS = {record.name: record for table in TABLES.values() for record in table}
ROLES = re.findall(r"\{(counted|named|stated)\}`(.+?)`", PAGE)


class Cells(HTMLParser):
    """The rows of a table: for each the texts of its cells by column, and the links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[dict[str, str]] = []
        self.links: list[str] = []
        self.column = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag == "tr":
            self.rows.append({})
        if tag in ("td", "th"):
            self.column = given["data-column"] or ""
            self.rows[-1][self.column] = ""
        if tag == "a":
            self.links.append(given["href"] or "")

    def handle_data(self, data: str) -> None:
        if self.column:
            self.rows[-1][self.column] += data

    def handle_endtag(self, tag: str) -> None:
        self.column = "" if tag in ("td", "th") else self.column


def test_counts_are_those_of_the_data() -> None:
    detectors = TABLES["detectors"]
    cells = [cell for record in RECORDS.values() for cell in record.cells.values()]
    assert survey_query.count("all") == len(RECORDS)
    assert survey_query.count("words + objects") == len(TABLES["words"]) + len(TABLES["objects"])
    assert survey_query.count("cells") == len(cells) == len(RECORDS) * len(survey.COLUMNS)
    assert survey_query.count("cells unknown") == sum(cell.value == UNKNOWN for cell in cells)
    assert survey_query.count("cells placed") == sum(cell.where != "" for cell in cells)
    free = [record.name for record in detectors if record.cells["supervision"].value == "training-free"]
    assert survey_query.count("detectors: supervision = training-free") == len(free)
    assert survey_query.names("detectors: supervision = training-free") == f"{', '.join(free[:-1])} and {free[-1]}"
    numbers = [record.cells["size"].value for record in detectors]
    large = sum(isinstance(number, int) and number > 400 for number in numbers)
    assert survey_query.count("detectors: size > 400") == large > 0
    late = sum(record.cells["year"].value > 2024 for record in detectors)
    assert survey_query.count("detectors: year > 2024") + survey_query.count("detectors: year < 2025") == len(detectors)
    assert survey_query.count("detectors: year > 2024") == late
    assert survey_query.count("all: supervision != self") == len(RECORDS) - survey_query.count(
        "all: supervision = self"
    )
    assert survey_query.count("all: here") == sum(bool(record.here) for record in RECORDS.values())


def test_descent_goes_through_others() -> None:
    assert "APRIL-GAN" in survey_query.names("detectors: from CLIP")  # by WinCLIP and OpenCLIP
    assert survey_query.names("words: from CLIP, year < 2022") == "CLIP at 336 pixels and OpenCLIP"
    assert survey_query.names("words: from SigLIP 2") == "none"
    assert survey_query.names("objects: from SAM 2") == "SAM 3"
    assert survey_query.statement("UniADet: parameters") == 0.002


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("sounds", "table: expected one of all, methods"),
        ("words: colour = red", "field: expected one of family, year"),
        ("words: from Mars", "name: expected one of"),
        ("words: large", "expected a condition such as"),
    ],
)
def test_questions_that_mean_nothing_are_named(question: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        survey_query.count(question)


def test_what_is_no_cell_is_named() -> None:
    with pytest.raises(ValueError, match="name: expected one of"):
        survey_query.statement("Mars: year")
    with pytest.raises(ValueError, match="field: expected one of"):
        survey_query.statement("CLIP: colour")


@pytest.mark.parametrize(("role", "question"), ROLES)
def test_every_question_of_the_page_has_an_answer(role: str, question: str) -> None:
    if role == "counted":
        assert survey_query.count(question) >= 0
    elif role == "named":
        assert survey_query.names(question) != "none"
    else:
        assert survey_query.statement(question) != UNKNOWN


def test_the_page_states_no_count_of_its_own() -> None:
    prose = re.sub(r"\{\w+\}`.+?`|^:.*$|\b(19|20)\d\d\b", "", PAGE, flags=re.MULTILINE)
    assert set(re.findall(r"\d+", prose)) <= {
        "224",
        "240",
        "448",
        "672",
        "3",
        "2",
        "0",
    }  # sizes in pixels, DINOv3, Apache-2.0


def test_what_the_page_concludes_still_holds() -> None:
    """Sentences whose words, not only their numbers, depend on the data."""
    count = survey_query.count
    assert count("detectors: year > 2024") > count("detectors") / 2
    assert count("detectors: family = words, year = 2026") == 0 < count("detectors: family = words, year = 2025")
    trained = [
        r.cells["parameters"].value for r in TABLES["detectors"] if r.cells["parameters"].value not in (0, UNKNOWN)
    ]
    assert [min(trained), max(trained)] == [0.002, survey_query.statement("AdaCLIP: parameters")]
    sizes = {r.cells["size"].value for r in TABLES["detectors"]} - {UNKNOWN}
    assert {size for size in sizes if size < 300} == {224, 240}
    assert not {size for size in sizes if 400 < size < 448}
    old = count("detectors: year < 2025, code = unknown") / count("detectors: year < 2025")
    new = count("detectors: year > 2024, code = unknown") / count("detectors: year > 2024")
    assert abs(old - new) < 0.15  # "no better in new work than in old"


def test_the_large_table_holds_every_cell() -> None:
    page = Cells(survey_browser.records_table("../references.html"))
    assert [row["name"] for row in page.rows[1:]] == list(RECORDS)
    for row in page.rows[1:]:
        for column, cell in RECORDS[row["name"]].cells.items():
            assert row[column] == str(cell.value)
    assert all(link.startswith("../references.html#ref-") for link in page.links)
    assert len(page.links) >= survey_query.count("cells")


def test_figures_stand_beside_their_methods() -> None:
    rows = {row["name"]: row for row in Cells(survey_browser.records_table()).rows[1:]}
    assert "MVTec AD, 1 good part: 97.1" in rows["SubspaceAD"]["figures"]
    assert "first version" not in rows["SubspaceAD"]["figures"]
    assert "MVTec AD, 0 good parts: 91.8" in rows["WinCLIP"]["figures"]
    assert "MVTec AD, 1 good part: 93.1" in rows["WinCLIP"]["figures"]  # WinCLIP+
    assert "mean of 9 industrial sets, 0 good parts: 94.5" in rows["RADIO"]["figures"]
    assert rows["SigLIP 2"]["figures"].endswith("91.1")
    assert rows["MAE"]["figures"] == UNKNOWN
    assert "all good parts: 99.6" in rows["Dinomaly"]["figures"]


def test_every_published_figure_has_a_row() -> None:
    page, numbers = Cells(survey_browser.figures_table()), survey_browser.figures()
    assert len(page.rows) == 1 + len(numbers) == 1 + len(page.links)
    for row, number in zip(page.rows[1:], numbers, strict=True):
        assert (row["method"], row["value"]) == (number["method"], str(number["value"]))
        assert row["shots"] == ("all" if number["shots"] is None else str(number["shots"]))


def drawn(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    return ["".join(text.itertext()) for text in root.iter("text")]


def test_the_timeline_has_every_record_once_and_every_year() -> None:
    texts = drawn(survey_drawings.timeline())
    assert sorted(set(texts) & set(RECORDS)) == sorted(RECORDS)
    assert len(texts) == len(RECORDS) + len(TABLES) + len({r.cells["year"].value for r in RECORDS.values()})
    svg = survey_drawings.timeline()
    assert svg.count('class="here"') == survey_query.count("all: here")
    height = float(re.search(r'viewBox="0 0 760 (\d+)"', svg)[1])
    assert all(0 < float(y) <= height for y in re.findall(r'<text x="\d+" y="(\d+)"', svg))


def test_the_trees_have_every_record_with_relatives_once() -> None:
    lines = survey_drawings.trees()
    parents = {record.parents[0] for record in RECORDS.values() if record.parents}
    related = {name for name, record in RECORDS.items() if record.parents} | parents
    assert sorted(record.name for record, _ in lines) == sorted(related)
    above: dict[int, str] = {}
    for record, depth in lines:
        above[depth] = record.name
        assert (record.parents[0] if record.parents else None) == (above[depth - 1] if depth else None)
    texts = drawn(survey_drawings.family_tree())
    assert "INP-Former 2025, also DINOv2 with registers" in texts
    assert len(texts) == len(lines)


def test_drawings_take_the_page_s_colours() -> None:
    for svg in (survey_drawings.timeline(), survey_drawings.family_tree()):
        assert not re.search(r"fill=|stroke=|style=|#[0-9a-f]{3}", svg)
    sheet = (BOOK / "_static" / "book.css").read_text(encoding="utf-8")
    rules = re.findall(r"^\.survey-(?:drawing|browser|controls).*?^}", sheet, re.MULTILINE | re.DOTALL)
    for colour in re.findall(r"(?:fill|stroke|color): (.*);", "".join(rules)):
        assert colour == "none" or colour.startswith("var(--pst-color"), colour


def test_a_role_that_asks_wrongly_is_an_error_of_the_page() -> None:
    reported = []
    settings = SimpleNamespace(env=SimpleNamespace(note_dependency=lambda path: None))
    inliner = SimpleNamespace(
        document=SimpleNamespace(settings=settings),
        reporter=SimpleNamespace(error=lambda message, line: reported.append(message) or nodes.system_message()),
        problematic=lambda raw, text, message: nodes.problematic(raw, text),
    )
    role = survey_query._role(survey_query.count)
    (number,), _ = role("counted", "", "detectors", 1, inliner)
    assert number.astext() == str(len(TABLES["detectors"]))
    (wrong,), _ = role("counted", "", "sounds", 1, inliner)
    assert isinstance(wrong, nodes.problematic)
    assert "expected one of all" in reported[0]


DRIVER = """
const form = document.querySelector("form"), search = form.querySelector("input"), said = {};
const visible = () => [...document.querySelectorAll("tbody tr")].filter((row) => !row.hidden);
const names = () => visible().map((row) => row.cells[0].textContent);
const press = (column) => document.querySelector(`thead [data-column=${column}] button`).click();
const enter = (field, value) => { field.value = value; field.dispatchEvent(new Event("input", { bubbles: true })); };
said.hidden = form.hidden; said.columns = [...document.querySelectorAll("thead th")].filter((th) => !th.hidden).length;
enter(form.querySelector("[data-view]"), form.querySelector("[data-view] option:last-child").value);
said.all = [...document.querySelectorAll("thead th")].filter((th) => !th.hidden).length;
enter(form.querySelector("select[data-column=part]"), "objects"); said.objects = names();
said.status = form.querySelector("[role=status]").textContent;
press("parameters"); said.up = visible().map((row) => row.querySelector("[data-column=parameters]").textContent);
press("parameters"); said.down = visible().map((row) => row.querySelector("[data-column=parameters]").textContent);
said.sort = document.querySelector("thead [data-column=parameters]").getAttribute("aria-sort");
enter(search, "clip words"); said.found = names(); enter(search, ""); form.reset();
setTimeout(() => { said.reset = names(); document.body.textContent = JSON.stringify(said); }, 100);
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="no browser")
def test_the_table_is_sorted_and_filtered_in_a_browser(tmp_path: Path) -> None:
    script = (BOOK / "_static" / "survey.js").read_text(encoding="utf-8")
    body = f"{survey_browser.records_table()}<script>{script}</script><script>{DRIVER}</script>"
    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset=utf-8><body>{body}", encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    command = ["chromium", *flags, f"--user-data-dir={tmp_path}/profile", (tmp_path / "page.html").as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    said = json.loads(re.search(r"<body>(.*)</body>", shown, re.DOTALL)[1].replace("&lt;", "<").replace("&amp;", "&"))
    assert said["hidden"] is False
    assert said["columns"] == len(survey_browser.VIEWS["what it is"]) < said["all"] == len(survey_browser.RECORDS)
    assert said["objects"] == [record.name for record in TABLES["objects"]]
    assert said["status"] == f"{len(TABLES['objects'])} of {len(RECORDS)} rows"
    known = sorted(r.cells["parameters"].value for r in TABLES["objects"] if r.cells["parameters"].value != UNKNOWN)
    missing = [UNKNOWN] * (len(TABLES["objects"]) - len(known))
    assert said["up"] == [*map(str, known), *missing]
    assert said["down"] == [*map(str, reversed(known)), *missing]
    assert said["sort"] == "descending"
    assert said["found"] == ["OWL-ViT"]  # the one among those that see objects whose row has both words
    assert said["reset"] == list(RECORDS)


def test_the_script_asks_for_nothing_from_elsewhere() -> None:
    script = (BOOK / "_static" / "survey.js").read_text(encoding="utf-8")
    assert not re.search(r"https?:|import |fetch|XMLHttp|innerHTML|eval", script)
