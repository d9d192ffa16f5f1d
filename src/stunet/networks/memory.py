"""How much memory code takes, found by running it on tensors that have shapes but no memory.

Operations run as always, autograd's included; a ledger notes each tensor that they make, and when it is freed.
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
    """Within, tensors have shapes, types and layouts of tensors on the CPU, and no memory; only they may be used."""
    return FakeTensorMode()


def bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    """What the tensors' elements take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class Ledger(TorchDispatchMode):
    """Notes what the operations within it take and give back, in order.

    While a convolution runs, its arguments count twice: its kernel may hold them once more, in a layout of its own.
    Memory that two tensors share counts once.

    Args:
        held: tensors that are there before, such as weights; they are not counted.

    Attributes:
        changes: bytes taken, or with a minus given back.
        owners: for each change, the number of the memory that it is about; see `number_of`.
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
        """The number of a tensor's memory, by which `owners` knows it.

        Raises:
            KeyError: a tensor that was neither held nor made within.
        """
        return self._numbers[tensor.untyped_storage()]

    @property
    def peak_bytes(self) -> int:
        """The most that was taken at once."""
        return int(np.cumsum([0, *self.changes]).max())

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run the operation, or in inference mode those of which it consists, and note what it made."""
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
