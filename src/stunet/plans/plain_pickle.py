"""Unpickle plain data: containers, numbers, text and numpy arrays. Nothing that a pickle names is ever imported.

A damaged pickle can still take much memory or time, so foreign ones are read by `stunet.confined.read_confined` only.
"""

import io
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from stunet.errors import UnsafeFileError

Globals = Mapping[tuple[str, str], Any]
"""What stands for each module and name that a pickle may use."""

NUMBERS = re.compile("[?bBhHiIlLqQefd]|b1|[iu][1248]|f[248]")
"""numpy's codes of types of numbers."""

MAX_PICKLE_BYTES = 256 * 2**20
"""The published plans, which list every training case, have at most 20 MB."""


def read_plain_pickle(
    file: BinaryIO, path: Path, more: Globals | None = None, persistent_load: Callable[[Any], Any] | None = None
) -> Any:
    """Unpickle the next pickle of a file, and leave the file at its end.

    Args:
        file: the file, which can seek.
        path: its path, for messages.
        more: globals beside those of plain data.
        persistent_load: gives the objects that the pickle's writer stored elsewhere.

    Raises:
        UserError: it would run code.
        Exception: anything, if it is damaged.
    """
    unpickler = _PlainUnpickler(io.BytesIO(_next_pickle(file)))
    unpickler.path = path
    unpickler.known = {**_PLAIN_GLOBALS, **(more or {})}
    unpickler.stored = persistent_load
    return unpickler.load()


def _next_pickle(file: BinaryIO) -> bytes:
    """The bytes up to the end of the pickle.

    Python's unpickler allocates its memo up to the largest index, so that ten bytes could request 30 GB.

    Raises:
        ValueError: an index is larger than the pickle can be, or the pickle has no end.
    """
    start = file.tell()
    most = min(file.seek(0, io.SEEK_END) - start, MAX_PICKLE_BYTES)
    file.seek(start)
    for opcode, argument, position in pickletools.genops(file):
        if (position or 0) - start > most:
            raise ValueError(f"more than {most} bytes")
        if opcode.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > most:
            raise ValueError(f"memo index {argument} in {most} bytes")
    length = file.tell() - start
    file.seek(start)
    return file.read(length)


class _PlainType:
    """Stands for numpy's dtype, whose own way to be unpickled can crash the process."""

    def __init__(self, code: str, *_: object):
        self.code = str(code)
        self.order: Any = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    @property
    def of_numbers(self) -> np.dtype:
        """The type of numbers.

        Raises:
            ValueError: it is none.
        """
        if not NUMBERS.fullmatch(self.code):
            raise ValueError(f"{self.code!r} is no type of numbers")
        return np.dtype(self.code) if self.order in "|=" else np.dtype(self.code).newbyteorder(self.order)


class _PlainArray:
    """Stands for numpy's array, which would allocate any shape that a file claims before its content is known."""

    def __init__(self, *_: object):
        self._content: list[Any] = []

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, content = state
        if isinstance(content, list):  # of objects
            self._content = content
        else:
            self._content = _numbers(content, dtype, shape, "F" if is_fortran else "C").tolist()

    def tolist(self) -> list[Any]:
        """The content, as numpy's method of this name gives it."""
        return self._content


def _numbers(content: bytes, dtype: _PlainType, shape: Any, order: Literal["C", "F"]) -> np.ndarray:
    return np.frombuffer(content, dtype.of_numbers).reshape(shape, order=order)


_PLAIN_GLOBALS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "bytearray"): bytearray,
    ("_codecs", "encode"): lambda text, encoding="latin1": str(text).encode("latin1"),
    ("numpy", "ndarray"): _PlainArray,
    ("numpy", "dtype"): _PlainType,
}
_PLAIN_NUMPY: dict[str, Callable[..., Any]] = {
    "multiarray._reconstruct": _PlainArray,
    "multiarray.scalar": lambda dtype, content: np.frombuffer(content, dtype.of_numbers)[0],
    "numeric._frombuffer": _numbers,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2
    for _name, _make in _PLAIN_NUMPY.items():
        _module, _attribute = f"{_core}.{_name}".rsplit(".", 1)
        _PLAIN_GLOBALS[_module, _attribute] = _make


class _PlainUnpickler(pickle.Unpickler):
    """Looks every global up in a table, and refuses those that are not there."""

    path: Path
    known: Globals
    stored: Callable[[Any], Any] | None

    def find_class(self, module: str, name: str) -> Any:
        """Look up the name in the table."""
        module = "builtins" if module == "__builtin__" else module  # its name in Python 2 and in old protocols
        try:
            return self.known[module, name]
        except KeyError:
            raise UnsafeFileError(
                f"{self.path} would run {module}.{name} when it is read; weights and plans do not need that. It was "
                "refused, and nothing was run."
            ) from None

    def persistent_load(self, stored: Any) -> Any:
        """Look up what the pickle's writer stored elsewhere."""
        if self.stored is None:
            raise pickle.UnpicklingError("plain data is not stored elsewhere")
        return self.stored(stored)
