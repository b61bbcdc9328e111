"""Pictures reach the pages as WebP where that is smaller, transparent where they were, and are converted once."""

import base64
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

import webp

PYTHON = {"language_info": {"name": "python"}}
ROOT = Path(__file__).parents[2]
EXTENSIONS, BUILT = ROOT / "book" / "_ext", ROOT / "_build" / "html"
HEAVIEST = 2_000_000  # bytes of pictures on a page
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
DEEP = Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64))  # 16 bits a pixel


def photograph(channels: int = 3) -> Image.Image:
    """Noise on a slope, as cameras see it: large as PNG."""
    noise = np.random.default_rng(0).normal(0, 6, (96, 96, channels))
    pixels = np.clip(np.linspace(40, 200, 96)[None, :, None] + noise, 0, 255).astype(np.uint8)
    if channels == 4:
        pixels[..., 3] = 255
        pixels[:48, :, 3] = 0
    return Image.fromarray(pixels)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def reopened(data: bytes, mode: str) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "WEBP"
        return np.asarray(image.convert(mode)).astype(float)


def test_a_photograph_is_smaller_and_looks_the_same() -> None:
    light = webp.webp(png(photograph()))
    assert 0 < len(light) < len(png(photograph())) / 2
    assert abs(reopened(light, "RGB") - np.asarray(photograph())).mean() < 6  # of 255; the noise itself has 6
    assert light == webp.webp(png(photograph()))


def test_what_is_transparent_stays_so() -> None:
    assert (reopened(webp.webp(png(photograph(4))), "RGBA")[..., 3] == np.asarray(photograph(4))[..., 3]).all()
    palette = photograph().quantize(8)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=0)
    if light := webp.webp(buffer.getvalue()):
        expected = Image.open(io.BytesIO(buffer.getvalue())).convert("RGBA")
        assert (reopened(light, "RGBA")[..., 3] == np.asarray(expected)[..., 3]).all()


def test_a_chart_loses_nothing() -> None:
    pixels = np.full((300, 400, 3), 255, np.uint8)
    pixels[20:280:7, 30:360] = (200, 30, 30)
    light = webp.webp(png(Image.fromarray(pixels)))
    assert light
    assert (reopened(light, "RGB") == pixels).all()


def test_what_would_not_gain_stays_as_it_is() -> None:
    assert webp.webp(png(DEEP)) == b""  # WebP has 8 bits
    light = webp.webp(png(Image.new("RGB", (64, 64), "red")))
    assert light
    assert webp.webp(light) == b""  # nothing to win


def test_a_build_converts_each_picture_once(tmp_path: Path) -> None:
    shown = {"mystnb": {"image": {"alt": "A cell's picture"}, "figure": {"caption": "A caption."}}}
    stored = new_output("display_data", data={"image/png": base64.b64encode(png(photograph(4))).decode()})
    cells = [new_markdown_cell("# Cells"), new_code_cell("draw()", metadata=shown, outputs=[stored])]
    nbformat.write(new_notebook(cells=cells, metadata=PYTHON), tmp_path / "cells.ipynb")
    photograph().save(tmp_path / "photo.png")
    DEEP.save(tmp_path / "deep.png")
    (tmp_path / "drawing.svg").write_text(SVG)
    text = "# Page\n\n![A photograph](photo.png)\n\n![A depth](deep.png)\n\n![A drawing](drawing.svg)\n"
    text += "\n```{toctree}\ncells\n```\n"
    (tmp_path / "index.md").write_text(text)
    settings = ("extensions = ['myst_nb', 'webp']", "nb_execution_mode = 'off'", "exclude_patterns = ['_build']")
    (tmp_path / "conf.py").write_text("\n".join(settings))
    paths = os.pathsep.join([str(EXTENSIONS), str(EXTENSIONS.parents[1])])
    out = tmp_path / "_build" / "html"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", "-d", f"{tmp_path}/_build/.doctrees"]

    def pictures() -> dict[str, tuple[str, int]]:
        subprocess.run([*command, str(tmp_path), str(out)], env=os.environ | {"PYTHONPATH": paths}, check=True)
        page = "".join((out / f"{name}.html").read_text(encoding="utf-8") for name in ("index", "cells"))
        kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "_build" / ".pictures").iterdir()}
        shown = re.findall(r'<img alt="A (\w+)[^"]*" src="(_images/[^"]+)"', page)
        assert all((out / source).is_file() for _, source in shown)
        return {name: (source.rpartition(".")[2], kept.get(Path(source).name, 0)) for name, source in shown}

    first = pictures()
    kinds = {name: kind for name, (kind, _) in first.items()}
    assert kinds == {"photograph": "webp", "depth": "png", "drawing": "svg", "cell": "webp"}
    (tmp_path / "index.md").write_text(text + "\nMore prose.\n")
    assert pictures() == first  # the file of the first build, not a new one


@pytest.mark.skipif(not BUILT.exists(), reason="the book is not built")
def test_no_page_is_heavy() -> None:
    for page in sorted((BUILT / "book").rglob("*.html")):
        sources = set(re.findall(r'<img [^>]*?src="((?!data:|https?:)[^"]+)"', page.read_text(encoding="utf-8")))
        assert sum((page.parent / source).stat().st_size for source in sources) < HEAVIEST, page
