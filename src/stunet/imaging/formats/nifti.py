"""Read NIfTI files. All claims of a header are checked before memory is allocated.

Supports NIfTI-1 and NIfTI-2 single files, and pairs of `.hdr` and `.img`, plain or gzipped, in either byte order. Files
are read as a stream. A header that claims more than its file can contain, or more than any scan has, is refused before
voxels are read.
"""

import gzip
import re
from dataclasses import replace
from pathlib import Path
from typing import IO

import nibabel
import numpy as np

from stunet.errors import FileError
from stunet.imaging.formats.claims import check_claim
from stunet.imaging.formats.nifti_header import (
    UNSCALED,
    checked_dtype,
    checked_geometry,
    checked_shape,
    read_header,
    scaling_of,
    voxel_offset,
)
from stunet.imaging.formats.nifti_stream import READ_BYTES, fill, has_ended, opened, skip
from stunet.imaging.paging import release, zeros
from stunet.imaging.volume import Volume


def read_nifti(path: Path) -> Volume:
    """Read one 3D image.

    Values are rescaled by the header's slope and intercept. Integers without rescaling keep their type; everything else
    becomes float32. If nothing needs unpacking or conversion, the array is memory-mapped and read on access: do not
    change the file in the meantime (replacing it is safe). Otherwise it is a copy, on disk if it is large
    (`stunet.imaging.paging`).

    Args:
        path: A `.nii` or `.nii.gz` file. Compression is detected from the content.

    Returns:
        Volume with array (1, Z, Y, X). It may contain NaN, which `preprocess` refuses.

    Raises:
        UserError: The file is damaged, contradicts itself, or is not one real-valued 3D image.
    """
    with opened(path) as stream:
        header = read_header(stream, str(path))
        if bytes(header["magic"])[:3] not in (b"n+1", b"n+2"):
            raise FileError(
                f"{path}: the NIfTI magic is {bytes(header['magic'])!r}, not 'n+1' or 'n+2' of a single-file image; "
                "the file is damaged or of another format, convert it to .nii.gz."
            )
        return _read_image(stream, header, header.sizeof_hdr, path)


def read_nifti_pair(path: Path) -> Volume:
    """Read one 3D image from two files, `.hdr` and `.img`, in NIfTI or Analyze 7.5 format, each plain or gzipped.

    Analyze headers do not give the orientation in the patient, so the volume gets a warning.

    Args:
        path: Either file; the other must be next to it.

    Raises:
        UserError: One of the two is missing, or as for `read_nifti`.
    """
    header_path, image_path = _partner(path, ".hdr"), _partner(path, ".img")
    with opened(header_path) as stream:
        header = read_header(stream, str(header_path))
    if bytes(header["magic"])[:3] not in (b"ni1", b"ni2"):
        header = _from_analyze(header)
    header["magic"] = header.single_magic  # label maps are single files
    with opened(image_path) as stream:
        return replace(_read_image(stream, header, 0, image_path), source=str(path))


def _partner(path: Path, suffix: str) -> Path:
    """The other file of a pair with this suffix, in upper or lower case, with or without `.gz`."""
    stem = re.sub(r"\.(hdr|img)(\.gz)?$", "", path.name.lower())
    wanted = {f"{stem}{suffix}{gz}" for gz in ("", ".gz")}
    if path.name.lower() in wanted:
        return path
    for other in sorted(path.parent.iterdir()):
        if other.name.lower() in wanted:
            return other
    raise FileError(f"{path}: its other half, the {suffix} file of the same name, is missing; copy both.")


def _from_analyze(analyze: nibabel.Nifti1Header) -> nibabel.Nifti1Header:
    """Convert an Analyze header to NIfTI. SPM's scale factor is at the position of NIfTI's slope."""
    header = nibabel.Nifti1Header(endianness=analyze.endianness)
    for field in ("dim", "datatype", "bitpix", "pixdim", "vox_offset", "scl_slope"):
        header[field] = analyze[field]
    return header


def _read_image(stream: IO[bytes], header: nibabel.Nifti1Header, read: int, path: Path) -> Volume:
    """Check the header and read the voxels from a stream of which `read` bytes, the header's, are already read."""
    name = str(path)
    shape_xyz = checked_shape(header, name)
    dtype = checked_dtype(header, name)
    geometry = checked_geometry(header, name)
    offset = voxel_offset(header, name, least=read)
    is_compressed = isinstance(stream, gzip.GzipFile)
    check_claim(offset + int(np.prod(shape_xyz)) * dtype.itemsize, path, is_compressed)
    scaling = scaling_of(header)
    as_stored = scaling == UNSCALED and dtype == _type_in_memory(dtype, scaling)
    if as_stored and offset % dtype.itemsize == 0 and not is_compressed:
        # the file itself is the array; nothing is ever written to it
        array = np.asarray(np.memmap(stream, dtype, mode="c", offset=offset, shape=shape_xyz[::-1]))
        stream.seek(offset + array.nbytes)
    else:
        skip(stream, offset - read, name)
        array = _read_voxels(stream, shape_xyz[::-1], dtype, scaling, name)
    rest = () if has_ended(stream) else (f"{name}: data after the last voxel is ignored.",)
    return Volume(array[None], geometry.affine, header.binaryblock, name, geometry.spacing, (*geometry.warnings, *rest))


def nifti_volume(voxels_xyz: np.ndarray, header: nibabel.Nifti1Header, name: str) -> Volume:
    """A volume from voxels in memory and their header, with the same checks as for a file.

    Args:
        voxels_xyz: (X, Y, Z), rescaled, in a type that a volume supports. They are not copied.
        header: Of a single file; its dimensions and type match the voxels.
        name: Used in messages.

    Raises:
        UserError: As for `read_nifti`.
    """
    shape_xyz = checked_shape(header, name)
    place = checked_geometry(header, name)
    array = voxels_xyz.reshape(shape_xyz).T[None]
    return Volume(array, place.affine, header.binaryblock, name, place.spacing, place.warnings)


def _type_in_memory(dtype: np.dtype, scaling: tuple[float, float]) -> np.dtype:
    keep = dtype.kind in "iu" and scaling == UNSCALED
    return dtype.newbyteorder("=") if keep else np.dtype(np.float32)


def _read_voxels(
    stream: IO[bytes], shape_ZYX: tuple[int, int, int], dtype: np.dtype, scaling: tuple[float, float], name: str
) -> np.ndarray:
    """Read (Z, Y, X) voxels block by block, and convert them."""
    array = zeros(shape_ZYX, _type_in_memory(dtype, scaling))
    flat = array.reshape(-1)
    step = READ_BYTES // dtype.itemsize
    buffer = np.empty(min(step, flat.size), dtype=dtype)
    for start in range(0, flat.size, step):
        piece = buffer[: flat.size - start]
        fill(stream, piece, name)
        flat[start : start + step] = piece if scaling == UNSCALED else piece * scaling[0] + scaling[1]
        release(array)
    return np.asarray(array)
