"""The pixels of slices, decoded by pydicom and rescaled: CT in Hounsfield units, PET in the units of the file."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import numpy as np
import pydicom
from pydicom.pixels import iter_pixels
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from stunet.errors import FileError, MissingPackageError, UserError
from stunet.extras import how_to_install
from stunet.imaging.formats.dicom.find import Source
from stunet.imaging.formats.dicom.headers import DAMAGE
from stunet.imaging.formats.dicom.slices import Slice

THREADS = min(4, os.cpu_count() or 1)
"""Files to decode at the same time."""

_INT16 = np.iinfo(np.int16)

AHEAD = 32
"""Files whose pixels may wait for their place in the volume."""


def read_pixels(slices: Sequence[Slice]) -> np.ndarray:
    """Decode and rescale slices of one size.

    Inverted images (MONOCHROME1) keep their values. Real-world value mappings are not used.

    Returns:
        (K, rows, columns) in the order of the slices: int16 if all values fit, else float32.

    Raises:
        UserError: pixels that cannot be decoded, or a decoder that is not installed; names the file.
    """
    array = np.empty((len(slices), *slices[0].size), dtype=np.int16)
    by_file = sorted(range(len(slices)), key=lambda index: (str(slices[index].source), slices[index].frame))
    files = [list(group) for _, group in groupby(by_file, key=lambda index: id(slices[index].source))]
    with ThreadPoolExecutor(THREADS, "stunet-pixels") as pool:
        for start in range(0, len(files), AHEAD):
            batch = files[start : start + AHEAD]
            for group, values in zip(batch, pool.map(lambda one: _of_file(slices, one), batch), strict=True):
                array = _placed(array, group, values)
    return array


def _placed(array: np.ndarray, indices: Sequence[int], values: np.ndarray) -> np.ndarray:
    """The volume with more slices in it; from the first value that is no int16 on, float32."""
    if array.dtype == np.int16 and values.dtype != np.int16:
        array = array.astype(np.float32)
    array[list(indices)] = values
    return array


def _of_file(slices: Sequence[Slice], indices: Sequence[int]) -> np.ndarray:
    """The rescaled slices of one file: (frames, rows, columns), int16 or float32."""
    frames = [slices[index] for index in indices]
    stored = _tiles(frames) if frames[0].tile else _frames(frames)
    values = [_rescaled(pixels, one.slope, one.intercept) for pixels, one in zip(stored, frames, strict=True)]
    return np.stack(values) if len(values) > 1 else values[0][None]


def _frames(frames: Sequence[Slice]) -> Iterator[np.ndarray]:
    """The stored values of slices that are frames of one file."""
    return _decoded(frames[0].source, [one.frame for one in frames], frames[0].size)


def _tiles(tiles: Sequence[Slice]) -> Iterator[np.ndarray]:
    """The stored values of slices that are tiles of one image."""
    parts = [(one.tile, *one.size) for one in tiles if one.tile]
    (image,) = _decoded(tiles[0].source, [0], parts[0][0].image_size)
    return (image[tile.row : tile.row + rows, tile.column : tile.column + columns] for tile, rows, columns in parts)


def _rescaled(pixels: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Stored values times slope plus intercept: int16 if they are whole numbers that fit, else float32."""
    if pixels.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer():
        ends = [int(value) * int(slope) + int(intercept) for value in (pixels.min(), pixels.max())]
        if all(_INT16.min <= number <= _INT16.max for number in (*ends, int(slope), int(intercept))):
            return pixels.astype(np.int16) * np.int16(slope) + np.int16(intercept)  # what wraps around wraps back
    return (pixels.astype(np.float64) * slope + intercept).astype(np.float32)


def _decoded(source: Source, frames: Sequence[int], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The stored values (rows, columns) of some frames of a file.

    Raises:
        UserError: they cannot be decoded.
    """
    try:
        with source.open() as file:
            dataset = pydicom.dcmread(file, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = _syntax_of(dataset)
        for pixels in iter_pixels(dataset, raw=True, indices=list(frames)):
            if pixels.shape != size:
                raise ValueError(f"pixels of shape {pixels.shape}")
            yield pixels
    except (*DAMAGE, RuntimeError) as error:  # the latter is what decoders raise, and pydicom where there is none
        if isinstance(error, UserError):
            raise
        raise _undecodable(source, error) from error


def _syntax_of(dataset: pydicom.Dataset) -> UID:
    """The transfer syntax that pydicom found for a file that does not name it."""
    is_implicit, is_little_endian = dataset.original_encoding
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian


def _undecodable(source: Source, error: BaseException) -> FileError | MissingPackageError:
    if "missing dependencies" in str(error):
        return MissingPackageError(
            f"{source}: is compressed, and its decoder is not installed: {how_to_install('dicom')}."
        )
    return FileError(f"{source}: the pixels cannot be decoded; the file is damaged, export it again.")
