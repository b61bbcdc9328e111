"""The data of the book's widgets: graphs, photographs and numbers, as scripts that a page loads on a click.

A page from a disk may load scripts and nothing else, so every file is one: it fills a field of `live.data`.

Book: anomaly/neighbours
"""

import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image
from torch import Tensor

from gadkit import factory, inspector, viz, zoo
from gadkit.anomaly import export
from gadkit.anomaly.detectors import build
from gadkit.anomaly.thresholds import held_out
from gadkit.factory import scenes
from gadkit.nn.graphs import about_of
from gadkit.objects import clicks
from gadkit.objects.export import decoder_to_onnx
from gadkit.viz.contour import outlined

HERE = Path(__file__).parent
SCRIPTS = ("live", "scratch", "neighbours", "sam")
PRODUCT, GOOD, SIDE = "nut", 16, 224  # the landing page's
FUSE, MEMORY, NEW, KINDS = "fuse", 8, 2, ("scratch", "hole", "stain", "broken")  # of the page on nearest neighbours


def make(folder: Path) -> None:
    """Write everything that the widgets need into a folder: scripts, data, and a still picture of each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SCRIPTS:
        shutil.copy(HERE / f"{name}.js", folder)
    shutil.copy(inspector.ASSETS / "engine.js", folder)
    eyes = zoo.load("efficientnet-lite0", "tiny", "cpu")
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "runtime": lambda: dict(inspector.runtime()),
        "eyes": lambda: _eyes(eyes),
        "scratch-data": lambda: _scratch(eyes, folder / "scratch.png"),
        "neighbours-data": lambda: _neighbours(eyes, folder / "neighbours.png"),
        "sam-data": lambda: _sam(folder / "sam.png"),
    }
    for name, maker in makers.items():
        content = f"live.data[{json.dumps(name)}] = {json.dumps(maker())};\n"
        (folder / f"{name}.js").write_text(content, encoding="utf-8")


def _eyes(eyes: Any) -> dict[str, Any]:
    graph = export.eyes_to_onnx(build("subspace", eyes))
    return {"graph": inspector.packed(graph), "facts": about_of(graph), "colours": inspector.colours()}


def _scratch(eyes: Any, still: Path) -> dict[str, Any]:
    """A plane of good parts, and parts to draw on."""
    known = factory.render(PRODUCT, torch.arange(GOOD), 0, size=SIDE, nuisance=0.15).images
    detector = build("subspace", eyes).fit(known)
    apart = held_out(detector, known)
    scale = viz.anomaly_scale(apart.maps, top=detector.map_range[1])
    fresh = factory.render(PRODUCT, torch.arange(GOOD, GOOD + 3), 0, size=SIDE, nuisance=0.15).images
    damaged = fresh[:1].clone()
    for i in range(60):  # a stroke, as a reader would draw one
        damaged[0, :, 80 + i : 84 + i, 90 + i // 2 : 93 + i // 2] = 25
    heat = viz.overlay(damaged, detector.score(damaged).maps, scale)
    _save(still, torch.cat([damaged[0], heat[0]], 2))
    return {
        "axes": _floats(detector.axes_),
        "origin": _floats(detector.mean_),
        "line": float(apart.scores.max()),
        "scale": scale._asdict(),
        "photographs": [_png(image) for image in fresh],
    }


def _neighbours(eyes: Any, still: Path) -> dict[str, Any]:
    """Good parts to remember, and new ones to ask about."""
    look = {"size": SIDE, "nuisance": 0.3}
    good = factory.render(FUSE, torch.arange(MEMORY + NEW), 0, **look).images
    bad = [factory.render(FUSE, torch.tensor([100 + i]), 0, kind, 0.6, **look) for i, kind in enumerate(KINDS)]
    new = torch.cat([good[MEMORY:], *(one.images for one in bad)])
    detector = build("patch-knn", eyes, extent=0.0).fit(good[:MEMORY])
    scale = viz.anomaly_scale(held_out(detector, good[:MEMORY]).maps)
    heat = viz.overlay(new, detector.score(new).maps, scale)
    _save(still, torch.cat([torch.cat([*new], 2), torch.cat([*heat], 2)], 1)[:, ::2, ::2])
    return {
        "good": [_png(image) for image in good[:MEMORY]],
        "new": [{"picture": _png(x), "kind": k} for x, k in zip(new, ("good",) * NEW + KINDS, strict=True)],
        "scale": scale._asdict(),
    }


def _sam(still: Path) -> dict[str, Any]:
    """Scenes that have been encoded, and the decoder."""
    segmenter, some = zoo.load("sam", "tiny", "cpu"), scenes.render(3, seed=11, size=384, split="development")
    pictures = []
    for i, image in enumerate(some.images):
        segmenter.set_image(image)
        pictures.append({"picture": _png(image), "embedding": _floats(segmenter.embedding)})
        if i == 0:
            place = clicks.middle(some.masks(0)[-1:])
            mask = segmenter.predict(place[:, None]).best()
            _save(still, _dotted(outlined(image[None], mask)[0], place[0].tolist()))
    graph = decoder_to_onnx(segmenter)
    shape = list(segmenter.embedding.shape)
    return {"graph": inspector.packed(graph), "side": segmenter.image_size, "shape": shape, "scenes": pictures}


def _dotted(image: UInt8[Tensor, "3 h w"], place: list[float]) -> UInt8[Tensor, "3 h w"]:
    y, x = (torch.arange(side) + 0.5 for side in image.shape[1:])
    far: Bool[Tensor, "h w"] = (x - place[0]).square() + (y[:, None] - place[1]).square()
    return image.where(far > 60, torch.zeros_like(image)).where(far > 30, torch.full_like(image, 255))


def _floats(values: Tensor) -> str:
    return base64.b64encode(values.cpu().numpy().astype(np.float32).tobytes()).decode()


def _png(image: UInt8[Tensor, "3 h w"]) -> str:
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _save(path: Path, image: UInt8[Tensor, "3 h w"]) -> None:
    Image.fromarray(image.permute(1, 2, 0).cpu().contiguous().numpy()).save(path)
