"""Read a NIfTI header and check all its claims: size, type, and the position of the voxels in the patient."""

import struct
from dataclasses import dataclass
from typing import IO

import nibabel
import numpy as np

from stunet.errors import FileError
from stunet.imaging.affine import check_affine, check_spacing, column_lengths, farthest_corner, orientation
from stunet.imaging.volume import check_size

SPACING_DISAGREEMENT = 0.01
"""Maximum relative difference between pixdim and the affine. Above it, the header contradicts itself."""

SAME_PLACE_VOXELS = 0.5
"""Maximum distance in voxels between corners of qform and sform; near a half turn, a qform is rounded that much."""

HEADER_TYPES = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
_FIRST_BYTES = {
    struct.pack(f"{endianness}i", size): (kind, endianness)
    for size, kind in HEADER_TYPES.items()
    for endianness in ("<", ">")
}
"""A NIfTI file begins with the size of its header, which gives version and byte order."""

UNSCALED = 1.0, 0.0

_MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_EXCHANGES = {"LR": "left and right", "PA": "front and back", "IS": "top and bottom"}


def read_header(stream: IO[bytes], name: str) -> nibabel.Nifti1Header:
    """Read the header, version 1 or 2, in either byte order. Its content is not checked yet.

    Raises:
        UserError: The stream does not start like NIfTI or Analyze, or ends within the header.
    """
    start = stream.read(4)
    if start not in _FIRST_BYTES:
        raise FileError(f"{name}: is not a NIfTI image (it does not begin like one); convert it to .nii.gz first.")
    kind, endianness = _FIRST_BYTES[start]
    block = start + stream.read(kind.sizeof_hdr - 4)
    if len(block) < kind.sizeof_hdr:
        raise FileError(f"{name}: ends within the NIfTI header; copy or export it again.")
    header = kind(block, endianness=endianness, check=False)
    return header


def checked_shape(header: nibabel.Nifti1Header, name: str) -> tuple[int, int, int]:
    """Return the size (x, y, z). Trailing axes of length 1 are dropped; some programs write their length as 0.

    Raises:
        UserError: The size is invalid, not that of one 3D image, or larger than any scan.
    """
    rank, *sizes = (int(size) for size in header["dim"])
    if not 1 <= rank <= 7 or min(sizes[: min(rank, 3)]) < 1:
        raise FileError(f"{name}: the header's dimensions {sizes[:3]} are not a size; export the scan again.")
    if rank < 3:
        raise FileError(f"{name}: is a {rank}D image, but a 3D scan is needed.")
    if max(sizes[3:rank], default=1) > 1:
        claimed = "x".join(map(str, sizes[:rank]))
        raise FileError(
            f"{name}: contains more than one 3D image ({rank}D, {claimed}); save the one to segment as a separate file."
        )
    check_size(sizes[2::-1], name)
    return sizes[0], sizes[1], sizes[2]


def checked_dtype(header: nibabel.Nifti1Header, name: str) -> np.dtype:
    """Return the type of the voxels: real numbers of up to 8 bytes, in the file's byte order.

    Raises:
        UserError: The type is unknown, not real, or of another size than stated.
    """
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


@dataclass(frozen=True, eq=False)
class Geometry:
    """The position of the voxels.

    Attributes:
        affine: (4, 4) voxel index (x, y, z, 1) to RAS+ mm.
        spacing: (Z, Y, X) mm, from pixdim.
        warnings: sentences about guesses.
    """

    affine: np.ndarray
    spacing: tuple[float, float, float]
    warnings: tuple[str, ...]


def checked_geometry(header: nibabel.Nifti1Header, name: str) -> Geometry:
    """Return the position of the voxels. Only the three entries of pixdim that matter for it are checked.

    Raises:
        UserError: The geometry is not that of a scan, or the header contradicts itself.
    """
    pixdim = header["pixdim"][1:4]
    if not np.isfinite(pixdim).all():
        raise FileError(f"{name}: pixdim in the header is not finite; export the scan again.")
    unit = _MM_PER_UNIT.get(str(nibabel.nifti1.unit_codes.label.get(int(header["xyzt_units"]) % 8)), 1.0)
    x, y, z = (float(size) * unit for size in pixdim)
    check_spacing((z, y, x), name)
    header = _mended(header)
    affine = _in_mm(_best_affine(header, name), unit)
    check_affine(affine, name)
    lengths = column_lengths(affine)
    if not np.allclose(lengths, (z, y, x), rtol=SPACING_DISAGREEMENT):
        raise FileError(
            f"{name}: the header contradicts itself: pixdim says voxels of {x:g} x {y:g} x {z:g} mm, the affine "
            f"{lengths[2]:g} x {lengths[1]:g} x {lengths[0]:g} mm; correct it or export the scan again."
        )
    return Geometry(affine, (z, y, x), _orientation_warnings(header, affine, unit, name))


def _mended(header: nibabel.Nifti1Header) -> nibabel.Nifti1Header:
    """A copy whose pixdim starts with 1 or -1, as nibabel requires. Anything but -1 means 1."""
    mended = header.copy()
    mended["pixdim"][0] = -1 if header["pixdim"][0] == -1 else 1
    return mended


def _best_affine(header: nibabel.Nifti1Header, name: str) -> np.ndarray:
    """The sform if it is set, else the qform, else pixdim alone, in the standard's order."""
    try:
        return np.array(header.get_best_affine(), dtype=np.float64)
    except (ValueError, nibabel.spatialimages.HeaderDataError) as error:
        raise FileError(f"{name}: the qform in the header is not a rotation; export the scan again.") from error


def _in_mm(affine: np.ndarray, unit: float) -> np.ndarray:
    return affine * [[unit], [unit], [unit], [1.0]]


def _orientation_warnings(header: nibabel.Nifti1Header, affine: np.ndarray, unit: float, name: str) -> tuple[str, ...]:
    """Warn if left and right are a guess, or if other programs show the scan differently."""
    qform_code, sform_code = int(header["qform_code"]), int(header["sform_code"])
    if qform_code <= 0 and sform_code <= 0:
        return (
            f"{name}: the header does not say how the scan is oriented in the patient (it has no qform and no sform), "
            f"so left and right, front and back are a guess: it is read as {orientation(affine)}, as nibabel reads it, "
            "while 3D Slicer and ITK-SNAP read LPS. Check the labels against the anatomy.",
        )
    if qform_code <= 0 or sform_code <= 0:
        return ()
    try:
        qform = _in_mm(np.array(header.get_qform(), dtype=np.float64), unit)
    except (ValueError, nibabel.spatialimages.HeaderDataError):
        return (f"{name}: the qform in the header is not a rotation; the scan is read by the sform.",)
    distance = farthest_corner(affine, qform, header["dim"][3:0:-1])
    if distance <= SAME_PLACE_VOXELS * min(column_lengths(affine)):
        return ()
    return (
        f"{name}: the sform and the qform in the header differ by up to {distance:.3g} mm. The scan is read by the "
        f"sform; programs that take the qform, often 3D Slicer and ITK-SNAP, show it {_difference(affine, qform)}. "
        "Check the labels against the anatomy.",
    )


def _difference(affine: np.ndarray, other: np.ndarray) -> str:
    """How a scan looks with another affine."""
    here, there = orientation(affine), orientation(other)
    exchanged = [words for pair, words in _EXCHANGES.items() if _direction(here, pair) != _direction(there, pair)]
    if exchanged:
        return f"with {' and '.join(exchanged)} exchanged ({there} instead of {here})"
    return f"turned or shifted ({there} instead of {here})" if here != there else "turned or shifted"


def _direction(letters: str, pair: str) -> int:
    """The direction of the axis between the two letters of a pair."""
    return next(pair.index(letter) for letter in letters if letter in pair)


def voxel_offset(header: nibabel.Nifti1Header, name: str, least: int = 0) -> int:
    """Position of the first voxel in the (uncompressed) file; 0 means the default position.

    Args:
        header: Of the image.
        name: Of the file.
        least: Bytes of the header in this file; 0 if the voxels have their own file.

    Raises:
        UserError: The position is impossible.
    """
    stated = float(header["vox_offset"])
    if not np.isfinite(stated) or stated < 0 or 0 < stated < least:
        raise FileError(f"{name}: the header puts the first voxel at byte {stated:g}; export the scan again.")
    return int(stated) or (header.single_vox_offset if least else 0)


def scaling_of(header: nibabel.Nifti1Header) -> tuple[float, float]:
    """Slope and intercept. Slopes of 0, NaN or infinity mean no scaling, as the standard says."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0:
        return UNSCALED
    return slope, inter if np.isfinite(inter) else 0.0
