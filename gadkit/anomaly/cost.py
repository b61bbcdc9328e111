"""What an answer costs: the bytes of the tensors that live at its worst moment.

They are counted where torch makes them, so that the number is the same on every machine and in every run, on a CPU and
on a GPU.  What libraries keep for themselves while they compute is not in it, nor is the interpreter.

Book: anomaly/benchmark
"""

import weakref
from collections.abc import Callable, Iterator
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
        for key, held, _ in _storages((args, kwargs)):
            self._enter(key, held, 0)  # it was there before
        out = func(*args, **(kwargs or {}))
        for key, held, size in _storages(out):
            self._enter(key, held, size)
        return out

    def _enter(self, key: int, held: UntypedStorage | Tensor, size: int) -> None:
        if key in self._known:  # a view
            return
        self._known.add(key)
        weakref.finalize(held, self._leave, key, size)
        self.now += size
        self.most = max(self.most, self.now)

    def _leave(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _storages(values: Any) -> Iterator[tuple[int, UntypedStorage | Tensor, int]]:
    """Where tensors keep their numbers: what tells two places apart, what lives as long as they do, and bytes."""
    for leaf in tree_leaves(values):
        if isinstance(leaf, Tensor) and leaf.is_mkldnn:  # oneDNN's own layout has no storage to look at
            yield id(leaf), leaf, leaf.numel() * leaf.element_size()
        elif isinstance(leaf, Tensor):
            storage = leaf.untyped_storage()
            yield storage._cdata, storage, storage.nbytes()


def peak(call: Callable[[], T]) -> tuple[T, int]:
    """What a call returns, and the most bytes of tensors that it had made and still held at one moment.

    Tensors that were there before do not count, and its own result does.  Raises ValueError for what is no call.
    """
    if not callable(call):
        raise ValueError(f"call: expected a function, got {describe(call)}")
    with _Counter() as counter:
        found = call()
    return found, counter.most
