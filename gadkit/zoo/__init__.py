"""Every network that the book asks for by name: one row a name, and one door.

    from gadkit import zoo

    encoder = zoo.load("dino")

The preset decides which weights a name has: `tiny` is shipped with the package, `paper` is what was published.  A new
network of a library that has an adapter in `gadkit.backbones` needs a row in `gadkit.zoo.rows`, and nothing else.

Book: intro/run-it
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from gadkit import weights
from gadkit.weights import Weights, WeightsUnavailable
from gadkit.zoo.row import (
    HEADS,
    IMAGE,
    METHOD,
    OBJECTS,
    OPEN_VOCABULARY,
    PRESETS,
    PROMPTABLE,
    READER,
    REAL,
    TEXT,
    UNIVERSAL,
    Row,
)
from gadkit.zoo.rows import ROWS

__all__ = [
    "HEADS",
    "IMAGE",
    "METHOD",
    "OBJECTS",
    "OPEN_VOCABULARY",
    "PRESETS",
    "PROMPTABLE",
    "READER",
    "REAL",
    "ROWS",
    "TEXT",
    "UNIVERSAL",
    "Row",
    "check",
    "facts",
    "find",
    "list",
    "load",
    "preset",
    "row",
]
_BY_NAME = {row.name: row for row in ROWS}
ADAPTERS = {  # the module of an adapter, and the function in it
    "vit": ("gadkit.backbones.encoder", "load"),
    "tiny-timm": ("gadkit.backbones.timm_models", "load_tiny"),
    "timm": ("gadkit.backbones.timm_models", "load"),
    "tiny-clip": ("gadkit.backbones.tiny", "load"),
    "open_clip": ("gadkit.backbones.openclip", "load"),
    "siglip": ("gadkit.backbones.siglip", "load"),
    "sentences": ("gadkit.backbones.sentences", "load"),
    "sam": ("gadkit.objects.promptable", "load"),
    "sam-heirs": ("gadkit.objects.heirs", "load"),
    "owl-vit": ("gadkit.objects.owl_vit", "load"),
    "grounding-dino": ("gadkit.objects.grounding_dino", "load"),
    "universal": ("gadkit.objects.universal", "load"),
    "published-universal": ("gadkit.objects.published", "load"),
    "seem": ("gadkit.objects.seem", "load"),
    "blip": ("gadkit.multimodal.blip", "load"),
    "blip2": ("gadkit.multimodal.blip2", "load"),
    "florence2": ("gadkit.multimodal.florence", "load"),
}


def _known(what: str, value: str, known: Iterable[str]) -> str:
    if isinstance(value, str) and value in known:
        return value
    from gadkit.checks import one_of  # imported for its message only: it loads torch

    return one_of(what, value, known)


def preset(name: str | None = None) -> str:
    """The preset in force: `name`, else `GADKIT_PRESET`, else "tiny".  Raises ValueError for an unknown one."""
    return _known("preset", name or os.environ.get("GADKIT_PRESET") or "tiny", PRESETS)


def list(gives: str | None = None, preset: str | None = None) -> tuple[str, ...]:
    """The names, in the table's order: all, or those that give `gives` and have weights under `preset`.

    Raises ValueError for something that no name gives, or an unknown preset.
    """
    rows = ROWS
    if gives is not None:
        _known("gives", gives, (IMAGE, TEXT, METHOD, HEADS, READER, *OBJECTS))
        rows = [row for row in rows if gives in row.gives]
    if preset is not None:
        _known("preset", preset, PRESETS)
        rows = [row for row in rows if isinstance(row.under(preset), Weights)]
    return tuple(row.name for row in rows)


def row(name: str, what: str = "name") -> Row:
    """The row of a name.  Raises ValueError for an unknown one, which the message calls `what`."""
    return _BY_NAME[_known(what, name, _BY_NAME)]


def find(name: str, under: str | None = None, what: str = "name") -> Weights:
    """The weights that a name has under a preset, by default the one in force.

    Raises ValueError for an unknown name or preset, `WeightsUnavailable` for a name that has none under it.
    """
    held = row(name, what).under(preset(under))
    if isinstance(held, str):
        raise WeightsUnavailable(f"no library here loads published weights of {name}: {held}; {weights.SHIPPED}")
    return held


def check(names: Sequence[str], preset: str | None = None, what: str = "NAME") -> None:
    """Whether all names are image encoders with weights under a preset, without loading any; messages say `what`.

    Raises ValueError for another name or preset, `WeightsUnavailable` for a name that has no weights under it.
    """
    for name in names:
        find(_known(what, name, list(IMAGE)), preset, what)


def facts(name: str) -> dict[str, Any]:
    """How the shipped weights of a method were made, as their header says: photographs, steps, seconds, ...

    Raises ValueError for a name that the package's own `gadkit train` did not make.
    """
    return weights.facts(weights.ASSETS / f"{_known('method', name, list(METHOD))}.safetensors")


def load(
    name: str,
    preset: str | None = None,
    device: str | None = None,
    *,
    gives: str | None = None,
    file: Path | str | None = None,
    cache_dir: Path | str | None = None,
) -> "gadkit.protocols.Backbone | gadkit.protocols.TextEncoder | gadkit.protocols.Method | dict[str, torch.Tensor]":
    """A trained network, ready for use, on `device` (by default the one that `gadkit.runtime.device` finds).

    By default it is frozen and keeps the contracts of `gadkit.protocols`: `Backbone`, `TextEncoder` or both.
    `gives="method"` loads the whole that was trained, with its heads: the shipped one under every preset, on the CPU
    unless `device` is given.  A row that gives "heads" is the trained part of the detector of that name: its tensors
    by name, for `gadkit.anomaly.detectors.build`.  `file` is a checkpoint to read in place of the usual one, in the
    same format.  `cache_dir` is where a library looks for published weights, and keeps what it downloads; by default
    it is the user's own cache.

    Raises ValueError for an unknown name, preset or device, for something that the name does not give, and for a
    damaged file; FileNotFoundError for a file that is not there; `WeightsUnavailable` for published weights that are
    neither cached nor reachable.
    """
    from gadkit import runtime

    known = row(name)
    gives = _known(f"{name} gives", known.gives[0] if gives is None else gives, known.gives)
    for what, path in (("file", file), ("cache_dir", cache_dir)):
        if not isinstance(path, str | Path | None):
            raise ValueError(f"{what}: expected a path, got {path!r}")
    file = None if file is None else Path(file)
    if gives == METHOD:
        from gadkit import methods

        return methods.load(name, file).to(runtime.device(device or "cpu"))
    if gives == HEADS:
        held = weights.checkpoint(weights.ASSETS / f"{find(name, preset).id}.safetensors" if file is None else file)
        return {key: value.to(runtime.device(device)) for key, value in held.items()}
    source = find(name, preset)
    adapter, cache_dir = _adapter(source.adapter), None if cache_dir is None else str(cache_dir)
    with weights.hushed():
        return adapter(source, runtime.device(device), file, cache_dir)


def _adapter(name: str) -> "Callable[..., gadkit.protocols.Backbone | gadkit.protocols.TextEncoder]":
    """The function that builds a network; its module is imported only now: some libraries take long."""
    import importlib

    place, function = ADAPTERS[name]
    return getattr(importlib.import_module(place), function)
