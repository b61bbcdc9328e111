"""Torch's private operations, fenced in: each has a public counterpart that gives the same, and stands in for it.

No other file uses a name of torch that begins with an underscore.  An operation is taken if this machine's torch has it
and a small trial gives what the public one gives; `ALLOWED = False` switches all of them off.

Book: selfsup/representations
"""

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

ALLOWED = True
DYNAMO = "torch._dynamo"


def lerp_(targets: Sequence[Tensor], sources: Sequence[Tensor], share: float) -> None:
    """Move each target by `share` of its way to its source, in place; all tensors in one call where torch can."""
    if ALLOWED and hasattr(torch, "_foreach_lerp_"):
        torch._foreach_lerp_(list(targets), list(sources), share)
        return
    for target, source in zip(targets, sources, strict=True):
        target.lerp_(source, share)


def linear(
    x: Float[Tensor, "*n d"], weight: Float[Tensor, "e d"], bias: Float[Tensor, "e"] | None = None
) -> Float[Tensor, "*n e"]:
    """x @ weight.T (+ bias); on a CPU by oneDNN, which is faster on processors that MKL does not favour.

    Without gradients where oneDNN does it.
    """
    learns = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    if learns or not x.numel() or x.device.type != "cpu" or x.dtype != torch.float32 or not _can_point(x.dtype):
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def can_pack(weight: Tensor) -> bool:
    """Whether `pack` speeds this weight up: on a CPU with vector units that oneDNN has kernels for."""
    if weight.device.type != "cpu" or not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    return _can_pack(weight.dtype)


def pack(weight: Float[Tensor, "e d"]) -> Tensor:
    """A frozen weight in oneDNN's own layout, for `packed_linear`; only where `can_pack`."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())


def packed_linear(
    x: Float[Tensor, "*n d"], packed: Tensor, bias: Float[Tensor, "e"] | None, gelu: bool = False
) -> Float[Tensor, "*n e"]:
    """`F.linear` with a packed weight, and then GELU if `gelu`."""
    post = ("gelu", [], "none") if gelu else ("none", [], "")
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, *post)


def version(tensor: Tensor) -> int | None:
    """A number that changes with every change in place; None where torch does not count them."""
    if not ALLOWED or tensor.is_inference():
        return None
    return getattr(tensor, "_version", None)


@contextmanager
def without_compiler() -> Iterator[None]:
    """Import timm, torchvision or open_clip in here, and torch's compiler is left out: half the time.

    They import `torch._dynamo`, which takes longer than all the rest, for decorators that say what the compiler should
    leave alone.  Within the block a stand-in has these; asked for anything else, it gives way to the real module.
    """
    if not ALLOWED or DYNAMO in sys.modules:
        yield
        return
    stubs = {DYNAMO: _Stub(DYNAMO), f"{DYNAMO}.utils": _Stub(f"{DYNAMO}.utils")}
    stubs[DYNAMO].__path__, stubs[DYNAMO].disable = [], _as_it_is
    stubs[f"{DYNAMO}.utils"].is_compile_supported = lambda device: False
    sys.modules |= stubs
    try:
        yield
    finally:
        _give_way()


class _Stub(ModuleType):
    """A stand-in for a module; the real one is imported at the first question that it can't answer."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        _give_way()
        importlib.import_module("torch._dynamo.utils")  # and with it its parent
        return getattr(sys.modules[self.__name__], name)


def _give_way() -> None:
    for name in [name for name, module in sys.modules.items() if isinstance(module, _Stub)]:
        del sys.modules[name]


def _as_it_is(function: Callable | None = None, recursive: bool = True, reason: str | None = None) -> Callable:
    """A decorator that changes nothing, called with the function or before it."""
    return _as_it_is if function is None else function


def _can_point(dtype: torch.dtype) -> bool:
    return ALLOWED and torch.backends.mkldnn.is_available() and _trial(dtype, False)


def _can_pack(dtype: torch.dtype) -> bool:
    return ALLOWED and torch.backends.mkldnn.is_available() and _trial(dtype, True)


@cache
@torch.no_grad()
def _trial(dtype: torch.dtype, packed: bool) -> bool:
    """Whether oneDNN's product is there, and right on a small example."""
    with torch.autocast("cpu", enabled=False):
        x, weight = (torch.linspace(-1, 1, n * 16).view(n, 16).to(dtype) for n in (3, 8))
        bias = torch.linspace(-1, 1, 8).to(dtype)
        try:
            found = packed_linear(x, pack(weight) if packed else weight, bias, gelu=packed)
        except (AttributeError, RuntimeError, TypeError):  # another torch, or a processor without this arithmetic
            return False
        expected = F.linear(x.float(), weight.float(), bias.float())
        expected = F.gelu(expected) if packed else expected
        return torch.allclose(found.float(), expected, atol=1e-5 if dtype == torch.float32 else 0.05)
