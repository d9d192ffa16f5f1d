"""Measure how much memory code takes by running it on tensors that have shapes but no data.

Operations run as usual, autograd's included. A log records when each tensor is created and when it is freed.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any
from weakref import WeakKeyDictionary, finalize

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)


def without_memory() -> AbstractContextManager:
    """In this context, tensors have CPU shapes, types and layouts but no data. Use no other tensors in it."""
    return FakeTensorMode()


def bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    """The bytes of the tensors' elements."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class AllocationLog(TorchDispatchMode):
    """Records which memory the operations in its context allocate and free, in order.

    While a convolution runs, its arguments count twice, because its kernel may copy them to another layout. Memory that
    two tensors share counts once.

    Args:
        held: tensors that already exist, such as weights; they are not counted.

    Attributes:
        changes: bytes allocated; negative if freed.
        owners: for each change, the number of the memory block; see `number_of`.
    """

    def __init__(self, held: Iterable[torch.Tensor] = ()):
        super().__init__()
        self.changes: list[int] = []
        self.owners: list[int] = []
        self._numbers: WeakKeyDictionary[torch.UntypedStorage, int] = WeakKeyDictionary()
        for tensor in held:
            self._numbers.setdefault(tensor.untyped_storage(), len(self._numbers))
        self._next = len(self._numbers)

    def number_of(self, tensor: torch.Tensor) -> int:
        """The number of a tensor's memory block in `owners`.

        Raises:
            KeyError: the tensor is neither in `held` nor created in this context.
        """
        return self._numbers[tensor.untyped_storage()]

    @property
    def peak_bytes(self) -> int:
        """The largest number of bytes allocated at one time."""
        return int(np.cumsum([0, *self.changes]).max())

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run the operation, or its parts in inference mode, and record the tensors that it creates."""
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and func.namespace == "aten":
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            self._note(tensor.untyped_storage())
        if func in CONVOLUTIONS:
            copies = bytes_of(_tensors(args))
            self._change(self._next, copies)
            self._change(self._next, -copies)
            self._next += 1
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        if size == 0 or storage in self._numbers:
            return
        number = self._next
        self._next += 1
        self._numbers[storage] = number
        self._change(number, size)
        finalize(storage, self._change, number, -size)

    def _change(self, owner: int, size: int) -> None:
        self.owners.append(owner)
        self.changes.append(size)


def _tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]
