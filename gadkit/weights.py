"""Files of weights: what is known of one, how it is read and written, and the error where it cannot be had.

The only format is safetensors, because reading it runs no code.

Book: intro/run-it
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "assets"
SUMS = "SHA256SUMS"  # of the files beside it; new ones: sha256sum *.safetensors *.gz > SHA256SUMS
LINE = re.compile(r"[0-9a-f]{64}  \S+")  # of that file
SHIPPED = "use the shipped models with GADKIT_PRESET=tiny (on the command line: --preset tiny)."
AGAIN = "install gadkit again (pip install --force-reinstall gadkit)"


class WeightsUnavailable(RuntimeError):
    """Published weights were asked for that are neither cached nor reachable."""


@dataclass(frozen=True)
class Weights:
    """One set of weights: where it comes from, on what terms, and how a network is built for it.

    `library` says who published it, and `id` its name in that library's hub, or its address.  `size` is in megabytes
    (millions of bytes), None where it is unknown.  `card` is an address, or a file beside the weights.  `trained_on`
    names the data.  `adapter` names the function that builds the backbone; it gets `options`.
    """

    library: str
    id: str
    licence: str
    size: float | None
    card: str
    trained_on: str
    adapter: str
    options: Mapping[str, Any] = field(default_factory=dict)


def unavailable(weights: Weights, missing: str) -> WeightsUnavailable:
    """The error for weights that cannot be had here: which file is missing, and the two ways to get on."""
    size = "of unknown size" if weights.size is None else f"{weights.size:.0f} MB"
    return WeightsUnavailable(
        f"the weights {weights.id} ({size}, {weights.library}) are not cached here: {missing} is missing.  Either run "
        f"once with a network, so that the library can download them, or {SHIPPED}"
    )


@contextmanager
def hushed() -> Iterator[None]:
    """Keep back the pages that the libraries of hubs log where there is no network: the error says it all."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.ERROR))
    try:
        yield
    finally:
        logging.disable(before)


def verified(path: Path) -> Path:
    """Return `path` if there is such a file and, where a list of checksums lies beside it, if it is as it was shipped.

    Raises FileNotFoundError for a missing file and ValueError for a damaged one; both say what to do.  Anything but a
    path is a ValueError, too.
    """
    if not isinstance(path, Path):
        raise ValueError(f"weights: expected the path of a file, got {path!r}")
    sums = path.parent / SUMS
    remedy = f"; {AGAIN}" if sums.is_file() else ""
    if not path.is_file():
        raise FileNotFoundError(f"weights: no file {path.name} in {path.parent}{remedy}")
    if sums.is_file():
        lines = sums.read_text(encoding="utf-8", errors="replace").splitlines()
        if not lines or not all(LINE.fullmatch(line) for line in lines):
            raise ValueError(f"weights: {sums} is damaged: it is no list of checksums{remedy}")
        expected = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
        if path.name in expected and hashlib.sha256(path.read_bytes()).hexdigest() != expected[path.name]:
            raise ValueError(f"weights: {path} is damaged: it is not what was shipped{remedy}")
    return path


def read(path: Path, under: str = "") -> dict[str, "torch.Tensor"]:
    """The tensors of a safetensors file, floats in full precision; those whose names begin with `under`, without it.

    Raises FileNotFoundError for a missing file and ValueError for a damaged one.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(verified(path), "pt") as file:
            names = file.keys()
            found = {name.removeprefix(under): file.get_tensor(name) for name in names if name.startswith(under)}
    except SafetensorError as error:
        raise ValueError(_damaged(path, error)) from error
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.items()}


def checkpoint(path: Path) -> dict[str, "torch.Tensor"]:
    """The tensors of a checkpoint by name, floats in full precision: safetensors, or a pickle that holds nothing else.

    Of nested mappings, such as {"state_dict": {...}}, names are joined by dots.  Raises FileNotFoundError for a missing
    file, and ValueError for a damaged one or one that holds more than tensors and numbers.
    """
    import pickle

    import torch

    if path.suffix == ".safetensors":
        return read(path)
    try:
        held = torch.load(verified(path), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        expected = "expected a safetensors file, or one of torch's with tensors only"
        raise ValueError(f"weights: {expected}, got {path} ({str(error).splitlines()[0]})") from error
    found = dict(_flat(held))
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.items()}


def _flat(held: Any, under: str = "") -> Iterator[tuple[str, "torch.Tensor"]]:
    """The tensors in nested mappings; everything else is passed over."""
    import torch

    if isinstance(held, torch.Tensor):
        yield under, held.detach()
    elif isinstance(held, Mapping):
        for name, value in held.items():
            yield from _flat(value, f"{under}.{name}" if under else str(name))


def header(path: Path) -> dict[str, str]:
    """The metadata in the header of a safetensors file; raises as `read` does."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(verified(path), "pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(_damaged(path, error)) from error


def _damaged(path: Path, error: Exception) -> str:
    return f"weights: expected a safetensors file, got a damaged one, {path} ({error})"


def facts(path: Path) -> dict[str, Any]:
    """The facts in the header of a method's checkpoint: the method, its options, and how it was trained.

    Raises FileNotFoundError for a missing file, ValueError for a damaged one or another header.
    """
    held = header(path)
    try:
        return {"method": held["method"], "options": json.loads(held["options"]), **json.loads(held["facts"])}
    except (KeyError, ValueError, TypeError) as error:
        expected = "a header with method, options and facts"
        raise ValueError(f"weights: expected {expected} in {path.name}, got {held or 'none'}") from error


def read_method(path: Path, name: str, under: str = "") -> dict[str, "torch.Tensor"]:
    """`read` for a checkpoint of the method `name`; a ValueError for another method's, too."""
    if (held := facts(path)["method"]) != name:
        raise ValueError(f"weights: expected those of {name} in {path.name}, got those of {held}")
    return read(path, under)


def fill(
    network: "torch.nn.Module", state: Mapping[str, "torch.Tensor"], what: str, spared: tuple[str, ...] = ()
) -> None:
    """Give a network the weights of `state`, one for each of its own; only names that begin with `spared` may lack.

    Raises ValueError where one is missing, left over or of another shape.
    """
    own = network.state_dict()
    lacking, over = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if over or (lacking := [key for key in lacking if not key.startswith(spared)]):
        raise ValueError(f"weights: expected those of {what}, got some without {lacking} and with {over}")
    if other := [key for key, value in state.items() if value.shape != own[key].shape]:
        raise ValueError(f"weights: expected those of {what}, got {other[0]} of shape {tuple(state[other[0]].shape)}")
    network.load_state_dict(state, strict=False, assign=True)


def write(state: Mapping[str, "torch.Tensor"], path: Path, about: Mapping[str, str]) -> None:
    """Write tensors, floats in half precision, and a header; the file is whole or not there.

    Raises OSError as writing does.
    """
    from safetensors.torch import save_file

    from gadkit.files import replacing

    half = {k: (v.detach().half() if v.is_floating_point() else v).cpu().contiguous() for k, v in state.items()}
    with replacing(path) as part:
        save_file(half, part, dict(about))


def write_heads(heads: Mapping[str, "torch.Tensor"], name: str, out: Path, facts: Mapping[str, Any]) -> Path:
    """Write the trained part of a detector, with `facts` on how and where it was made, into the folder `out`.

    Returns the path, `out/NAME.safetensors`.  Raises OSError as writing does.
    """
    from gadkit import files, runtime

    path = Path(out) / f"{name}.safetensors"
    write(heads, path, {"detector": name, "facts": json.dumps(dict(facts) | files.provenance(runtime.device()))})
    return path
