"""The report is one file that needs nothing else, shows every image with its map, and says what it says in words."""

import base64
import io
import json
import re
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from photographs import Run
from PIL import Image

from gadkit.report import SIDE, Facts, Report
from gadkit.viz import Scale, extremes

ZERO_SHOT, FEW_SHOT = Scale(0.4, 1.0), Scale(0.2, 0.55)


class Page(HTMLParser):
    """All tags with their attributes, in order, and the data for the script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def picture(uri: str) -> Image.Image:
    assert uri.startswith("data:image/jpeg;base64,")
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


@pytest.fixture
def text(run: Run, parts: Path, good: Path, tmp_path: Path) -> str:
    options = ["--normal", good, "--out", tmp_path / "out"]
    code, _, err = run("detect", parts, "--object", "<i>metal</i> nut", *options)
    assert (code, "report.html" in err) == (0, True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "scores.csv"]
    return (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_it_needs_no_other_file_and_no_network(text: str) -> None:
    page = Page(text)
    outside = [
        (tag, name, value) for tag, at in page.tags for name, value in at.items() if name in ("src", "href", "srcset")
    ]
    assert outside
    assert all(tag == "img" and name == "src" and value.startswith("data:") for tag, name, value in outside)
    assert not page.all("link") + page.all("iframe") + page.all("base")
    styles = re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", text)
    assert re.findall(r"https?://[^\"' ]+", styles) == ["http://www.w3.org/2000/svg"], (
        "the name of a format, not an address"
    )
    assert "url(" not in styles
    assert "@import" not in styles
    assert "default-src 'none'" in page.all("meta")[3]["content"]


def test_every_image_stands_beside_its_map_and_both_have_words(text: str, parts: Path) -> None:
    page = Page(text)
    cards = [li for li in page.all("li") if "data-score" in li]
    assert {card["data-path"] for card in cards} == {str(path) for path in parts.rglob("*.png")}
    assert [float(card["data-score"]) for card in cards] == sorted(page.data["scores"], reverse=True)
    images = page.all("img")
    assert len(images) == 2 * len(cards)
    assert all(image["alt"] and str(parts) in image["alt"] for image in images)
    assert {picture(image["src"]).size for image in images} == {(56, 40)}


def test_names_from_outside_stay_text(text: str) -> None:
    assert "<i>" not in text
    assert "&lt;i&gt;metal&lt;/i&gt; nut" in text


def test_the_slider_knows_the_good_parts(text: str) -> None:
    page = Page(text)
    assert len(page.data["normal"]) == 4
    assert page.data["threshold"] == max(page.data["normal"])
    assert any(control.get("type") == "range" and control["aria-label"] for control in page.all("input"))
    verdicts = {li["data-path"]: li["class"] for li in page.all("li") if "data-score" in li}
    assert [path for path, verdict in verdicts.items() if verdict == "anomalous"]
    assert set(verdicts.values()) <= {"anomalous", "normal"}


def test_pictures_are_bounded_and_the_page_says_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gadkit.report.LIMIT", 5)
    with closing(Report(None, ZERO_SHOT)) as report:
        report.add("wide.png", torch.zeros(3, 2, 3000, dtype=torch.uint8), torch.zeros(2, 3000), 2.0)
        for i in range(6):
            report.add(f"{i}.png", torch.full((3, 4, 5), 90, dtype=torch.uint8), torch.rand(4, 5), i / 6)
        text = "".join(report.pages(Facts("Nut", "about", [("Score", "a < b")])))
    page = Page(text)
    assert picture(page.all("img")[0]["src"]).size == (SIDE, 2)
    assert [li["data-path"] for li in page.all("li")] == ["wide.png", "5.png", "4.png", "3.png", "2.png"]
    assert "2 more with lower scores are not pictured" in text
    assert len(page.data["scores"]) == 7
    assert "a &lt; b" in text


def test_good_parts_stay_clear() -> None:
    maps, grey = torch.rand(5, 20, 20) / 10 + 0.3, torch.full((3, 20, 20), 200, dtype=torch.uint8)
    with closing(Report(extremes(maps), ZERO_SHOT)) as report:
        assert report.scale.low == pytest.approx(float(maps.median()), abs=1e-3)
        report.add("good.png", grey, maps[0], 0.1)
        report.add("bad.png", grey, torch.full((20, 20), 0.6), 0.9)
        text = "".join(report.pages(Facts("", "", [])))
    page = Page(text)
    assert f"to {ZERO_SHOT.high:.3f}; half way: {report.scale.middle:.3f}" in text
    colour = [np.ptp(np.asarray(picture(image["src"])).astype(int), axis=2).mean() for image in page.all("img")[1::2]]
    assert colour[0] > 40 > colour[1], "the higher score comes first, and only it is coloured"


def test_without_good_parts_the_colours_stand_for_fixed_values() -> None:
    with closing(Report(None, FEW_SHOT)) as report:
        assert report.scale == FEW_SHOT
        assert "to 0.550, fixed" in "".join(report.pages(Facts("", "", [])))


def test_good_parts_that_are_copies_leave_the_fixed_colours() -> None:
    """Held out, a copy finds itself: all its map is 0, which is no scale."""
    with closing(Report(extremes(torch.zeros(2, 8, 8)), FEW_SHOT)) as report:
        assert report.scale == FEW_SHOT
        assert "to 0.550, fixed" in "".join(report.pages(Facts("", "", [])))
    with pytest.raises(ValueError, match="1 NaN"):
        extremes(torch.tensor([[[0.0, float("nan")]]]))


NASTY = [
    "<script>alert(1)</script>.png",
    "a\nb.png",
    "\"quoted\" 'twice'.png",
    "</script><!--.png",
    "{{ 7 * 7 }}{% raw %}.png",
    "&amp;.png",
    "a/b\u2028c.png",
]


def test_names_cannot_leave_their_place() -> None:
    """Names of files and of the object are text: no tag, no attribute, no line of the script, no template."""
    facts = Facts("<script>x</script>", "</p><b>", [("<i>", "\"'>")], 0.5, [0.1], [f"{name}: <u>" for name in NASTY])
    with closing(Report(None, ZERO_SHOT)) as report:
        for i, name in enumerate(NASTY):
            report.add(name, torch.full((3, 4, 5), 90, dtype=torch.uint8), torch.rand(4, 5), i / 6)
        text = "".join(report.pages(facts))
    page = Page(text)
    assert sorted(li["data-path"] for li in page.all("li") if "data-path" in li) == sorted(NASTY)
    assert {image["alt"].removeprefix("Photograph ") for image in page.all("img")[::2]} == set(NASTY)
    assert len(page.all("script")) == 2
    assert not page.all("b") + page.all("i") + page.all("u")
    assert "49" not in re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", text.split("<body>")[1].split("<script")[0])
    assert page.data == {"scores": [i / 6 for i in range(6, -1, -1)], "normal": [0.1], "threshold": 0.5}


def test_the_page_comes_in_pieces() -> None:
    """A piece never holds more than one image, whatever the number of images."""
    with closing(Report(None, ZERO_SHOT)) as report:
        for i in range(20):
            report.add(f"{i}.png", torch.full((3, 4, 5), 90, dtype=torch.uint8), torch.rand(4, 5), i / 20)
        pieces = list(report.pages(Facts("Nut", "", [])))
    assert max(piece.count("data:image/jpeg") for piece in pieces) == 1
    assert "".join(pieces).count("data:image/jpeg") == 40
