"""A fitted detector as an ONNX graph: from resized pixels to scores and maps, for runtimes that know no torch.

The graph begins with `pixels`, floats (b, 3, side, side) from 0 to 255, and ends with `scores` (b) and `maps` (b, rows,
columns), one value a patch.  All else that an answer needs is in its metadata, as JSON: how a photograph becomes
`pixels`, how it is cut into tiles, and what the caller adds, such as the threshold.

Needs the extra `gadkit[export]`.

Book: intro/run-it
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gadkit.anomaly.detectors import DETECTORS
from gadkit.anomaly.detectors.knn import PatchKNN
from gadkit.anomaly.detectors.patches import Patches, top_mean
from gadkit.anomaly.detectors.subspace import SubspaceAD, residual
from gadkit.anomaly.tiles import Tiled
from gadkit.backbones import Timm
from gadkit.nn.graphs import about_of, traced
from gadkit.protocols import Detector, Tokens

FORMAT = 1  # a change of the metadata that old readers do not fit raises FORMAT
AGREE = 1e-4  # the graph's scores and the detector's


def to_onnx(detector: Detector, facts: Mapping[str, Any]) -> bytes:
    """The graph of a fitted detector on patches, tiled or not, with `facts` in its metadata.

    onnxruntime has computed two pictures with it when this returns.  Raises ValueError for another kind of detector or
    backbone, and where the extra is not installed, RuntimeError before `fit` and for a graph that disagrees.
    """
    inside = _inside(detector)
    inside.state()  # is it fitted?
    facts = about(detector) | dict(facts)
    content = traced(Graph(inside), _pixels(inside), ("scores", "maps"), {"pixels": 0}, facts)
    _check_agrees(content, inside)
    return content


def eyes_to_onnx(detector: Detector) -> bytes:
    """The graph from pixels to `patches`, (b, n, e), of a detector on patches, which need not be fitted.

    Raises ValueError as `to_onnx` does.
    """
    inside = _inside(detector)
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
        "upsample": "maps to the image's size: bilinear, half-pixel centres",
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


class Eyes(nn.Module):
    """The eyes of a detector on patches as one module: pixels to tokens, without a check, a copy or a choice."""

    def __init__(self, detector: Patches) -> None:
        super().__init__()
        self.detector, backbone = detector, detector.backbone
        self.network = backbone.model  # so that its weights are this module's
        mean, std = (255 * torch.tensor(v).view(3, 1, 1) for v in (backbone.preprocess.mean, backbone.preprocess.std))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def tokens(self, pixels: Float[Tensor, "b 3 s s"]) -> Tokens:
        """The tokens of the detector's layers."""
        backbone = self.detector.backbone
        layers = [i % backbone.depth for i in self.detector.layers]
        return backbone.tokens((pixels - self.mean) / self.std, layers)

    def forward(self, pixels: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b n e"]:
        """The vectors of patches, row by row."""
        return self.detector.described(self.tokens(pixels))


class Graph(Eyes):
    """A detector on patches as one module: pixels to scores and maps."""

    def __init__(self, detector: Patches) -> None:
        super().__init__(detector)
        self.far, learnt = HEADS[type(detector)](detector)
        for name, value in learnt.items():
            self.register_buffer(name, value.cpu())

    def forward(self, pixels: Float[Tensor, "b 3 s s"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b r c"]]:
        """Scores and maps."""
        tokens = self.tokens(pixels)
        far = self.far(self, self.detector.described(tokens))  # (b, n)
        scores = top_mean(far, self.detector.top)
        if self.detector.extent:
            scores = scores + self.detector.extent * cosine_distances(tokens.pooled, self.vectors)
        return scores, far.unflatten(1, self.detector.backbone.grid)


def cosine_distances(queries: Float[Tensor, "*b e"], bank: Float[Tensor, "m e"], k: int = 1) -> Float[Tensor, "*b"]:
    """`knn.distances` from rows of unit length, in operations that every runtime has."""
    cosines = F.normalize(queries, dim=-1) @ bank.T
    nearest = cosines.amax(-1, keepdim=True) if k == 1 else cosines.topk(k, dim=-1).values
    return (1 - nearest).clamp(min=0).mean(-1)


def _plane(detector: SubspaceAD) -> tuple[Callable, dict[str, Tensor]]:
    learnt = {"axes": detector.axes_, "origin": detector.mean_, "vectors": F.normalize(detector.vectors_, dim=1)}
    return lambda graph, patches: residual(patches, graph.axes, graph.origin), learnt


def _memory(detector: PatchKNN) -> tuple[Callable, dict[str, Tensor]]:
    learnt = {name: F.normalize(getattr(detector, f"{name}_"), dim=1) for name in ("bank", "vectors")}
    return lambda graph, patches: cosine_distances(patches, graph.bank, detector.k), learnt


HEADS: dict[type, Callable] = {SubspaceAD: _plane, PatchKNN: _memory}  # how far patches are from what is normal


def _pixels(detector: Patches) -> dict[str, Tensor]:
    side = detector.image_size
    return {"pixels": torch.linspace(0, 255, 2 * 3 * side * side).view(2, 3, side, side)}


def check(name: str) -> None:
    """Raise ValueError for a detector of the table, by its name, that has no ONNX form."""
    if DETECTORS[name].kind not in (able := [kind.__name__ for kind in HEADS]):
        names = ", ".join(other for other, row in DETECTORS.items() if row.kind in able)
        raise ValueError(f"export: expected a detector that has an ONNX form, one of {names}, got {name}")


def _inside(detector: Detector) -> Patches:
    """The detector within the tiles, if it can be exported."""
    inside = detector.detector if isinstance(detector, Tiled) else detector
    if type(inside) not in HEADS:
        able = " or ".join(kind.__name__ for kind in HEADS)
        raise ValueError(f"export: expected a detector that has an ONNX form, {able}, got {type(inside).__name__}")
    if not isinstance(inside.backbone, Timm):
        raise ValueError(
            f"export: expected a detector on a network of timm, such as efficientnet-lite0, got one on "
            f"{type(inside.backbone).__name__}"
        )
    return inside


@torch.no_grad()
def _check_agrees(content: bytes, detector: Patches) -> None:
    """Raise RuntimeError where onnxruntime and torch disagree about two pictures."""
    import onnxruntime

    side, draw = detector.image_size, torch.Generator().manual_seed(0)
    waves = (torch.arange(side * side) // 7 % 256).to(torch.uint8).view(1, side, side).expand(3, -1, -1)
    pictures = torch.stack([waves, torch.randint(256, (3, side, side), generator=draw, dtype=torch.uint8)])
    expected = detector.score(pictures).scores.cpu().numpy()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run(["scores"], {"pixels": pictures.float().cpu().numpy()})[0]
    if (off := float(np.abs(found - expected).max())) > AGREE:
        raise RuntimeError(f"export: expected a graph that agrees with the detector to {AGREE}, got one {off:.2g} off")
