"""One page that shows every image beside its anomaly map, and lets its reader move the threshold.

The page is a single file: styles, script and pictures are inside it, so it opens from a disk without a network, can be
mailed, and shows the same in five years.  Pictures are at most `SIDE` pixels a side and the page holds at most `LIMIT`
of them, those with the highest scores; the threshold slider counts all images.

Book: intro/run-it
"""

import base64
import io
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from markupsafe import Markup
from PIL import Image
from torch import Tensor

from gadkit import viz  # whose rooms that draw are loaded when they are needed
from gadkit.templates import template

SIDE, LIMIT = 384, 1000


@dataclass(frozen=True)
class Facts:
    """The facts of a run, for the page: `notes` are terms with explanations, `normal` scores of held-out images."""

    heading: str
    about: str
    notes: Sequence[tuple[str, str]]
    threshold: float | None = None
    normal: Sequence[float] = ()
    skipped: Sequence[str] = ()


class Report:
    """Takes images one by one, keeps their pictures on disk, and gives the page piece by piece.

    `usual` are the median and the extreme (`viz.extremes`) of maps of normal images that the detector was not given:
    they set the colours, so that good parts stay clear, and `fixed` only says how far the colours reach at least.
    Without them, or where they are one value, as with copies, colours stand for `fixed` values.
    """

    def __init__(self, usual: tuple[float, float] | None, fixed: viz.Scale) -> None:
        self.scale = colours_of(usual, fixed)
        self.on_normal = self.scale is not fixed
        self._rows: list[tuple[float, str, int, int]] = []
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the report

    def close(self) -> None:
        """Forget the pictures."""
        self._spool.close()

    def add(self, path: str, image: UInt8[Tensor, "3 h w"], heat: Float[Tensor, "h w"], score: float) -> None:
        """Add one image with its map and score."""
        height, width = image.shape[1:]
        shrink = max(1, height / SIDE, width / SIDE)
        size = (max(2, round(height / shrink)), max(2, round(width / shrink)))
        photo = Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).resize(size[::-1], Image.Resampling.LANCZOS)
        small = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None]
        heat = F.interpolate(heat[None, None].cpu(), size, mode="bilinear", antialias=True)[0]
        pictures = [_data_uri(picture) for picture in (small, viz.overlay(small, heat, self.scale))]
        start = self._spool.seek(0, io.SEEK_END)
        self._rows.append((score, path, start, self._spool.write("\n".join(pictures).encode())))

    def parts(self) -> list[tuple[float, str, bytes]]:
        """Score, path and pictures of each image, for another report; pictures of the first `LIMIT` only."""
        found = []
        for place, (score, path, start, size) in enumerate(sorted(self._rows, key=lambda row: (-row[0], row[1]))):
            self._spool.seek(start)
            found.append((score, path, self._spool.read(size) if place < LIMIT else b""))
        return found

    def take(self, parts: Sequence[tuple[float, str, bytes]]) -> None:
        """Add the images of another report."""
        for score, path, pictures in parts:
            start = self._spool.seek(0, io.SEEK_END)
            self._rows.append((score, path, start, self._spool.write(pictures)))

    def pages(self, facts: Facts) -> Iterator[str]:
        """The text of the page, in pieces that never hold more than one image."""
        rows = sorted(self._rows, key=lambda row: (-row[0], row[1]))
        data = {"scores": [row[0] for row in rows], "normal": list(facts.normal), "threshold": facts.threshold}
        yield from template("report.html").generate(
            facts=facts,
            ramp=ramp(),
            scale=self.scale,
            on_normal=self.on_normal,
            cards=(self._card(*row, facts.threshold) for row in rows[:LIMIT]),
            left_out=len(rows) - LIMIT,
            data=data,
        )

    def _card(self, score: float, path: str, start: int, size: int, threshold: float | None) -> dict[str, str | float]:
        """The fields of one image, for the template."""
        self._spool.seek(start)
        photo, heat = self._spool.read(size).decode().split("\n")
        verdict = "" if threshold is None else "anomalous" if score > threshold else "normal"
        return {"path": path, "score": score, "photo": photo, "heat": heat, "verdict": verdict}


def colours_of(usual: tuple[float, float] | None, fixed: viz.Scale) -> viz.Scale:
    """The scale of all pictures of a run: by what is usual in good parts, where that is known and varies."""
    return fixed if usual is None or usual[0] == usual[1] else viz.scale_beyond(*usual, fixed.high)


def ramp() -> Markup:
    """The colours as a CSS gradient: 13 stops, as they look on the grey of a photograph."""
    colours = viz.ANOMALY(np.linspace(0, 1, 13))  # (13, 4)
    stops = (255 * (0.4 + (colours[:, :3] - 0.4) * colours[:, 3:])).round().astype(int)
    return Markup("linear-gradient(90deg," + ",".join(f"rgb({r},{g},{b})" for r, g, b in stops) + ")")


def _data_uri(picture: UInt8[Tensor, "1 3 h w"]) -> str:
    file = io.BytesIO()
    Image.fromarray(picture[0].permute(1, 2, 0).numpy()).save(file, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
