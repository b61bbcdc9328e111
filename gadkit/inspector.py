"""A detector in one page of HTML that inspects photographs by itself: no server, no network, no Python.

The page holds the graph that `anomaly.export` made, onnxruntime-web as npm publishes it (version 1.30.0, under
`assets/` with its licence), and a script that prepares photographs as `backbones.preprocess` does.

Book: intro/run-it
"""

import base64
import gzip
from pathlib import Path

import numpy as np
from markupsafe import Markup

from gadkit import viz, weights
from gadkit.anomaly.export import facts_of
from gadkit.report import ramp
from gadkit.templates import template

ASSETS = weights.ASSETS
RUNTIME = {"module": "onnxruntime-web.mjs.gz", "wasm": "onnxruntime-web.wasm.gz"}
GENERATOR = "gadkit export"


def page(graph: bytes) -> str:
    """The page of a graph that `anomaly.export.to_onnx` made; raises ValueError for other bytes.

    A photograph's score in it is the detector's to 1e-4 where the browser decodes the file as Pillow does.
    """
    facts = facts_of(graph)
    heading = facts["object"] or "parts"
    return template("inspector.html").render(
        generator=GENERATOR,
        heading=heading[:1].upper() + heading[1:],
        facts=facts,
        ramp=ramp(),
        colours=colours(),
        graph=packed(graph),
        engine=Markup(script("engine.js")),
        script=Markup(script("inspector.js")),
        **runtime(),
    )


def is_page(content: bytes) -> bool:
    """Whether `page` made these bytes."""
    return f'<meta name="generator" content="{GENERATOR}">'.encode() in content[:300]


def runtime() -> dict[str, str]:
    """onnxruntime-web in base64: its module, and its WebAssembly packed.  Raises ValueError for damaged files."""
    module, wasm = (weights.verified(ASSETS / name).read_bytes() for name in RUNTIME.values())
    return {"module": base64.b64encode(gzip.decompress(module)).decode(), "wasm": base64.b64encode(wasm).decode()}


def packed(content: bytes) -> str:
    """Bytes packed and in base64, as the page's script unpacks them."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def script(name: str) -> str:
    """The text of a script under `assets/`."""
    return (Path(ASSETS) / name).read_text(encoding="utf-8")


def colours() -> list[list[float]]:
    """The colours of anomaly maps from clear to hottest, (166, 4): red, green, blue and opacity from 0 to 1."""
    table = viz.ANOMALY(np.arange(viz.ANOMALY.N))
    return table.round(4).tolist()
