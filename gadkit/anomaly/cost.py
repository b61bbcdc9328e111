"""What an answer costs: the bytes of the tensors that live at its worst moment.

They are counted where torch makes them, so that the number is the same on every machine and in every run, on a CPU and
on a GPU.  What libraries keep for themselves while they compute is not in it, nor is the interpreter.

Book: anomaly/benchmark
"""

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gadkit.checks import describe

T = TypeVar("T")


class _Counter(TorchDispatchMode):
    """Counts the storages that are made while it is on, and those of them that are still there."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for storage in _storages((args, kwargs)):
            self._enter(storage, 0)  # it was there before
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            self._enter(storage, storage.nbytes())
        return out

    def _enter(self, storage: UntypedStorage, size: int) -> None:
        if storage._cdata in self._known:  # a view
            return
        self._known.add(storage._cdata)
        weakref.finalize(storage, self._leave, storage._cdata, size)
        self.now += size
        self.most = max(self.most, self.now)

    def _leave(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _storages(values: Any) -> list[UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def peak(call: Callable[[], T]) -> tuple[T, int]:
    """What a call returns, and the most bytes of tensors that it had made and still held at one moment.

    Tensors that were there before do not count, and its own result does.  Raises ValueError for what is no call.
    """
    if not callable(call):
        raise ValueError(f"call: expected a function, got {describe(call)}")
    with _Counter() as counter:
        found = call()
    return found, counter.most
