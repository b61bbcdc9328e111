"""A fitted detector as an ONNX graph: from resized pixels to scores and maps, for runtimes that know no torch.

The graph begins with `pixels`, floats (b, 3, side, side) from 0 to 255, and ends with `scores` (b) and `maps` (b, rows,
columns), one value a patch.  All else that an answer needs is in its metadata, as JSON: how a photograph becomes
`pixels`, how it is cut into tiles, how maps become as large as the photograph, and what the caller adds, such as the
threshold.

Needs the extra `gadkit[export]`.

Book: intro/run-it
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gadkit.anomaly.detectors import DETECTORS
from gadkit.anomaly.detectors.base import Base
from gadkit.anomaly.detectors.patches import Patches
from gadkit.anomaly.graphs import GRAPHS, Eyes
from gadkit.anomaly.maps import smooth_upsample
from gadkit.anomaly.tiles import Tiled
from gadkit.backbones import Timm
from gadkit.backbones.preprocess import Preprocess
from gadkit.nn.graphs import about_of, traced
from gadkit.protocols import Detector

FORMAT = 1  # a change of the metadata that old readers do not fit raises FORMAT
AGREE = 1e-4  # the graph's scores and the detector's


def to_onnx(detector: Detector, facts: Mapping[str, Any]) -> bytes:
    """The graph of a fitted detector, tiled or not, with `facts` in its metadata.

    onnxruntime has computed two pictures with it when this returns.  Raises ValueError for a detector that is not in
    `GRAPHS`, for a backbone or settings that no graph is made of, and where the extra is not installed, RuntimeError
    before `fit` and for a graph that disagrees.
    """
    inside = _inside(detector)
    inside.state()  # is it fitted?
    facts = about(detector) | dict(facts)
    content = traced(GRAPHS[type(inside)](inside), _pixels(inside), ("scores", "maps"), {"pixels": 0}, facts)
    _check_agrees(content, inside)
    return content


def eyes_to_onnx(detector: Detector) -> bytes:
    """The graph from pixels to `patches`, (b, n, e), of a detector on patches, which need not be fitted.

    Raises ValueError as `to_onnx` does, and for a detector that is none on patches.
    """
    inside = _inside(detector)
    if not isinstance(inside, Patches):
        raise ValueError(f"export: expected a detector on patches, got {type(inside).__name__}")
    return traced(Eyes(inside), _pixels(inside), ("patches",), {"pixels": 0}, about(detector))


def about(detector: Detector) -> dict[str, Any]:
    """What the graph's user has to know: of its input, its output and tiles.  Raises ValueError as `to_onnx` does."""
    inside = _inside(detector)
    tiles = {"size": detector.size, "overlap": detector.overlap} if isinstance(detector, Tiled) else None
    return {
        "format": FORMAT,
        "detector": type(inside).__name__,
        "input": {
            "name": "pixels",
            "side": inside.image_size,
            "channels": "RGB",
            "values": "0 to 255, as stored: no colour profile, transparency on white",
            "resize": inside.backbone.preprocess.interpolation,
            "how": "squash to the side with an antialiased filter (a = -0.5 if bicubic, half-pixel centres), as "
            "Pillow does in mode F; clip to 0 to 255, do not round",
        },
        "output": {"scores": "one an image", "maps": list(inside.backbone.grid)},
        "upsample": "maps to the image's size: bilinear, half-pixel centres; then, where smooth is not 0, a Gaussian "
        "whose deviation is that share of a side, four deviations wide, edges mirrored: scipy's gaussian_filter",
        "smooth": _sigma(inside),
        "tiles": tiles,
    }


def facts_of(content: bytes) -> dict[str, Any]:
    """The metadata of a graph.  Raises ValueError for bytes that `to_onnx` did not make."""
    facts = about_of(content)
    if facts.get("format") != FORMAT:
        raise ValueError(f"onnx: expected format {FORMAT}, got {facts.get('format')!r}: export the detector again")
    return facts


def is_graph(content: bytes) -> bool:
    """Whether `to_onnx` made these bytes."""
    try:
        return bool(facts_of(content))
    except ValueError:
        return False


def _sigma(detector: Base) -> float:
    """The deviation of the Gaussian that smooths maps, as a share of a side; 0 for none."""
    return float(getattr(detector, "sigma", 0.0))


def _pixels(detector: Base) -> dict[str, Tensor]:
    side = detector.image_size
    return {"pixels": torch.linspace(0, 255, 2 * 3 * side * side).view(2, 3, side, side)}


def check(name: str) -> None:
    """Raise ValueError for a detector of the table, by its name, that has no ONNX form."""
    if DETECTORS[name].kind not in (able := [kind.__name__ for kind in GRAPHS]):
        names = ", ".join(other for other, row in DETECTORS.items() if row.kind in able)
        raise ValueError(f"export: expected a detector that has an ONNX form, one of {names}, got {name}")


def _inside(detector: Detector) -> Base:
    """The detector within the tiles, if it can be exported."""
    inside = detector.detector if isinstance(detector, Tiled) else detector
    if type(inside) not in GRAPHS:
        able = ", ".join(kind.__name__ for kind in GRAPHS)
        raise ValueError(
            f"export: expected a detector that has an ONNX form, one of {able}, got {type(inside).__name__}"
        )
    if isinstance(inside, Patches) and not isinstance(inside.backbone, Timm):
        raise ValueError(
            f"export: expected a detector on a network of timm, such as efficientnet-lite0, got one on "
            f"{type(inside.backbone).__name__}"
        )
    if not isinstance(inside.backbone.preprocess, Preprocess):
        raise ValueError(
            f"export: expected gadkit's preprocessing, which the page repeats, got {inside.backbone.preprocess!r}"
        )
    for name, usual in (("resize", "torch"), ("precision", "float32")):
        if (value := getattr(inside, name, usual)) != usual:
            raise ValueError(f"export: expected a detector with {name} {usual!r}, got one with {value!r}")
    return inside


@torch.no_grad()
def _check_agrees(content: bytes, detector: Base) -> None:
    """Raise RuntimeError where onnxruntime and torch disagree about two pictures."""
    import onnxruntime

    side, draw = detector.image_size, torch.Generator().manual_seed(0)
    waves = (torch.arange(side * side) // 7 % 256).to(torch.uint8).view(1, side, side).expand(3, -1, -1)
    pictures = torch.stack([waves, torch.randint(256, (3, side, side), generator=draw, dtype=torch.uint8)])
    expected = detector.score(pictures)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    scores, maps = map(torch.from_numpy, session.run(["scores", "maps"], {"pixels": pictures.float().numpy()}))
    fine = smooth_upsample(maps, (side, side), _sigma(detector))
    off = max(float((x - y).abs().max()) for x, y in ((scores, expected.scores), (fine, expected.maps)))
    if not off <= AGREE:
        raise RuntimeError(f"export: expected a graph that agrees with the detector to {AGREE}, got one {off:.2g} off")
