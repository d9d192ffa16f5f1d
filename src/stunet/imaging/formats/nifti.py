"""Read NIfTI files and write label maps. All claims of a header are checked before memory is allocated.

Supports NIfTI-1 and NIfTI-2 single files, plain or gzipped, in either byte order. Files are read as a stream. A header
that claims more than its file can contain, or more than any scan has, is refused before voxels are read.
"""

import gzip
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, cast

import nibabel
import numpy as np

from stunet.errors import FileError
from stunet.files import replacing
from stunet.imaging.formats.claims import check_claim
from stunet.imaging.formats.nifti_header import (
    HEADER_TYPES,
    UNSCALED,
    checked_dtype,
    checked_geometry,
    checked_shape,
    read_header,
    scaling_of,
    voxel_offset,
)
from stunet.imaging.label_array import label_dtype
from stunet.imaging.paging import release, zeros
from stunet.imaging.volume import Volume
from stunet.labels.ontology import colour_of

GZIP_LEVEL = 1
"""Label maps are long runs of one value. Level 1 is three times as fast as 6, and the files are still small."""

FRACTION_STEPS = 65535
"""Numbers from 0 to 1 are written in this many steps: half the bytes of float32, and finer than bfloat16 output."""

READ_BYTES = 1 << 20
"""Voxel data is read and converted in blocks of about this size."""

NIFTI1_LONGEST_AXIS = 32767
"""Maximum number of voxels along an axis in NIfTI-1."""

LABEL_TABLE_CODE = 0
"""Extension code of the label table. TotalSegmentator writes 0; nibabel cannot read the content of its own code 30."""


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
        _skip(stream, offset - read, name)
        array = _read_voxels(stream, shape_xyz[::-1], dtype, scaling, name)
    warnings = (*geometry.warnings, *_warnings_of_rest(stream, name))
    return Volume(array[None], geometry.affine, header.binaryblock, name, geometry.spacing, warnings)


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


def write_nifti_labels(
    labels_ZYX: np.ndarray, like: Volume, path: Path, names: Mapping[int, str] | None = None
) -> None:
    """Write a label map on exactly the grid of a scan.

    If the scan came from NIfTI, pixdim, qform, sform and units are copied byte for byte. The file appears only when it
    is complete.

    Args:
        labels_ZYX: (Z, Y, X) non-negative integers below 65536, on the grid of `like`.
        like: The scan.
        path: Ends in `.nii` or `.nii.gz`.
        names: Label -> structure name, stored in the header extension that TotalSegmentator's reader uses.

    Raises:
        UserError: The folder cannot be written.
        ValueError: The labels do not fit the grid or the types above.
    """
    dtype = label_dtype(labels_ZYX)
    header = _derived_header(like, dtype, "stunet label map")
    _write(labels_ZYX, header, like, path, _extension_block(names, header.endianness) if names else b"")


def write_nifti_fractions(steps_ZYX: np.ndarray, like: Volume, path: Path) -> None:
    """Write numbers from 0 to 1 on the grid of a scan. The header's slope scales them for readers.

    Args:
        steps_ZYX: (Z, Y, X) uint16, on the grid of `like`, in steps of 1 / `FRACTION_STEPS`.
        like: The scan.
        path: Ends in `.nii` or `.nii.gz`.

    Raises:
        UserError, ValueError: As for `write_nifti_labels`.
    """
    header = _derived_header(like, np.dtype(np.uint16), "stunet probabilities")
    header["scl_slope"] = 1 / FRACTION_STEPS
    _write(steps_ZYX, header, like, path)


def write_nifti_image(array_ZYX: np.ndarray, like: Volume, path: Path) -> None:
    """Write one channel (Z, Y, X) of integers or float32, in its own type, on the grid of a scan.

    Raises:
        UserError, ValueError: As for `write_nifti_labels`.
    """
    _write(array_ZYX, _derived_header(like, array_ZYX.dtype, "stunet image"), like, path)


def split_nifti_channels(path: Path, places: Sequence[Path]) -> None:
    """Write each 3D image of a 4D file to its own file, with unchanged voxels, type, scaling and geometry.

    Args:
        path: A `.nii` or `.nii.gz` file whose fourth axis counts channels.
        places: One output file per channel. Memory use is limited to a block of a channel.

    Raises:
        UserError: The file is damaged, contradicts itself, has another number of channels, or an output cannot be
            written.
    """
    name = str(path)
    with opened(path) as stream:
        header = read_header(stream, name)
        channels = int(header["dim"][4]) if header["dim"][0] == 4 else 1
        if channels != len(places):
            raise FileError(f"{name}: has {channels} channels, but {len(places)} are expected.")
        single = header.copy()
        single["dim"][0], single["dim"][4:] = 3, 1
        shape_xyz, dtype = checked_shape(single, name), checked_dtype(header, name)
        checked_geometry(header, name)
        offset = voxel_offset(header, name, least=header.sizeof_hdr)
        size = int(np.prod(shape_xyz)) * dtype.itemsize
        check_claim(offset + channels * size, path, isinstance(stream, gzip.GzipFile))
        _skip(stream, offset - header.sizeof_hdr, name)
        single["vox_offset"] = single.single_vox_offset
        for place in places:
            with _packed(place) as output:
                output.write(single.binaryblock + bytes(4))
                _copy_bytes(stream, output, size, name)
        _warnings_of_rest(stream, name)  # verifies the checksum


def _copy_bytes(stream: IO[bytes], output: IO[bytes], size: int, name: str) -> None:
    """Copy exactly this many bytes in blocks."""
    for start in range(0, size, READ_BYTES):
        piece = np.empty(min(READ_BYTES, size - start), dtype=np.uint8)
        _fill(stream, piece, name)
        output.write(piece.data)


def _write(
    array_ZYX: np.ndarray, header: nibabel.Nifti1Header, like: Volume, path: Path, extension: bytes = b""
) -> None:
    """Write voxels in the header's type, plane by plane."""
    if array_ZYX.shape != like.shape:
        raise ValueError(f"labels or probabilities of shape {array_ZYX.shape} do not fit the scan's grid {like.shape}")
    dtype = header.get_data_dtype()
    header["vox_offset"] = header.single_vox_offset + len(extension)
    with _packed(path) as stream:
        stream.write(header.binaryblock)
        stream.write(bytes([bool(extension), 0, 0, 0]))
        stream.write(extension)
        for plane in array_ZYX:
            stream.write(np.ascontiguousarray(plane, dtype=dtype).data)


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


def _skip(stream: IO[bytes], count: int, name: str) -> None:
    """Skip header extensions."""
    while count > 0:
        passed = len(stream.read(min(count, READ_BYTES)))
        if not passed:
            raise FileError(f"{name}: ends before its first voxel; copy or export it again.")
        count -= passed


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
        _fill(stream, piece, name)
        flat[start : start + step] = piece if scaling == UNSCALED else piece * scaling[0] + scaling[1]
        release(array)
    return np.asarray(array)


def _fill(stream: IO[bytes], piece: np.ndarray, name: str) -> None:
    """Read exactly as many bytes as the array has."""
    view = piece.data.cast("B")
    done = 0
    while done < len(view):
        got = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise FileError(f"{name}: ends before its last voxel; it is truncated, copy or export it again.")
        done += got


def _warnings_of_rest(stream: IO[bytes], name: str) -> tuple[str, ...]:
    """Read a little further, so that gzip verifies its checksum. Warn if there is more data."""
    return (f"{name}: data after the last voxel is ignored.",) if stream.read(READ_BYTES) else ()


def _derived_header(like: Volume, dtype: np.dtype, description: str) -> nibabel.Nifti1Header:
    if not like.nifti_header:
        header = _new_header(like)
    else:
        header = HEADER_TYPES[len(like.nifti_header)](like.nifti_header, check=False)
    z, y, x = like.shape
    header["dim"] = [3, x, y, z, 1, 1, 1, 1]
    header["pixdim"] = np.nan_to_num(header["pixdim"])  # for unused axes
    header.set_data_dtype(dtype)
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"] = header["cal_max"] = 0
    header["intent_code"], header["intent_name"] = 0, b""
    header["descrip"] = description.encode()
    return header


def _new_header(like: Volume) -> nibabel.Nifti1Header:
    z, y, x = like.shape
    header = nibabel.Nifti1Header() if max(z, y, x) <= NIFTI1_LONGEST_AXIS else nibabel.Nifti2Header()
    header.set_data_shape((x, y, z))
    header.set_xyzt_units("mm")
    header.set_qform(like.affine, code=1)
    header.set_sform(like.affine, code=1)
    return header


def _extension_block(names: Mapping[int, str], endianness: str) -> bytes:
    """The names as a header extension, Caret's label table: size, code and XML, padded to a multiple of 16 bytes."""
    rows = "".join(_label_row(label, name) for label, name in sorted(names.items()))
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><CaretExtension><VolumeInformation Index="0">'
        f"<LabelTable>{rows}</LabelTable><VolumeType><![CDATA[Label]]></VolumeType></VolumeInformation></CaretExtension>"
    ).encode()
    text += b" " * (-(len(text) + 8) % 16)
    return struct.pack(f"{endianness}ii", len(text) + 8, LABEL_TABLE_CODE) + text


def _label_row(label: int, name: str) -> str:
    """One entry of the label table, in the structure's colour, as in previews."""
    red, green, blue = (value / 255 for value in colour_of(name, label))
    text = name.replace("]]>", "")
    colour = f'Red="{red:.3f}" Green="{green:.3f}" Blue="{blue:.3f}" Alpha="1"'
    return f'<Label Key="{label}" {colour}><![CDATA[{text}]]></Label>'


@contextmanager
def _packed(path: Path) -> Iterator[IO[bytes]]:
    """A stream to a file that appears when everything is written. It is compressed if its name ends in .gz."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        if not path.name.lower().endswith(".gz"):
            yield file
            return
        with gzip.GzipFile(filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=file, mtime=0) as packed:
            yield cast(IO[bytes], packed)
