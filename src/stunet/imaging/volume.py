"""A scan in memory: voxels, and the affine that places them in the patient.

Legend: C channel, Z slice, Y row, X column. Arrays are (C, Z, Y, X), the transpose of NIfTI's (i, j, k) = (x, y, z); an
affine is 4x4 and maps the voxel index (x, y, z, 1) to world millimetres, RAS+ (x to the patient's Right, y to Anterior,
z to Superior). Spacings and shapes are in (Z, Y, X) order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from stunet.errors import FileError
from stunet.imaging.affine import (
    AxisMoves,
    as_affine,
    axis_moves,
    check_affine,
    column_lengths,
    farthest_corner,
    lps_affine,
)

if TYPE_CHECKING:
    import nibabel
    import SimpleITK

    from stunet.imaging.formats.dicom.geometry import Stack

MAX_VOXELS = 2**31
"""Scans that claim more voxels are refused before allocation. 512x512x8192 fits; no scanner makes more."""

SAME_GRID_TOLERANCE_MM = 0.01
"""Maximum distance between corners of the channels of one scan. Headers round to float32."""


class OnSlices(Protocol):
    """Knows the DICOM slices of a volume; see `stunet.imaging.formats.dicom.series`."""

    @property
    def stack(self) -> "Stack":
        """The slices, in order."""

    def labels_on_slices(self, labels_ZYX: np.ndarray) -> np.ndarray:
        """Labels (Z, Y, X) on the volume's grid, mapped to the original slices: (slices, rows, columns)."""


@dataclass(frozen=True, eq=False)
class Volume:
    """One scan with all its channels on one grid.

    Attributes:
        array: (C, Z, Y, X) real voxel values in the type of the file (int16 stays int16), else float32.
        affine: (4, 4) float64, voxel index (x, y, z, 1) to RAS+ millimetres.
        nifti_header: The header bytes of the original NIfTI file, so that a label map can copy its geometry byte for
            byte; None for other sources.
        source: Path of the file or folder, for messages.
        stated_spacing: (Z, Y, X) mm as written in the file; None if only the affine gives it. For oblique scans the
            affine's column lengths differ from it in the last digits, enough to change a rounded shape.
        warnings: Sentences about guesses and ignored content, each with the file's name.
        slices: The original DICOM slices, to which it maps labels back; None for other sources, and after the axes were
            moved.
    """

    array: np.ndarray
    affine: np.ndarray
    nifti_header: bytes | None = None
    source: str = "the scan"
    stated_spacing: tuple[float, float, float] | None = None
    warnings: tuple[str, ...] = ()
    slices: "OnSlices | None" = None

    def __post_init__(self) -> None:
        """Check the requirements of every volume. `from_array` converts other arrays.

        Raises:
            UserError: the array is not (C, Z, Y, X) of real numbers, or the affine is not that of a scan.
        """
        if not isinstance(self.array, np.ndarray) or self.array.ndim != 4 or 0 in self.array.shape:
            raise FileError(f"{self.source}: needs an array (C, Z, Y, X) with voxels, not {np.shape(self.array)}.")
        if self.array.dtype.kind not in "iuf":
            raise FileError(f"{self.source}: voxels are real numbers, not {self.array.dtype}.")
        check_size(self.shape, self.source)
        object.__setattr__(self, "affine", as_affine(self.affine, self.source))
        check_affine(self.affine, self.source)

    @classmethod
    def from_array(
        cls,
        array: Any,
        affine: Any = None,
        *,
        spacing: Sequence[float] | None = None,
        source: str = "the array",
    ) -> "Volume":
        """Create a scan from an array and its position.

        Args:
            array: (Z, Y, X), or (C, Z, Y, X) with a channel axis: a NumPy array or anything NumPy can convert.
                nibabel's arrays are (X, Y, Z): use `from_nibabel`, or transpose them. An array of the right type is not
                copied, so it must not change while in use. Booleans become uint8, fractions float32.
            affine: (4, 4) voxel index (x, y, z, 1) to RAS+ millimetres, as in nibabel.
            spacing: (Z, Y, X) mm, instead of an affine. The voxel axes x, y, z then run to the patient's left, back and
                head ("LPS"), and the first voxel is at 0, as in a SimpleITK image with this spacing.
            source: name of the scan in messages.

        Raises:
            UserError: the array is not of real numbers with three or four axes, the affine or spacing is not that of a
                scan, or not exactly one of the two is given.

        >>> Volume.from_array(np.zeros((20, 30, 40)), spacing=(2.5, 0.8, 0.8)).shape
        (20, 30, 40)
        """
        if (affine is None) == (spacing is None):
            raise FileError(
                f"{source}: give either an affine or a spacing (Z, Y, X) in mm, so that voxels have a place."
            )
        voxels = real_voxels(array, source)
        if voxels.ndim not in (3, 4):
            raise FileError(f"{source}: needs three axes (Z, Y, X), or four (C, Z, Y, X), not {voxels.shape}.")
        if spacing is not None:
            affine = lps_affine(spacing, source)
        return cls(voxels if voxels.ndim == 4 else voxels[None], affine, source=source)

    @classmethod
    def from_nibabel(cls, image: "nibabel.spatialimages.SpatialImage") -> "Volume":
        """Create a scan from a nibabel image, with the same checks as for a file.

        Args:
            image: 3D, in any of nibabel's formats. The header of a NIfTI image is kept, so that labels copy its
                geometry.

        Raises:
            UserError: the image cannot be read, is not 3D or not of real numbers, or its geometry is not that of a
                scan.
        """
        from stunet.imaging.formats.nibabel_image import volume_of

        return volume_of(image)

    @classmethod
    def from_sitk(cls, image: "SimpleITK.Image") -> "Volume":
        """Create a scan from a SimpleITK image, with the same checks as for a file.

        Args:
            image: 3D, with one number per voxel.

        Raises:
            UserError: the image is not 3D or not of real numbers, or its geometry is not that of a scan.
        """
        from stunet.imaging.formats.sitk_image import volume_of

        return volume_of(image)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Grid size (Z, Y, X) in voxels."""
        z, y, x = self.array.shape[1:]
        return z, y, x

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size (Z, Y, X) in mm."""
        return self.stated_spacing or column_lengths(self.affine)


def reorient(volume: Volume, target: str) -> tuple[Volume, AxisMoves]:
    """Bring a volume to a target orientation by transposing and flipping. Its array is a view, not a copy.

    Args:
        volume: Any orientation.
        target: For example "RAS".

    Returns:
        The volume on the rearranged grid, and the moves to apply to its label maps.
    """
    moves = axis_moves(volume.affine, target)
    columns = np.asarray(volume.affine, dtype=np.float64)[:3, :3][:, ::-1]
    sizes = np.array(volume.shape)[list(moves.transpose)]
    affine = np.array(volume.affine, dtype=np.float64)
    moved = columns[:, list(moves.transpose)]
    flip = np.array(moves.flip)
    affine[:3, 3] += (moved * np.where(flip, sizes - 1, 0)).sum(axis=1)
    affine[:3, :3] = (moved * np.where(flip, -1.0, 1.0))[:, ::-1]
    z, y, x = (volume.spacing[axis] for axis in moves.transpose)
    oriented = replace(
        volume,
        array=moves.apply(volume.array),
        affine=affine,
        nifti_header=None,
        stated_spacing=(z, y, x),
        slices=None,
    )
    return oriented, moves


def stack_channels(volumes: Sequence[Volume]) -> Volume:
    """Join scans of one patient on one grid into one volume with several channels.

    Grid, header and source come from the first scan.

    Raises:
        UserError: The grids differ in size or position.
        ValueError: There is no volume.
    """
    if not volumes:
        raise ValueError("no volume to stack")
    first, *others = volumes
    for other in others:
        check_same_grid(first, other)
    if not others:
        return first
    warnings = tuple(warning for volume in volumes for warning in volume.warnings)
    return replace(first, array=np.concatenate([v.array for v in volumes]), warnings=warnings)


def check_same_grid(first: Volume, other: Volume) -> None:
    """Require that the voxels of two volumes coincide, within `SAME_GRID_TOLERANCE_MM` at the corners.

    Raises:
        UserError: The grids differ in size or position. The message names both.
    """
    advice = "resample one onto the other first"
    if first.shape != other.shape:
        raise FileError(
            f"{other.source}: has {_size(other.shape)} voxels, but {first.source} has {_size(first.shape)}; {advice}."
        )
    distance = farthest_corner(first.affine, other.affine, first.shape)
    if distance > SAME_GRID_TOLERANCE_MM:
        raise FileError(
            f"{other.source}: is up to {distance:.3g} mm away from {first.source}, so they are not on the same "
            f"grid; {advice}."
        )


def check_size(shape: Sequence[int], source: str) -> None:
    """Refuse a grid of more than `MAX_VOXELS`, which no scanner makes, before memory is allocated.

    Raises:
        UserError: The message names `source`, the file, and the number of voxels it claims.
    """
    voxels = int(np.prod([int(n) for n in shape], dtype=object))
    if voxels > MAX_VOXELS:
        raise FileError(
            f"{source}: the header claims {_size(shape)} voxels, more than the {MAX_VOXELS:,} that a scan may have; "
            "the file is damaged or not a medical scan, export it again."
        )


def real_voxels(array: Any, source: str) -> np.ndarray:
    """Convert an array to a volume's types: integers keep theirs, booleans become uint8, others native float32.

    Raises:
        UserError: The array is not of real numbers. The message names `source`.
    """
    try:
        voxels = np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor on a GPU, lists of different lengths
        raise FileError(f"{source}: cannot be made an array of numpy ({error}).") from error
    if voxels.dtype.kind not in "biuf":
        raise FileError(f"{source}: voxels are real numbers, not {voxels.dtype}; give one grey value for each voxel.")
    kept: dict[str, np.dtype] = {"b": np.dtype(np.uint8), "f": np.dtype(np.float32)}
    return voxels.astype(kept.get(voxels.dtype.kind, voxels.dtype.newbyteorder("=")), copy=False)


def _size(shape: Sequence[int]) -> str:
    """Format a (Z, Y, X) shape for people: XxYxZ."""
    return "x".join(str(int(n)) for n in reversed(shape))
