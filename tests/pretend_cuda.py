"""A GPU for tests on a machine without one: tensors that say "cuda:0" and refuse what CUDA refuses.

Inside `pretend_cuda()` a tensor that was made on or moved to "cuda" computes on the CPU, but: it does not meet tensors
of the CPU in one operation (except single numbers, copies, and indices as CUDA takes them), has no `numpy()`, and is
not drawn from a generator of the CPU.  What is right here may still differ on a GPU in rounding and in speed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.backends import cudnn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA, CPU = torch.device("cuda:0"), torch.device("cpu")
aten = torch.ops.aten
CROSSES = {aten.copy_, aten._to_copy, aten.to}  # from one device to the other is what they are for
TAKES_CPU_INDEX = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
MAKES = {torch.tensor, torch.as_tensor, torch.asarray}


class OnCUDA(Tensor):
    """A tensor that says it is on "cuda:0"; `inner` holds its numbers."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "OnCUDA":
        made = Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=CUDA, requires_grad=inner.requires_grad,
        )  # fmt: skip
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self) -> str:
        return f"OnCUDA({self.inner!r})"

    def __format__(self, spec: str) -> str:
        return format(self.inner if self.ndim else self.item(), spec)

    def data_ptr(self) -> int:
        """Where the numbers are."""
        return self.inner.data_ptr()

    def tolist(self) -> Any:
        """Numbers, which come over to the CPU by themselves."""
        return self.inner.tolist()

    def numpy(self, *_: Any, **__: Any) -> None:
        """Refuse, in torch's words."""
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, *_: Any, **__: Any) -> None:
        self.numpy()

    @classmethod
    def __torch_dispatch__(cls, f: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(f, args, kwargs or {})


def _inner(x: Any) -> Any:
    return x.inner if isinstance(x, OnCUDA) else CPU if isinstance(x, torch.device) else x


def _check(f: Callable, args: tuple, kwargs: dict, where: torch.device) -> None:
    """Raise what CUDA raises."""
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    ours = [x for x in tensors if isinstance(x, OnCUDA)]
    others = [x for x in tensors if not isinstance(x, OnCUDA) and x.ndim > 0]
    if f in TAKES_CPU_INDEX and isinstance(args[0], OnCUDA):
        others = [x for x in others if x.dtype not in (torch.long, torch.bool)]
    if ours and others and f.overloadpacket not in CROSSES:
        raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu in {f}")
    if ours and f is aten.equal.default and len(ours) < 2:
        raise RuntimeError("Expected all tensors to be on the same device, but found cuda:0 and cpu in equal")
    generator = kwargs.get("generator")
    if where.type == "cuda" and generator is not None and generator.device.type == "cpu":
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")


def _run(f: Callable, args: tuple, kwargs: dict) -> Any:
    leaves = tree_leaves((args, kwargs))
    given = next((x for x in leaves if isinstance(x, torch.device)), None)
    ours = {id(x.inner): x for x in leaves if isinstance(x, OnCUDA)}
    where = torch.device(given) if given is not None else CUDA if ours else CPU
    if f.overloadpacket is aten.copy_ or f is aten.to.other:  # where the target is, or the model
        where = args[f is aten.to.other].device
    _check(f, args, kwargs, where)
    plain_args, plain_kwargs = tree_map(_inner, (args, kwargs))
    plain = [id(x) for x in leaves if isinstance(x, Tensor) and not isinstance(x, OnCUDA)]
    out = f(*plain_args, **plain_kwargs)
    if where.type == "cpu":
        return out

    def wrapped(x: Any) -> Any:
        if not isinstance(x, Tensor) or isinstance(x, OnCUDA):
            return x
        if id(x) in ours:
            return ours[id(x)]
        return OnCUDA(x.clone() if id(x) in plain else x)  # what comes over is a copy

    return tree_map(wrapped, out)


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, f: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return _run(f, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """What torch decides before its dispatcher: where new tensors go, and which attention kernel a chip has."""

    def __torch_function__(self, f: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if f in MAKES and (where := kwargs.get("device")) is not None:
            return f(*args, **{**kwargs, "device": None}).to(where)
        if f is Tensor.new_tensor and isinstance(args[0], OnCUDA):
            dtype = kwargs.get("dtype") or args[0].dtype
            return torch.tensor(*args[1:], dtype=dtype).to(kwargs.get("device") or CUDA)
        if f is Tensor.__getitem__ and isinstance(args[1], list):
            return f(args[0], torch.tensor(args[1]), **kwargs)
        if f is F.scaled_dot_product_attention and any(isinstance(x, OnCUDA) for x in tree_leaves((args, kwargs))):
            _check(f, args, kwargs, CUDA)
            return OnCUDA(f(*tree_map(_inner, args), **tree_map(_inner, kwargs)))
        return f(*args, **kwargs)


@contextmanager
def pretend_cuda() -> Iterator[None]:
    """Until the block ends there is a GPU, of a kind that the project has no kernels of its own for."""
    torch._C._ensureCUDADeviceGuardSet()  # so that torch's C++ code does not ask a driver
    told = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "current_device": lambda: 0,
        "get_device_name": lambda *_: "a pretended GPU",
        "get_device_capability": lambda *_: (7, 0),
        "is_bf16_supported": lambda *_, **__: False,
    }
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # a moved parameter is a new one
    try:
        with mock.patch.multiple(torch.cuda, **told), cudnn.flags(enabled=False), _Functions(), _Operations():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
