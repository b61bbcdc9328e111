"""On paper photographs are JPEG files that Chromium keeps as they are, and charts stay without loss."""

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pypdf import PdfReader

import pdf
import plates
from chromium import PROGRAM, Chromium

SIDE = 128


def photograph() -> np.ndarray:
    """A slope with the noise of a camera, (h, w, 3)."""
    noise = np.random.default_rng(0).normal(0, 3, (SIDE, SIDE, 3))
    return np.clip(np.linspace(40, 200, SIDE)[None, :, None] + noise, 0, 255).astype(np.uint8)


def chart() -> np.ndarray:
    """Dark bars on white."""
    pixels = np.full((SIDE, SIDE, 3), 255, np.uint8)
    pixels[20:, 10:40] = pixels[70:, 60:90] = (30, 90, 160)
    return pixels


def file(pixels: np.ndarray, kind: str = "WEBP") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"quality": 90} if kind == "WEBP" else {}))
    return buffer.getvalue()


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def test_a_photograph_becomes_light_and_a_chart_stays_as_it_is() -> None:
    heavy = file(photograph())
    light = plates.jpeg(heavy)
    assert len(light) < len(zlib.compress(opened(heavy).astype(np.uint8).tobytes())) / 2
    assert np.abs(opened(light) - opened(heavy)).mean() < 2  # of 255
    assert plates.jpeg(file(chart(), "PNG")) == b""


def test_what_is_transparent_is_white_on_paper() -> None:
    opaque = np.repeat([[255], [0]], SIDE // 2, axis=0)[..., None].repeat(SIDE, axis=1).astype(np.uint8)
    light = opened(plates.jpeg(file(np.concatenate([photograph(), opaque], 2), "PNG")))
    assert light[-8:].min() > 250
    assert light[:8].mean() < 200


@pytest.mark.skipif(not PROGRAM, reason="no Chromium is installed")
def test_chromium_keeps_the_bytes_of_a_photograph(tmp_path: Path) -> None:
    for name, pixels in (("a photo", photograph()), ("chart", chart())):
        (tmp_path / f"{name}.webp").write_bytes(file(pixels))
    images = "".join(
        f'<img alt="src" src="{(tmp_path / f"{x}.webp").as_uri()}">' for x in ("a photo", "chart", "a photo")
    )
    document = plates.lighter(f"<!doctype html><title>Two</title>{images}", tmp_path)
    assert document.count("plate0.jpg") == 2
    assert document.count("chart.webp") == 1
    (tmp_path / "page.html").write_text(document)
    with Chromium(tmp_path / "profile") as page:
        page.open(tmp_path / "page.html")
        page.run(pdf.READY)
        content = pdf.printed(page)
    found = [image.get_object() for image in PdfReader(io.BytesIO(content)).pages[0]["/Resources"]["/XObject"].values()]
    kept = [image._data for image in found if image["/Filter"] == "/DCTDecode"]
    assert kept == [(tmp_path / "plate0.jpg").read_bytes()]
