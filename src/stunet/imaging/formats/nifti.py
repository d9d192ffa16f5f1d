"""NIfTI files in and label maps out, every claim of a header checked before memory is asked for.

NIfTI-1 and NIfTI-2 single files, plain or gzipped, in either byte order. Files are read as a stream: a header that
claims more than its file can hold, or than a scan can have, costs nothing but the reading of the header.
"""

import gzip
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import nibabel
import numpy as np

from stunet.errors import FileError
from stunet.files import replacing
from stunet.imaging.paging import release, zeros
from stunet.imaging.volume import Volume, check_affine, check_size, check_spacing, column_lengths
from stunet.labels.ontology import colour_of

logger = logging.getLogger(__name__)

GZIP_LEVEL = 1
"""Label maps are long runs of one value: level 1 is three times as fast as 6 and the files are small all the same."""

FRACTION_STEPS = 65535
"""Numbers from 0 to 1 are written in so many steps: half of float32's bytes, and finer than bfloat16's answers."""

DEFLATE_MAX_RATIO = 1032
"""One byte of deflate data never expands to more (zlib's technical details), so a bigger claim is false."""

MEMORY_FRACTION = 0.5
"""A scan whose voxels alone fill more of the machine's memory cannot be segmented on it and is refused at once."""

SPACING_DISAGREEMENT = 0.01
"""Relative difference between pixdim and the affine from which on the header contradicts itself."""

READ_BYTES = 1 << 20
"""Voxel data is read and converted in slabs of about this size."""

_HEADER_TYPES = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
_FIRST_BYTES = {
    struct.pack(f"{endianness}i", size): (kind, endianness)
    for size, kind in _HEADER_TYPES.items()
    for endianness in ("<", ">")
}
"""A NIfTI file begins with the size of its header; that tells version and byte order."""

_MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_UNSCALED = 1.0, 0.0
_CARET_EXTENSION = 30
"""Registered extension code (NIFTI_ECODE_CARET) of the label table."""


def read_nifti(path: Path) -> Volume:
    """Read one 3D image.

    Values are rescaled by the header's slope and intercept. Integers that need no rescaling keep their type; all else
    becomes float32. Where nothing is to be unpacked or converted the array is a window on the file, read when it is
    looked at: do not change the file meanwhile (replacing it is no change). Otherwise it is a copy,
    on disk if it is large (`stunet.imaging.paging`).

    Args:
        path: A `.nii` or `.nii.gz` file; whether it is compressed is decided by its content.

    Returns:
        Volume with array (1, Z, Y, X). It may hold NaN; `preprocess` refuses those.

    Raises:
        UserError: If the file is damaged, contradicts itself, or is not one real-valued 3D image.
    """
    name = str(path)
    with _open(path) as stream:
        header = _read_header(stream, name)
        shape_xyz = _checked_shape(header, name)
        dtype = _checked_dtype(header, name)
        affine, spacing = _checked_geometry(header, name)
        offset = _voxel_offset(header, name)
        _check_claim(offset + int(np.prod(shape_xyz)) * dtype.itemsize, path)
        scaling = _scaling(header)
        as_stored = scaling == _UNSCALED and dtype == _type_in_memory(dtype, scaling)
        if as_stored and offset % dtype.itemsize == 0 and not isinstance(stream, gzip.GzipFile):
            # the file itself is the array; nothing is ever written to it
            array = np.asarray(np.memmap(stream, dtype, mode="c", offset=offset, shape=shape_xyz[::-1]))
            stream.seek(offset + array.nbytes)
        else:
            _skip(stream, offset - header.sizeof_hdr, name)
            array = _read_voxels(stream, shape_xyz[::-1], dtype, scaling, name)
        _report_rest(stream, name)
    return Volume(array[None], affine, header.binaryblock, name, spacing)


def nifti_volume(voxels_xyz: np.ndarray, header: nibabel.Nifti1Header, name: str) -> Volume:
    """A volume of voxels in memory and their header, with the checks that a file gets.

    Args:
        voxels_xyz: (X, Y, Z), rescaled, in a type that a volume holds. They are not copied.
        header: Of a single file; its dimensions and type are theirs.
        name: What messages call it.

    Raises:
        UserError: As for `read_nifti`.
    """
    shape_xyz = _checked_shape(header, name)
    affine, spacing = _checked_geometry(header, name)
    return Volume(voxels_xyz.reshape(shape_xyz).T[None], affine, header.binaryblock, name, spacing)


def write_nifti_labels(
    labels_ZYX: np.ndarray, like: Volume, path: Path, names: Mapping[int, str] | None = None
) -> None:
    """Write a label map on exactly the grid of a scan.

    Where the scan came from NIfTI, pixdim, qform, sform and units are repeated to the byte. The file appears under its
    name only when it is complete.

    Args:
        labels_ZYX: (Z, Y, X) non-negative integers below 65536, on the grid of `like`.
        like: The scan.
        path: Ends in `.nii` or `.nii.gz`.
        names: Label to structure name, kept in the header extension where TotalSegmentator and Connectome Workbench
            look for it.

    Raises:
        UserError: If the folder cannot be written.
        ValueError: If the labels do not fit the grid or the types above.
    """
    dtype = _label_dtype(labels_ZYX)
    header = _derived_header(like, dtype, "stunet label map")
    _write(labels_ZYX, header, like, path, _extension_block(names, header.endianness) if names else b"")


def write_nifti_fractions(steps_ZYX: np.ndarray, like: Volume, path: Path) -> None:
    """Write numbers from 0 to 1 on the grid of a scan; readers see them as such, by the header's slope.

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
    """Write each 3D image of a 4D file to a file of its own: voxels, type, scaling and geometry as they are.

    Args:
        path: A `.nii` or `.nii.gz` file whose fourth axis counts channels.
        places: One file to write for each channel; no more than a slab of a channel is in memory.

    Raises:
        UserError: If the file is damaged, contradicts itself, has another number of channels, or a place cannot be
            written.
    """
    name = str(path)
    with _open(path) as stream:
        header = _read_header(stream, name)
        channels = int(header["dim"][4]) if header["dim"][0] == 4 else 1
        if channels != len(places):
            raise FileError(f"{name}: holds {channels} channels, but {len(places)} are expected.")
        single = header.copy()
        single["dim"][0], single["dim"][4:] = 3, 1
        shape_xyz, dtype = _checked_shape(single, name), _checked_dtype(header, name)
        _checked_geometry(header, name)
        offset = _voxel_offset(header, name)
        size = int(np.prod(shape_xyz)) * dtype.itemsize
        _check_claim(offset + channels * size, path)
        _skip(stream, offset - header.sizeof_hdr, name)
        single["vox_offset"] = single.single_vox_offset
        for place in places:
            with _packed(place) as output:
                output.write(single.binaryblock + bytes(4))
                _copy_bytes(stream, output, size, name)
        _report_rest(stream, name)


def _copy_bytes(stream: IO[bytes], output: IO[bytes], size: int, name: str) -> None:
    """Copy exactly so many bytes, some at a time."""
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
def _open(path: Path) -> Iterator[IO[bytes]]:
    """Open a plain or gzipped file for reading; damage met while reading becomes a sentence."""
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


def _read_header(stream: IO[bytes], name: str) -> nibabel.Nifti1Header:
    start = stream.read(4)
    if start not in _FIRST_BYTES:
        raise FileError(f"{name}: is not a NIfTI image (it does not begin like one); convert it to .nii.gz first.")
    kind, endianness = _FIRST_BYTES[start]
    block = start + stream.read(kind.sizeof_hdr - 4)
    if len(block) < kind.sizeof_hdr:
        raise FileError(f"{name}: ends within the NIfTI header; copy or export it again.")
    header = kind(block, endianness=endianness, check=False)
    if bytes(header["magic"])[:3] not in (b"n+1", b"n+2"):
        raise FileError(
            f"{name}: the NIfTI magic is {bytes(header['magic'])!r}, not 'n+1' or 'n+2' of a single-file image; "
            "the file is damaged or of another format, convert it to .nii.gz."
        )
    return header


def _checked_shape(header: nibabel.Nifti1Header, name: str) -> tuple[int, int, int]:
    """Return the size (x, y, z); trailing axes of one entry are dropped."""
    rank, *sizes = (int(size) for size in header["dim"])
    if not 1 <= rank <= 7 or min(sizes[:rank]) < 1:
        raise FileError(f"{name}: the header's dimensions {sizes[:3]} are not a size; export the scan again.")
    if rank < 3:
        raise FileError(f"{name}: is a {rank}D image, but a 3D scan is needed.")
    if max(sizes[3:rank], default=1) > 1:
        claimed = "x".join(map(str, sizes[:rank]))
        raise FileError(
            f"{name}: holds more than one 3D image ({rank}D, {claimed}); save the one to segment as a file of its own."
        )
    check_size(sizes[2::-1], name)
    return sizes[0], sizes[1], sizes[2]


def _checked_dtype(header: nibabel.Nifti1Header, name: str) -> np.dtype:
    code = int(header["datatype"])
    try:
        dtype = header.get_data_dtype()
    except (KeyError, nibabel.spatialimages.HeaderDataError) as error:
        raise FileError(f"{name}: the header's data type {code} is unknown; export the scan again.") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8 or int(header["bitpix"]) != 8 * dtype.itemsize:
        kind = nibabel.nifti1.data_type_codes.label[code]
        raise FileError(
            f"{name}: voxels of type {kind} with {int(header['bitpix'])} bits are not the real numbers of a scan; "
            "export it as a grey-value image (for example int16 or float32)."
        )
    return dtype


def _checked_geometry(header: nibabel.Nifti1Header, name: str) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Return the affine and the spacing (Z, Y, X), both in mm."""
    if not np.isfinite(header["pixdim"]).all():
        raise FileError(f"{name}: pixdim in the header is not finite; export the scan again.")
    unit = _MM_PER_UNIT.get(str(nibabel.nifti1.unit_codes.label.get(int(header["xyzt_units"]) % 8)), 1.0)
    x, y, z = (float(size) * unit for size in header["pixdim"][1:4])
    check_spacing((z, y, x), name)
    affine = _best_affine(header, name)
    affine[:3] *= unit
    check_affine(affine, name)
    lengths = column_lengths(affine)
    if not np.allclose(lengths, (z, y, x), rtol=SPACING_DISAGREEMENT):
        raise FileError(
            f"{name}: the header contradicts itself: pixdim says voxels of {x:g} x {y:g} x {z:g} mm, the affine "
            f"{lengths[2]:g} x {lengths[1]:g} x {lengths[0]:g} mm; correct it or export the scan again."
        )
    return affine, (z, y, x)


def _best_affine(header: nibabel.Nifti1Header, name: str) -> np.ndarray:
    """The sform where it is set, else the qform, else pixdim alone, as the standard orders them."""
    try:
        return np.array(header.get_best_affine(), dtype=np.float64)
    except (ValueError, nibabel.spatialimages.HeaderDataError) as error:
        raise FileError(f"{name}: the qform in the header is not a rotation; export the scan again.") from error


def _voxel_offset(header: nibabel.Nifti1Header, name: str) -> int:
    """Position of the first voxel in the (uncompressed) file; 0 stands for the usual place."""
    stated = float(header["vox_offset"])
    if not np.isfinite(stated) or 0 < stated < header.sizeof_hdr or stated < 0:
        raise FileError(f"{name}: the header puts the first voxel at byte {stated:g}; export the scan again.")
    return int(stated) or header.single_vox_offset


def _check_claim(claimed: int, path: Path) -> None:
    """Refuse a header whose voxels cannot be in the file or would not fit in memory."""
    stored = path.stat().st_size
    with path.open("rb") as file:
        limit = stored * DEFLATE_MAX_RATIO if file.read(2) == b"\x1f\x8b" else stored
    if claimed > limit:
        raise FileError(
            f"{path}: the header claims {claimed:,} bytes of voxels, but the file of {stored:,} bytes cannot hold "
            "them; it is truncated or damaged, copy or export it again."
        )
    if claimed > MEMORY_FRACTION * _physical_memory():
        raise FileError(
            f"{path}: the {claimed / 2**30:.1f} GiB of voxels that the header claims are more than this machine can "
            "handle; crop or downsample the scan."
        )


def _physical_memory() -> float:
    """Bytes of memory in this machine; infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


def _scaling(header: nibabel.Nifti1Header) -> tuple[float, float]:
    """Slope and intercept; slopes of 0, NaN or infinity mean none, as the standard says."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0:
        return _UNSCALED
    return slope, inter if np.isfinite(inter) else 0.0


def _skip(stream: IO[bytes], count: int, name: str) -> None:
    """Pass over header extensions without keeping them."""
    while count > 0:
        passed = len(stream.read(min(count, READ_BYTES)))
        if not passed:
            raise FileError(f"{name}: ends before its first voxel; copy or export it again.")
        count -= passed


def _type_in_memory(dtype: np.dtype, scaling: tuple[float, float]) -> np.dtype:
    keep = dtype.kind in "iu" and scaling == _UNSCALED
    return dtype.newbyteorder("=") if keep else np.dtype(np.float32)


def _read_voxels(
    stream: IO[bytes], shape_ZYX: tuple[int, int, int], dtype: np.dtype, scaling: tuple[float, float], name: str
) -> np.ndarray:
    """Read (Z, Y, X) voxels slab by slab, converting as they come."""
    array = zeros(shape_ZYX, _type_in_memory(dtype, scaling))
    flat = array.reshape(-1)
    step = READ_BYTES // dtype.itemsize
    buffer = np.empty(min(step, flat.size), dtype=dtype)
    for start in range(0, flat.size, step):
        piece = buffer[: flat.size - start]
        _fill(stream, piece, name)
        flat[start : start + step] = piece if scaling == _UNSCALED else piece * scaling[0] + scaling[1]
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


def _report_rest(stream: IO[bytes], name: str) -> None:
    """Read a little further, which also makes gzip compare its checksum; say so when something follows."""
    if stream.read(READ_BYTES):
        logger.warning("%s: data after the last voxel was ignored.", name)


def _label_dtype(labels_ZYX: np.ndarray) -> np.dtype:
    if labels_ZYX.dtype.kind not in "ui":
        raise ValueError(f"labels must be integers, not {labels_ZYX.dtype}")
    if labels_ZYX.dtype == np.uint8 or not labels_ZYX.size:
        return np.dtype(np.uint8)
    low, high = int(labels_ZYX.min()), int(labels_ZYX.max())
    if low < 0 or high > 65535:
        raise ValueError(f"labels must lie in 0..65535, not {low}..{high}")
    return np.dtype(np.uint8 if high < 256 else np.uint16)


def _derived_header(like: Volume, dtype: np.dtype, description: str) -> nibabel.Nifti1Header:
    if not like.nifti_header:
        header = _new_header(like)
    else:
        header = _HEADER_TYPES[len(like.nifti_header)](like.nifti_header, check=False)
    z, y, x = like.shape
    header["dim"] = [3, x, y, z, 1, 1, 1, 1]
    header.set_data_dtype(dtype)
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"] = header["cal_max"] = 0
    header["intent_code"], header["intent_name"] = 0, b""
    header["descrip"] = description.encode()
    return header


def _new_header(like: Volume) -> nibabel.Nifti1Header:
    header = nibabel.Nifti1Header()
    z, y, x = like.shape
    header.set_data_shape((x, y, z))
    header.set_xyzt_units("mm")
    header.set_qform(like.affine, code=1)
    header.set_sform(like.affine, code=1)
    return header


def _extension_block(names: Mapping[int, str], endianness: str) -> bytes:
    """The names as a header extension (Caret's label table): size, code, XML, padded to a multiple of 16 bytes."""
    rows = "".join(_label_row(label, name) for label, name in sorted(names.items()))
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><CaretExtension><VolumeInformation Index="0">'
        f"<LabelTable>{rows}</LabelTable><VolumeType><![CDATA[Label]]></VolumeType></VolumeInformation></CaretExtension>"
    ).encode()
    text += b" " * (-(len(text) + 8) % 16)
    return struct.pack(f"{endianness}ii", len(text) + 8, _CARET_EXTENSION) + text


def _label_row(label: int, name: str) -> str:
    """One entry of the label table, in the structure's colour, the same as in previews."""
    red, green, blue = (value / 255 for value in colour_of(name, label))
    text = name.replace("]]>", "")
    colour = f'Red="{red:.3f}" Green="{green:.3f}" Blue="{blue:.3f}" Alpha="1"'
    return f'<Label Key="{label}" {colour}><![CDATA[{text}]]></Label>'


@contextmanager
def _packed(path: Path) -> Iterator[IO[bytes]]:
    """A stream to a file that appears when all is written, compressed when its name ends in .gz."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        if not path.name.lower().endswith(".gz"):
            yield file
            return
        with gzip.GzipFile(filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=file, mtime=0) as packed:
            yield cast(IO[bytes], packed)
