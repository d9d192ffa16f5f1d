"""Large arrays on disk, with only the pages in use in memory."""

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

LARGE_BYTES = 32 * 2**20
"""Smaller arrays stay in memory. 512 x 512 x 64 voxels of int16 are the smallest on disk."""

_PAGE_OUT = 21
"""Linux's MADV_PAGEOUT, for which Python has no constant. Like MADV_DONTNEED, but private changes are kept."""


def zeros(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """Zeros, in memory or, if they are large, in an unnamed temporary file that is deleted with the array.

    The file is in `tempfile`'s folder (set by `TMPDIR`). If there is no space, the array is in memory instead.
    """
    if math.prod(shape) * np.dtype(dtype).itemsize >= LARGE_BYTES:
        try:
            with tempfile.TemporaryFile(prefix="stunet-") as file:
                return zeros_in(file, shape, dtype)
        except OSError:
            pass
    return np.zeros(shape, dtype)


def zeros_in(file: IO[bytes], shape: Sequence[int], dtype: DTypeLike) -> np.memmap:
    """Zeros that fill an empty file. Writing to them writes to the file.

    Raises:
        OSError: there is not enough space; checked here, because a later write without space kills a process.
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
    """Free the memory of an array that is mapped to a file, including all of it if `array` is a view of a part.

    The contents stay valid and are read from the file again on access. Data written to a private map (`numpy.memmap`
    with mode "c") stays in memory. Other arrays are not touched.
    """
    owner: object = array
    while isinstance(owner, np.ndarray) and not isinstance(owner, np.memmap):
        owner = owner.base
    while isinstance(owner, np.memmap) and isinstance(owner.base, np.memmap):
        owner = owner.base
    if isinstance(owner, np.memmap) and isinstance(owner.base, mmap.mmap) and sys.platform == "linux":
        with suppress(OSError):  # old kernel, or another user's file: the pages stay until the system needs memory
            owner.base.madvise(_PAGE_OUT if owner.mode == "c" else mmap.MADV_DONTNEED)
