"""The survey's tables: every cell cited, every rule kept, and a page that reads well narrow or wide, light or dark."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from pybtex.database import parse_file

import survey
from gadkit.anomaly.detectors import DETECTORS
from gadkit.weights import Weights
from gadkit.zoo.rows import ROWS
from survey import BOOK, COLUMNS, FAMILIES, UNKNOWN

TABLES = sorted(path.stem for path in (BOOK / "survey").glob("*.yml"))
RECORDS = {record.name: record for table in survey.everything().values() for record in table}
NAMED_BY_THE_BOOK = """Context encoder, Colourisation, Jigsaw, Relative position, Rotation, DeepCluster,
Shuffle and learn, Audio-visual correspondence, CMC, SimCLR, MoCo, MoCo v3, BYOL, SwAV, DINO, iBOT, DINOv2, MAE, BEiT,
SimMIM, I-JEPA, ViT, ConvNeXt, Swin, Hierarchical k-means"""


class Reader(HTMLParser):
    """What a page holds: its links with their titles and texts, and the tags that are open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[dict[str, str]] = []
        self.rows = 0
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.rows += tag == "tr"
        if tag == "a":
            self.links.append({**dict(attributes), "text": ""})

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "a":
            self.links[-1]["text"] += data

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_keep_their_rules(name: str) -> None:
    records = survey.load(name)
    assert len(records) > 5
    for record in records:
        assert record.cells.keys() == COLUMNS.keys()
        for cell in record.cells.values():
            assert str(cell.value).strip()
            assert cell.cite


def test_every_method_that_the_first_half_names_is_there() -> None:
    names = {record.name for record in survey.load()}
    assert {name.strip() for name in NAMED_BY_THE_BOOK.replace("\n", " ").split(",")} <= names


def test_the_facts_agree_with_the_bibliography() -> None:
    entries = parse_file(BOOK / "references.bib").entries
    for record in RECORDS.values():
        year, venue = record.cells["year"], record.cells["venue"]
        entry = entries[year.cite[0]]
        assert str(year.value) == entry.fields["year"], record.name
        full = next(entry.fields[x] for x in ("booktitle", "journal", "howpublished") if x in entry.fields)
        initials = {
            "CVPR": "Computer Vision and Pattern Recognition",
            "ICCV": "International Conference on Computer Vision",
            "ECCV": "ECCV",
            "ICLR": "International Conference on Learning Representations",
            "ICML": "International Conference on Machine Learning",
            "NeurIPS": "Advances in Neural Information Processing Systems",
            "TMLR": "Transactions on Machine Learning Research",
            "EMNLP": "Empirical Methods in Natural Language Processing",
            "WACV": "Winter Conference on Applications of Computer Vision",
        }
        full = full.replace("{", "").replace("}", "").replace("European Conference on Computer Vision", "ECCV")
        assert venue.value in full or initials[venue.value] in full, record.name


def test_references_have_short_names() -> None:
    names = survey.references()
    assert names.keys() == parse_file(BOOK / "references.bib").entries.keys()
    assert names["chen2020simclr"] == "Chen et al. 2020"
    assert names["wang2020understanding"] == "Wang and Isola 2020"
    assert names["oord2018cpc"] == "van den Oord et al. 2018"
    assert names["arandjelovic2017look"] == "Arandjelović and Zisserman 2017"
    assert names["code-simclr"] == "Google Research 2023"


def test_every_published_network_of_the_zoo_has_a_record() -> None:
    published = {row.name for row in ROWS if isinstance(row.paper, Weights) and not row.paper.options.get("random")}
    named = {name for record in RECORDS.values() for name in record.here}
    assert published <= named
    assert named <= {row.name for row in ROWS} | set(DETECTORS)


def test_no_record_stands_twice_and_every_parent_has_a_record() -> None:
    tables = survey.everything()
    assert tables.keys() == set(TABLES) == survey.TABLES.keys()
    assert len(RECORDS) == sum(map(len, tables.values()))
    assert all({record.family for record in table} == set(survey.TABLES[name]) for name, table in tables.items())
    assert all(parent in RECORDS for record in RECORDS.values() for parent in record.parents)
    assert survey.ancestors("INP-Former", RECORDS) >= {"Dinomaly", "DINOv2", "DINO", "iBOT"}


def test_new_records_say_where_each_fact_was_read() -> None:
    newer = [record for name in ("words", "objects", "detectors") for record in survey.load(name)]
    for record in newer:
        for field, cell in record.cells.items():
            assert cell.where, f"{record.name}: {field}"


def test_a_licence_is_never_guessed() -> None:
    known = ("Apache-2.0", "MIT", "BSD", "GPL", "CC BY", "DINOv3 License", "NVIDIA", "none stated", "none published")
    other = ("UC Berkeley's", "none needed", survey.UNKNOWN)
    for record in RECORDS.values():
        for field in ("code", "weights"):
            assert str(record.cells[field].value).startswith((*known, *other)), f"{record.name}: {field}"


@pytest.fixture
def spoil(tmp_path: Path) -> Callable[..., Path]:
    """A copy of the book's data in which one field of a table's first record, or the whole list, is changed."""

    def spoilt(change: Callable[[list[dict]], object], name: str = "methods") -> Path:
        shutil.copy(BOOK / "references.bib", tmp_path)
        shutil.copytree(BOOK / "survey", tmp_path / "survey")
        records = yaml.safe_load((BOOK / "survey" / f"{name}.yml").read_text(encoding="utf-8"))
        change(records)
        (tmp_path / "survey" / f"{name}.yml").write_text(yaml.safe_dump(records), encoding="utf-8")
        return tmp_path

    return spoilt


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r[0].pop("gives"), r"Autoencoder: expected the fields .*wrong: \['gives'\]"),
        (lambda r: r[0].update(colour=["red", "he2022mae"]), r"wrong: \['colour'\]"),
        (lambda r: r[0].update(name=" "), "records with a name"),
        (lambda r: r.append("SimCLR"), "records with a name, got 'SimCLR'"),
        (lambda r: r[0].update(family="magic"), "family: expected one of generation"),
        (lambda r: r[0].update(venue=["", "he2022mae"]), "venue: expected words, got ''"),
        (lambda r: r[0].update(venue=[None, "he2022mae"]), "venue: expected words, got None"),
        (lambda r: r[0].update(venue="CVPR"), r"venue: expected \[what, keys of the references, place\], got 'CVPR'"),
        (lambda r: r[0].update(gives=["one", "two", "three", "he2022mae"]), "gives: expected .what, keys"),
        (lambda r: r[0].update(gives=["one", "he2022mae", " "]), "gives: expected a place in words, got ' '"),
        (lambda r: r[0].update(gives=["one", "he2022mae", 3]), "gives: expected a place in words, got 3"),
        (lambda r: r[0].update(here="mae"), "here: expected a list of names, got 'mae'"),
        (lambda r: r[0].update(venue=["CVPR", "he2022mea"]), r"venue: expected keys .* got \['he2022mea'\]"),
        (lambda r: r[0].update(venue=["CVPR", None]), "venue: expected keys of the bibliography, got none"),
        (lambda r: r[0].update(year=["2006", "he2022mae"]), "year: expected a number from 1950 to 2100, got '2006'"),
        (lambda r: r[0].update(year=[206, "he2022mae"]), "year: expected a number .* got 206"),
        (lambda r: r[0].update(year=["unknown", "he2022mae"]), "year: expected a number .* got 'unknown'"),
        (lambda r: r[0].update(parameters=[True, "he2022mae"]), "parameters: expected a number .* got True"),
        (lambda r: r[0].update(parameters=[-1, "he2022mae"]), "parameters: expected a number from 0 to"),
        (lambda r: r[0].update(size=["224", "he2022mae"]), "size: expected a number from 16 to 4096, got '224'"),
        (lambda r: r[0].update(supervision=["magic", "he2022mae"]), "supervision: expected one of self"),
        (lambda r: r.append(r[-1]), "every name once, got Hierarchical k-means again"),
        (lambda r: r.insert(0, r.pop()), "Autoencoder: expected families in their order"),
        (lambda r: r.insert(0, r.pop(4)), "Autoencoder: expected families in their order, and years"),
    ],
)
def test_data_that_break_a_rule_are_named(spoil: Callable, change: Callable, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        survey.load(book=spoil(change))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r[0].update(name="MAE"), "every name once, got MAE again"),
        (lambda r: r[0].update(builds=["Mirrors", "he2022mae"]), "DeViSE: builds: expected names of records, got 'M"),
        (lambda r: r[0].update(builds=["DINOv3", "he2022mae"]), "DeViSE: builds: expected earlier ones, got DINOv3"),
        (lambda r: r[3].update(builds=["OpenCLIP", "he2022mae"]), "builds: expected no circle"),
    ],
)
def test_tables_that_contradict_one_another_are_named(spoil: Callable, change: Callable, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        survey.everything(spoil(change, "words"))


def test_data_that_keep_the_rules_pass(spoil: Callable) -> None:
    assert survey.load(book=spoil(lambda records: records[0].update(code=[UNKNOWN, "he2022mae"])))
    with pytest.raises(FileNotFoundError, match="no table 'sounds'"):
        survey.load("sounds")


def test_every_entry_of_the_page_links_to_its_reference() -> None:
    records, page = survey.load(), Reader(survey.table())
    assert page.open == []
    assert page.rows == 1 + len(records) + len({record.family for record in records})
    assert len(page.links) == len(records) * len(COLUMNS)
    cells = [cell for record in records for cell in record.cells.values()]
    for link, cell in zip(page.links, cells, strict=True):
        assert link["href"] == f"references.html#ref-{cell.cite[0]}"
        assert link["text"] == str(cell.value)
        assert link["title"].partition(": ")[0].count(";") == len(cell.cite) - 1
        assert link["title"].endswith(f": {cell.where}" if cell.where else link["title"][-1])
        assert (link.get("class") == "unknown") == (cell.value == UNKNOWN)


def test_families_and_columns_are_chosen() -> None:
    page = survey.table(("contrastive", "clustering"), ("year", "gives"), bibliography="../references.html")
    assert Reader(page).rows == 1 + 2 + 5
    assert "SwAV" in page
    assert "DINO" not in page.replace("DINO's", "")
    assert COLUMNS["gives"] in page
    assert COLUMNS["venue"] not in page
    assert 'href="../references.html#ref-' in page
    assert survey.table() == survey.table(FAMILIES)
    with pytest.raises(ValueError, match=r"family: expected some of generation, .* got magic"):
        survey.table(["magic"])
    with pytest.raises(ValueError, match=r"column: expected some of year, .* got colour"):
        survey.table(columns=("year", "colour"))


def test_the_table_follows_the_reader_s_theme_and_scrolls_inside_itself() -> None:
    sheet = (BOOK / "_static" / "book.css").read_text(encoding="utf-8")
    style = "".join(re.findall(r"^\.survey.*?^}", sheet, re.M | re.S))
    assert "overflow-x: auto" in style
    assert "position: sticky" in style
    for colour in re.findall(r"color: (.*);", style):
        assert colour.startswith(("var(--pst-color", "inherit"))
    page = survey.table()
    assert 'tabindex="0"' in page  # a keyboard can scroll it
    assert 'aria-label="Survey of methods"' in page


def test_text_is_escaped(spoil: Callable) -> None:
    book = spoil(lambda records: records[0].update(name="<b>", gives=["a < b & c", "he2022mae"]))
    page = survey.table(["generation"], book=book)
    assert "&lt;b&gt;" in page
    assert "a &lt; b &amp; c" in page


def test_the_directive_draws_a_table_that_links_to_the_references(tmp_path: Path) -> None:
    (tmp_path / "book" / "part").mkdir(parents=True)
    page = "# Page\n\n```{survey}\n:families: contrastive\n:columns: year, venue\n```\n"
    for name, text in {
        "conf.py": "extensions = ['myst_parser', 'survey']\n",
        "index.md": "# Book\n\n```{toctree}\nbook/references\nbook/part/page\n```\n",
        "book/references.md": "# References\n",
        "book/part/page.md": page,
    }.items():
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(tmp_path), str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": str(BOOK / "_ext")}
    subprocess.run(command, env=environment, check=True)
    expected = survey.table(["contrastive"], ["year", "venue"], bibliography="../references.html")
    assert expected in (tmp_path / "out" / "book" / "part" / "page.html").read_text(encoding="utf-8")
    (tmp_path / "book" / "part" / "page.md").write_text(page.replace("venue", "colour"))
    wrong = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert wrong.returncode != 0
    assert "column: expected some of year" in wrong.stderr
