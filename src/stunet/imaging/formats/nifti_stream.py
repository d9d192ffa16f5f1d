"""The bytes of a NIfTI file, plain or gzipped, in blocks."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np

from stunet.errors import FileError
from stunet.files import replacing

GZIP_LEVEL = 1
"""Label maps are long runs of one value. Level 1 is three times as fast as 6, and the files are still small."""

READ_BYTES = 1 << 20
"""Voxel data is read and converted in blocks of about this size."""


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a plain or gzipped file for reading. Damage found while reading becomes a readable error."""
    try:
        with path.open("rb") as file:
            magic = file.read(2)
            file.seek(0)
            if not magic:
                raise FileError(f"{path}: the file is empty; copy or export it again.")
            yield cast(IO[bytes], gzip.GzipFile(fileobj=file)) if magic == b"\x1f\x8b" else file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileError(
            f"{path}: the compressed data is damaged or ends too early; copy or export it again."
        ) from error
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error}).") from error


def skip(stream: IO[bytes], count: int, name: str) -> None:
    """Skip header extensions."""
    while count > 0:
        passed = len(stream.read(min(count, READ_BYTES)))
        if not passed:
            raise FileError(f"{name}: ends before its first voxel; copy or export it again.")
        count -= passed


def fill(stream: IO[bytes], piece: np.ndarray, name: str) -> None:
    """Read exactly as many bytes as the array has."""
    view = piece.data.cast("B")
    done = 0
    while done < len(view):
        got = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise FileError(f"{name}: ends before its last voxel; it is truncated, copy or export it again.")
        done += got


def has_ended(stream: IO[bytes]) -> bool:
    """Whether no data is left. Reading to the end makes gzip verify its checksum."""
    return not stream.read(READ_BYTES)


@contextmanager
def packed(path: Path) -> Iterator[IO[bytes]]:
    """A stream to a file that appears when everything is written. It is compressed if its name ends in .gz."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        if not path.name.lower().endswith(".gz"):
            yield file
            return
        with gzip.GzipFile(filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=file, mtime=0) as packed:
            yield cast(IO[bytes], packed)
