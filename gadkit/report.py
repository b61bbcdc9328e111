"""One page that shows every image beside its anomaly map, and lets its reader move the threshold.

The page is a single file: styles, script and pictures are inside it, so it opens from a disk without a network, can be
mailed, and shows the same in five years.  Pictures are at most `SIDE` pixels a side and the page holds at most `LIMIT`
of them, those with the highest scores; the threshold slider counts all images.

Book: intro/run-it
"""

import base64
import html
import io
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from gadkit.viz import ANOMALY, Scale, anomaly_scale, overlay
from gadkit.weights import ASSETS

SIDE, LIMIT = 384, 1000
ZERO_SHOT = Scale(0.4, 1.0)  # in probabilities of damage: the first colour shows above 0.5, which is undecided
ONE_SHOT = Scale(0.2, 0.55)  # of WinCLIP+: half of that, and half the distance from a good part


@dataclass(frozen=True)
class Facts:
    """What the page says about the run: `notes` are terms with explanations, `normal` scores of held-out images."""

    heading: str
    about: str
    notes: Sequence[tuple[str, str]]
    threshold: float | None = None
    normal: Sequence[float] = ()
    skipped: Sequence[str] = ()


class Report:
    """Takes images one by one, keeps their pictures on disk, and gives the page piece by piece.

    `normal_maps` are those of normal images that the detector had not seen: they set the colours, so that good parts
    stay clear, and `fixed` only says how far the colours reach at least.  Without them they stand for `fixed` values.
    """

    def __init__(self, normal_maps: Float[Tensor, "k h w"] | None = None, fixed: Scale = ZERO_SHOT) -> None:
        self.scale = fixed if normal_maps is None else anomaly_scale(normal_maps, top=fixed.high)
        self.on_normal = normal_maps is not None
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
        pictures = [_data_uri(picture) for picture in (small, overlay(small, heat, self.scale))]
        start = self._spool.seek(0, io.SEEK_END)
        self._rows.append((score, path, start, self._spool.write("\n".join(pictures).encode())))

    def pages(self, facts: Facts) -> Iterator[str]:
        """The text of the page, in pieces that never hold more than one image."""
        rows = sorted(self._rows, key=lambda row: (-row[0], row[1]))
        left_out = len(rows) - LIMIT
        more = (
            f"<p>{left_out} more with lower scores are not pictured; scores.csv has them.</p>" if left_out > 0 else ""
        )
        before, after = (ASSETS / "report.html").read_text(encoding="utf-8").split("{{cards}}")
        yield _fill(before, **_header(facts, self.scale, self.on_normal))
        for score, path, start, size in rows[:LIMIT]:
            self._spool.seek(start)
            photo, heat = self._spool.read(size).decode().split("\n")
            yield _card(path, score, photo, heat, facts.threshold)
        data = {"scores": [row[0] for row in rows], "normal": list(facts.normal), "threshold": facts.threshold}
        notes = "".join(f"<dt>{html.escape(term)}</dt><dd>{html.escape(text)}</dd>" for term, text in facts.notes)
        yield _fill(after, left_out=more, notes=notes, data=json.dumps(data).replace("<", "\\u003c"))


def _data_uri(picture: UInt8[Tensor, "1 3 h w"]) -> str:
    file = io.BytesIO()
    Image.fromarray(picture[0].permute(1, 2, 0).numpy()).save(file, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _card(path: str, score: float, photo: str, heat: str, threshold: float | None) -> str:
    verdict = "" if threshold is None else "anomalous" if score > threshold else "normal"
    name = html.escape(path)
    return (
        f'<li data-score="{score!r}" data-path="{name}" class="{verdict}">'
        f'<p class="said"><span class="path">{name.replace("/", "/<wbr>")}</span> <span class="chip">{verdict}</span> '
        f'<span class="score">{score:.4f}</span></p>'
        f'<div class="pair"><img src="{photo}" alt="Photograph {name}" decoding="async">'
        f'<img src="{heat}" alt="Anomaly map of {name}, score {score:.4f}" decoding="async"></div></li>\n'
    )


def _header(facts: Facts, scale: Scale, on_normal: bool) -> dict[str, str]:
    skipped = "".join(f"<li>{html.escape(line)}</li>" for line in facts.skipped)
    low, high = (", typical of good parts", ", twice their extreme") if on_normal else ("", ", fixed")
    if scale.middle is not None:
        high = f"; half way: {scale.middle:.3f}, their extreme"
    colours = ANOMALY(np.linspace(0, 1, 13))  # (13, 4), seen on the grey of a photograph
    stops = (255 * (0.4 + (colours[:, :3] - 0.4) * colours[:, 3:])).round().astype(int)
    return {
        "title": html.escape(f"gadkit: {facts.heading}"),
        "heading": html.escape(facts.heading),
        "about": html.escape(facts.about),
        "ramp": "linear-gradient(90deg," + ",".join(f"rgb({r},{g},{b})" for r, g, b in stops) + ")",
        "scale_low": f"{scale.low:.3f}{low}",
        "scale_high": f"{scale.high:.3f}{high}",
        "skipped": f'<details class="panel" open><summary>{len(facts.skipped)} files could not be read</summary>'
        f"<ul>{skipped}</ul></details>"
        if facts.skipped
        else "",
    }


def _fill(template: str, **values: str) -> str:
    return re.sub(
        r"\{\{(\w+)\}\}", lambda slot: values[slot[1]], template
    )  # one pass: what is filled in stays as it is
