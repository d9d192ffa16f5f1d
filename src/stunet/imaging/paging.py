"""Large arrays on disk, of which memory holds only the pages that are looked at."""

import math
import mmap
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

import numpy as np
from numpy.typing import DTypeLike

LARGE_BYTES = 128 * 2**20
"""Smaller arrays are in memory: 512 x 512 x 256 voxels of int16 are the smallest on disk."""

_PAGE_OUT = 21
"""Linux' MADV_PAGEOUT, which Python has no name for: as MADV_DONTNEED, but private changes are kept."""


def zeros(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """Zeros, in memory, or if they are large in a temporary file without a name, which goes when the array goes.

    The file lies where `tempfile` puts files (`TMPDIR` chooses); without room there the array is in memory after all.
    """
    if math.prod(shape) * np.dtype(dtype).itemsize >= LARGE_BYTES:
        try:
            with tempfile.TemporaryFile(prefix="stunet-") as file:
                return zeros_in(file, shape, dtype)
        except OSError:
            pass
    return np.zeros(shape, dtype)


def zeros_in(file: IO[bytes], shape: Sequence[int], dtype: DTypeLike) -> np.memmap:
    """Zeros that fill an empty file; what is written to them is in the file.

    Raises:
        OSError: there is no room for all of them; found out now, for a later write without room kills a process.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        for start in range(0, size, mmap.PAGESIZE * 1024):
            file.write(bytes(min(mmap.PAGESIZE * 1024, size - start)))
        file.flush()
    return np.memmap(file, dtype, "r+", shape=tuple(shape))


def release(array: np.ndarray) -> None:
    """Give back the memory of an array that lies in a file: of all of it, also where `array` is a view of a part.

    It stays as it is, and is read from the file again when it is looked at; what was written to a private map
    (`numpy.memmap` with mode "c") stays in memory. Other arrays are left alone.
    """
    owner: object = array
    while isinstance(owner, np.ndarray) and not isinstance(owner, np.memmap):
        owner = owner.base
    while isinstance(owner, np.memmap) and isinstance(owner.base, np.memmap):
        owner = owner.base
    if isinstance(owner, np.memmap) and isinstance(owner.base, mmap.mmap) and sys.platform == "linux":
        with suppress(OSError):  # an old kernel, or somebody else's file: its pages stay until others need the room
            owner.base.madvise(_PAGE_OUT if owner.mode == "c" else mmap.MADV_DONTNEED)
