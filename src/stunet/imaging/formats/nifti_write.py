"""Write label maps, probabilities and images as NIfTI files on exactly the grid of a scan."""

import gzip
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import nibabel
import numpy as np

from stunet.errors import FileError
from stunet.imaging.formats.claims import check_claim
from stunet.imaging.formats.nifti_header import (
    HEADER_TYPES,
    checked_dtype,
    checked_geometry,
    checked_shape,
    read_header,
    voxel_offset,
)
from stunet.imaging.formats.nifti_stream import READ_BYTES, fill, has_ended, opened, packed, skip
from stunet.imaging.label_array import label_dtype
from stunet.imaging.volume import Volume
from stunet.labels.ontology import colour_of

FRACTION_STEPS = 65535
"""Numbers from 0 to 1 are written in this many steps: half the bytes of float32, and finer than bfloat16 output."""

NIFTI1_LONGEST_AXIS = 32767
"""Maximum number of voxels along an axis in NIfTI-1."""

LABEL_TABLE_CODE = 0
"""Extension code of the label table. TotalSegmentator writes 0; nibabel cannot read the content of its own code 30."""


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
        skip(stream, offset - header.sizeof_hdr, name)
        single["vox_offset"] = single.single_vox_offset
        for place in places:
            with packed(place) as output:
                output.write(single.binaryblock + bytes(4))
                _copy_bytes(stream, output, size, name)
        has_ended(stream)  # verifies the checksum


def _copy_bytes(stream: IO[bytes], output: IO[bytes], size: int, name: str) -> None:
    """Copy exactly this many bytes in blocks."""
    for start in range(0, size, READ_BYTES):
        piece = np.empty(min(READ_BYTES, size - start), dtype=np.uint8)
        fill(stream, piece, name)
        output.write(piece.data)


def _write(
    array_ZYX: np.ndarray, header: nibabel.Nifti1Header, like: Volume, path: Path, extension: bytes = b""
) -> None:
    """Write voxels in the header's type, plane by plane."""
    if array_ZYX.shape != like.shape:
        raise ValueError(f"labels or probabilities of shape {array_ZYX.shape} do not fit the scan's grid {like.shape}")
    dtype = header.get_data_dtype()
    header["vox_offset"] = header.single_vox_offset + len(extension)
    with packed(path) as stream:
        stream.write(header.binaryblock)
        stream.write(bytes([bool(extension), 0, 0, 0]))
        stream.write(extension)
        for plane in array_ZYX:
            stream.write(np.ascontiguousarray(plane, dtype=dtype).data)


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
