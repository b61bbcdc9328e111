"""A fitted detector in one file, so that it need not be fitted again: safetensors with a header in JSON.

The file holds the detector's state without its backbone, which the zoo names and a probe knows again, and what was
found out on the good parts: their number and sizes, and the scores of each, held out.  Nothing in it is code.

Book: intro/run-it
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gadkit
from gadkit.anomaly.detectors import DETECTORS, build
from gadkit.anomaly.detectors.base import heads_of
from gadkit.anomaly.tiles import Tiled
from gadkit.checks import one_of
from gadkit.files import replacing
from gadkit.protocols import Backbone, Detector, DetectorState

SUFFIX, FORMAT = ".gad", 1  # a change of the layout that old files do not fit raises FORMAT
KEY = "gadkit detector"  # in the header of a safetensors file: it is one of ours
HEAD = 2**26  # bytes that a header has at most: the scores of millions of good parts


@dataclass(frozen=True)
class Fitting:
    """A fitted detector's origin, and what it makes of good parts.

    `detector`, `backbone` and `preset` are names in the tables; `weights` is the name of the checkpoint that was read
    in place of the backbone's own.  There are `parts` good parts, `copies` of which equal another, of the `sizes`
    (height, width).  White is 2 ** bits - 1 in their files of more than eight bits, and `floats` in those of floats.
    Of at least two good parts each is scored as if it had not been given: `scores`, the highest value of each map,
    `peaks`, and `usual`, the median and the extreme of their maps (`viz.extremes`).
    """

    detector: str
    object_name: str | None
    backbone: str
    preset: str
    weights: str | None
    parts: int
    copies: int
    sizes: tuple[tuple[int, int], ...]
    bits: int | None
    floats: float
    scores: tuple[float, ...] = ()
    peaks: tuple[float, ...] = ()
    usual: tuple[float, float] | None = None
    gadkit: str = gadkit.__version__


def pack(state: DetectorState, fitting: Fitting) -> bytes:
    """The content of the file."""
    from safetensors.torch import save

    words = {"state": {"detector": state.detector, "version": state.version, "parameters": dict(state.parameters)}}
    words |= {"fitting": asdict(fitting)}
    digest = _digest(words, state.tensors)
    return save(dict(state.tensors), {KEY: json.dumps(words | {"format": FORMAT, "sha256": digest})})


def write(path: Path, detector: Detector, fitting: Fitting) -> None:
    """Write a fitted detector; the file is whole or not there.

    Raises RuntimeError before `fit`, OSError as writing does.
    """
    content = pack(detector.state(), fitting)
    with replacing(path) as part:
        part.write_bytes(content)


def read(path: Path) -> tuple[DetectorState, Fitting]:
    """The content of a file that `write` made.

    Raises ValueError for a file that is missing, torn, damaged, of another kind or of another version.
    """
    if not path.is_file():
        raise ValueError(f"fitted: expected a file that `gadkit fit` wrote, got {str(path)!r}: no such file")
    return unpack(path.read_bytes(), str(path))


def unpack(content: bytes, name: str = "bytes") -> tuple[DetectorState, Fitting]:
    """What `pack` was given; raises as `read` does, with that name."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    words = _header(content)
    if words is None:
        raise ValueError(f"fitted: expected a file that `gadkit fit` wrote, got {name}, which is none or has been torn")
    if not isinstance(words, dict) or words.get("format") != FORMAT:
        other = words.get("format") if isinstance(words, dict) else words
        raise ValueError(
            f"fitted: expected format {FORMAT}, as gadkit {gadkit.__version__} writes it, got format {other!r} in "
            f"{name}: fit the detector again"
        )
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ValueError(f"fitted: expected a whole file, got {name}, torn or damaged ({error})") from error
    try:
        state, held = words["state"], words["fitting"]
        unknown = {*words} - {"format", "sha256", "state", "fitting"} | {*held} - {f.name for f in fields(Fitting)}
        unknown |= {*state} - {"detector", "version", "parameters"}
        if unknown:
            raise ValueError(f"fitted: expected what is known here, got {', '.join(sorted(unknown))} in {name} as well")
        if words["sha256"] != _digest({"state": state, "fitting": held}, tensors):
            raise ValueError(f"fitted: expected the file as it was written, got {name}, which is damaged")
        return DetectorState(state["detector"], state["version"], state["parameters"], tensors), _fitting(held)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"fitted: expected all that `gadkit fit` writes, got {name} without {error}") from error


def is_fitted(path: Path) -> bool:
    """Whether a file begins as those of `write` do, of whatever version."""
    with open(path, "rb") as file:
        return _header(file.read(HEAD)) is not None


def restore(state: DetectorState, fitting: Fitting, backbone: Backbone, **networks: Any) -> Detector:
    """The fitted detector on its backbone.  Raises ValueError for another backbone than the one it was fitted on.

    `networks` are the finder and the segmenter of a detector that has them, where they are not the usual ones.
    """
    heads = heads_of(state) if DETECTORS[fitting.detector].heads else None
    detector = build(fitting.detector, backbone, fitting.object_name, heads, fitting.preset, **networks)
    detector = Tiled(detector) if state.detector == Tiled.__name__ else detector
    return detector.load_state(state)


def _fitting(held: Mapping[str, Any]) -> Fitting:
    """The facts from their JSON.  Raises ValueError, KeyError or TypeError for others."""
    one_of("fitted: detector", held["detector"], DETECTORS)
    lists = {name: tuple(map(float, held[name])) for name in ("scores", "peaks")}
    usual = None if held["usual"] is None else tuple(map(float, held["usual"]))
    sizes = tuple((int(height), int(width)) for height, width in held["sizes"])
    numbers = [*lists["scores"], *lists["peaks"], *(usual or ())]
    if not all(map(math.isfinite, numbers)) or len(lists["scores"]) != len(lists["peaks"]):
        raise ValueError("fitted: expected finite scores and as many peaks, got others")
    return Fitting(**{**held, **lists, "usual": usual, "sizes": sizes})


def _header(content: bytes) -> Any:
    """Our part of a safetensors header; None for anything else."""
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > min(HEAD, len(content) - 8):
        return None
    try:
        return json.loads(json.loads(content[8 : 8 + size])["__metadata__"][KEY])
    except (ValueError, KeyError, TypeError):
        return None


def _digest(words: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256(json.dumps(words, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.view(torch.uint8).numpy().tobytes() if value.ndim else str(value.item()).encode())
    return found.hexdigest()
