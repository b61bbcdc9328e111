"""The widgets of the pages: what the directive writes, when data are made anew, and each of them in a real browser."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import live
from chromium import PROGRAM, Chromium

ROOT = Path(__file__).parents[2]
EXTENSIONS = ROOT / "book" / "_ext"
ALT = "A part with a dot on it, and its mask around it."
WIDGET = f"""```{{live}} sam
:alt: {ALT}
:button: Click & see
A part < another.
```
"""


def test_a_widget_is_a_picture_until_somebody_presses_the_button(tmp_path: Path) -> None:
    wrong = (("} sam", "} tank"), (":button: Click & see\n", ""), (ALT, "sam.png"), ("A part < another.\n", ""))
    page = "\n".join(["# Page\n", WIDGET, *(WIDGET.replace(*change) for change in wrong)])
    (tmp_path / "book").mkdir()
    (tmp_path / "index.md").write_text("# Home\n\n```{toctree}\nbook/page\n```\n", encoding="utf-8")
    (tmp_path / "book" / "page.md").write_text(page, encoding="utf-8")
    (tmp_path / "conf.py").write_text("extensions = ['myst_parser', 'live']\n", encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "pseudoxml", str(tmp_path), str(tmp_path / "out")]
    paths = os.pathsep.join(map(str, (EXTENSIONS, ROOT)))  # pseudoxml is no format for which data are made
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=True)
    told = "live: expected one of scratch, neighbours, sam, with alt, button and a caption, got"
    assert done.stderr.count(told) == len(wrong), done.stderr
    page = (tmp_path / "out" / "book" / "page.pseudoxml").read_text(encoding="utf-8")
    assert page.count("figure") == 2  # its beginning and its end
    assert f'<img src="../_static/live/sam.png" alt="{ALT}">' in page
    assert '<button type="button" hidden>Click &amp; see</button>' in page
    assert "<figcaption>A part &lt; another.</figcaption>" in page


def test_the_data_are_made_anew_when_something_behind_them_has_changed(tmp_path: Path) -> None:
    files = {
        "demo/make.py": "from gadkit import used\n",
        "gadkit/used.py": "",
        "gadkit/other.py": "",
        **dict.fromkeys(["demo/sam.js", "requirements.txt", "gadkit/assets/engine.js"], ""),
        **{f"gadkit/assets/{name}": "" for name in live.WEIGHTS},
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    states = [live.state(tmp_path)]
    (tmp_path / "gadkit" / "other.py").write_text("# nothing that the widgets need\n")
    assert live.state(tmp_path) == states[0]
    for name in files.keys() - {"gadkit/other.py"}:
        (tmp_path / name).write_text("# changed\n" + files[name])
        states.append(live.state(tmp_path))
    assert len({*states}) == len(files)


@pytest.mark.slow
@pytest.mark.skipif(not PROGRAM, reason="no Chromium is installed")
def test_every_widget_answers_from_a_disk(tmp_path: Path) -> None:
    from demo.make import make

    make(tmp_path / "live")
    words = {"base": "live/", "alt": "", "button": "Start", "caption": "A caption"}
    figures = "".join(live.FIGURE.format(name=name, **words) for name in live.WIDGETS)
    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset=utf-8><body>{figures}", encoding="utf-8")
    page = Chromium(tmp_path / "profile")
    try:
        page.look(900)
        page.open(tmp_path / "page.html")
        assert all(name in str(page.requests) for name in live.WIDGETS)  # the pictures,
        assert "runtime.js" not in str(page.requests)  # and nothing large before a click
        for name in live.WIDGETS:
            page.run(f"document.querySelector('[data-live={name}] > .live-bar button').click()")
            page.wait(f"!document.querySelector('[data-live={name}] > .live-bar button')")
        _draw(page)
        _remember(page)
        _click(page)
        assert not page.errors
        assert all(address.startswith(("file:", "blob:", "data:")) for address in page.requests)
    finally:
        page.close()


def _mouse(page: Chromium, widget: str, places: list[tuple[float, float]]) -> None:
    """Press the button at the first place on a widget's first canvas, move through the others, let go."""
    box = f"document.querySelector('[data-live={widget}] canvas').getBoundingClientRect()"
    page.run(f"scrollBy(0, {box}.top - 50)")
    left, top, width = (page.run(f"{box}.{side}") for side in ("left", "top", "width"))
    places = [(left + x * width, top + y * width) for x, y in places]
    kinds = ["mousePressed", *["mouseMoved"] * (len(places) - 1), "mouseReleased"]
    for kind, (x, y) in zip(kinds, [*places, places[-1]], strict=True):
        down = int(kind != "mouseReleased")
        page("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=down, clickCount=1)


def _draw(page: Chromium) -> None:
    verdict = "document.querySelector('[data-live=scratch] .live-verdict')"
    page.wait(f"{verdict}.dataset.verdict === 'normal'")
    _mouse(page, "scratch", [(0.4 + 0.02 * i, 0.3 + 0.04 * i) for i in range(10)])
    page.wait(f"{verdict}.dataset.verdict === 'anomalous'")


def _remember(page: Chromium) -> None:
    body = "document.querySelector('[data-live=neighbours] .live-body')"
    first = page.run(f"JSON.parse({body}.dataset.scores)")
    page.run("[...document.querySelectorAll('.live-pick')].slice(1).forEach(button => button.click())")
    last = page.run(f"JSON.parse({body}.dataset.scores)")
    assert all(new <= old + 1e-6 for old, new in zip(first, last, strict=True))  # more to compare with
    line = float(page.run(f"{body}.dataset.line"))
    assert max(last[:2]) < last[2] < line < min(last[3:])  # as the page says: good parts, the scratch, the line
    page.run(f"window.slider = {body}.querySelector('input'); slider.value = 1000")
    page.run("slider.dispatchEvent(new Event('input'))")
    assert " 0 of 4 defects, and 0 of 2 new good parts" in page.run(f"{body}.textContent")


def _click(page: Chromium) -> None:
    from gadkit import zoo
    from gadkit.factory import scenes

    _mouse(page, "sam", [(0.6, 0.4)])
    body = "document.querySelector('[data-live=sam] .live-body')"
    page.wait(f"{body}.dataset.pixels !== undefined")
    image = scenes.render(3, seed=11, size=384, split="development").images[0]
    mask = zoo.load("sam").set_image(image).predict(torch.tensor([[[0.6 * 384, 0.4 * 384]]])).best()
    assert int(page.run(f"{body}.dataset.pixels")) == pytest.approx(int(mask.sum()), rel=0.02)
