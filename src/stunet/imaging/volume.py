"""A scan in memory: voxels, the affine that places them in the patient, and changes of axis order.

Legend: C channel, Z slice, Y row, X column. Arrays are (C, Z, Y, X), the transpose of NIfTI's (i, j, k) = (x, y, z); an
affine is 4x4 and maps the voxel index (x, y, z, 1) to world millimetres, RAS+ (x to the patient's Right, y to Anterior,
z to Superior). Spacings and shapes are in (Z, Y, X) order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from stunet.errors import FileError

if TYPE_CHECKING:
    import nibabel
    import SimpleITK

    from stunet.imaging.formats.dicom.geometry import Stack

MAX_VOXELS = 2**31
"""Scans that claim more voxels are refused before allocation. 512x512x8192 fits; no scanner makes more."""

SPACING_LIMITS_MM = (0.01, 100.0)
"""Voxel sizes outside this range indicate a broken header. Clinical and micro-CT scans are well inside."""

SHEAR_TOLERANCE = 0.01
"""Maximum cosine between two voxel axes (0.6 degrees off) that counts as a right angle."""

SAME_GRID_TOLERANCE_MM = 0.01
"""Maximum distance between corners of the channels of one scan. Headers round to float32."""

_AXIS_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))


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
        object.__setattr__(self, "affine", _affine(self.affine, self.source))
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
            affine = _lps_affine(spacing, source)
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


@dataclass(frozen=True)
class AxisMoves:
    """A rearrangement of an array's last three axes: a transpose, then flips.

    Attributes:
        transpose: New axis a is old axis transpose[a]; (Z, Y, X) positions.
        flip: Whether new axis a is reversed.
    """

    transpose: tuple[int, int, int] = (0, 1, 2)
    flip: tuple[bool, bool, bool] = (False, False, False)

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Return a rearranged view of (..., Z, Y, X)."""
        lead = array.ndim - 3
        z, y, x = (slice(None, None, -1 if flip else 1) for flip in self.flip)
        return array.transpose(*range(lead), *(lead + axis for axis in self.transpose))[..., z, y, x]


def voxel_to_world(affine: np.ndarray, index_xyz: np.ndarray | Sequence[float]) -> np.ndarray:
    """Map voxel indices to RAS+ millimetres.

    Args:
        affine: (4, 4).
        index_xyz: (..., 3) voxel indices in (x, y, z) order, fractions allowed.

    Returns:
        (..., 3) world coordinates in mm.
    """
    return np.asarray(index_xyz, dtype=np.float64) @ affine[:3, :3].T + affine[:3, 3]


def column_lengths(affine: np.ndarray) -> tuple[float, float, float]:
    """Return the voxel size (Z, Y, X) in mm that an affine implies."""
    x, y, z = np.sqrt((np.asarray(affine, dtype=np.float64)[:3, :3] ** 2).sum(axis=0))
    return float(z), float(y), float(x)


def _world_axes(affine: np.ndarray) -> tuple[list[int], list[bool]]:
    """For the voxel axes x, y, z: the nearest world axis (each used once), and whether they point towards R, A, S."""
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    nearest = [-1, -1, -1]
    left = np.abs(cosines)
    for _ in range(3):
        world, voxel = np.unravel_index(np.argmax(left), (3, 3))
        nearest[int(voxel)] = int(world)
        left[world, :] = left[:, voxel] = -1.0
    return nearest, [bool(cosines[nearest[voxel], voxel] > 0) for voxel in range(3)]


def orientation(affine: np.ndarray) -> str:
    """The directions of the voxel axes x, y, z, as the nearest patient axes.

    Examples:
        >>> orientation(np.diag([-1.5, -1.5, 2.0, 1.0]))
        'LPS'
    """
    nearest, positive = _world_axes(np.asarray(affine, dtype=np.float64))
    return "".join(_AXIS_LETTERS[world][towards] for world, towards in zip(nearest, positive, strict=True))


def axis_moves(affine: np.ndarray, target: str) -> AxisMoves:
    """Plan the transpose and flips that bring a grid to a target orientation such as "RAS".

    Args:
        affine: (4, 4) of the original grid.
        target: Three letters for the axes x, y, z, one of each pair L/R, P/A, I/S.

    Raises:
        ValueError: `target` is not such a word.
    """
    wanted = [next((w for w, pair in enumerate(_AXIS_LETTERS) if letter in pair), -1) for letter in target]
    if sorted(wanted) != [0, 1, 2]:
        raise ValueError(f"{target!r} is not an orientation such as 'RAS'")
    nearest, positive = _world_axes(np.asarray(affine, dtype=np.float64))
    voxel_axes = [nearest.index(world) for world in wanted]
    flips = [positive[v] != (letter in "RAS") for v, letter in zip(voxel_axes, target, strict=True)]
    # from (x, y, z) positions to (Z, Y, X) positions: axis a becomes 2 - a, and the list is reversed
    z, y, x = (2 - axis for axis in reversed(voxel_axes))
    return AxisMoves((z, y, x), (flips[2], flips[1], flips[0]))


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


def farthest_corner(affine: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> float:
    """Largest distance between the corners of a grid (Z, Y, X) under two affines, in mm along a single world axis."""
    corners = np.stack(np.meshgrid(*((0, int(size)) for size in reversed(shape))), axis=-1)
    return float(np.abs(voxel_to_world(affine, corners) - voxel_to_world(other, corners)).max())


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


def _affine(affine: Any, source: str) -> np.ndarray:
    """A (4, 4) float64 copy of the given affine."""
    try:
        matrix = np.array(affine, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise FileError(f"{source}: the affine is not a matrix of numbers ({error}).") from error
    if matrix.shape != (4, 4):
        raise FileError(f"{source}: the affine is a 4x4 matrix, not one of shape {matrix.shape}.")
    return matrix


def _lps_affine(spacing: Sequence[float], source: str) -> np.ndarray:
    """Affine with voxel axes to the left, back and head, from a spacing (Z, Y, X)."""
    try:
        z, y, x = (float(size) for size in spacing)
    except (TypeError, ValueError) as error:
        raise FileError(f"{source}: the spacing is three numbers (Z, Y, X) in mm, not {spacing!r}.") from error
    check_spacing((z, y, x), source)
    return np.diag([-x, -y, z, 1.0])


def check_affine(affine: np.ndarray, source: str) -> None:
    """Refuse an affine (4, 4) that is not a rotation times a plausible spacing.

    Raises:
        UserError: It is not finite, is singular or sheared, or implies voxels outside `SPACING_LIMITS_MM`. The message
            names `source`, the file.
    """
    if not np.isfinite(affine).all():
        raise FileError(f"{source}: the affine is not finite; correct it, or export the scan again.")
    if not np.array_equal(affine[3], (0, 0, 0, 1)):
        raise FileError(f"{source}: the affine's last row is {affine[3].tolist()}, not 0, 0, 0, 1; is it transposed?")
    lengths = np.array(column_lengths(affine))[::-1]
    if (lengths == 0).any() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise FileError(
            f"{source}: the affine is singular (two voxel axes coincide or one has no length), so the voxels have no "
            "place in space; correct it, or export the scan again."
        )
    check_spacing(lengths[::-1], source)
    axes = affine[:3, :3] / lengths
    shear = np.abs(np.triu(axes.T @ axes, 1)).max()
    if shear > SHEAR_TOLERANCE:
        raise FileError(
            f"{source}: the voxel axes are sheared ({np.degrees(np.arcsin(min(shear, 1.0))):.1f} degrees off a right "
            "angle, as a tilted gantry makes them); resample the scan to a rectangular grid first."
        )


def check_spacing(spacing: Sequence[float] | np.ndarray, source: str) -> None:
    """Refuse voxel sizes (Z, Y, X) in mm outside `SPACING_LIMITS_MM`.

    Raises:
        UserError: The message names the file and the sizes found.
    """
    low, high = SPACING_LIMITS_MM
    if not all(low <= size <= high for size in spacing):
        sizes = " x ".join(f"{size:g}" for size in reversed(list(spacing)))
        raise FileError(
            f"{source}: voxels of {sizes} mm are not those of a scan (expected {low:g} to {high:g} mm on each axis); "
            "correct the spacing in the header or export the scan again."
        )


def _size(shape: Sequence[int]) -> str:
    """Format a (Z, Y, X) shape for people: XxYxZ."""
    return "x".join(str(int(n)) for n in reversed(shape))


def count_labels(labels_ZYX: np.ndarray, size: int) -> np.ndarray:
    """Count the voxels of labels 0..size - 1: int64 (size,). Larger labels are ignored."""
    # slice by slice, because bincount needs 8 bytes per voxel
    counts = (np.bincount(labels_YX.ravel(), minlength=size)[:size] for labels_YX in labels_ZYX)
    return sum(counts, start=np.zeros(size, dtype=np.int64))


def label_dtype(labels_ZYX: np.ndarray) -> np.dtype:
    """The type for writing labels: uint8 if all fit, else uint16.

    Raises:
        ValueError: They are not integers from 0 to 65535.
    """
    if labels_ZYX.dtype.kind not in "ui":
        raise ValueError(f"labels must be integers, not {labels_ZYX.dtype}")
    if labels_ZYX.dtype == np.uint8 or not labels_ZYX.size:
        return np.dtype(np.uint8)
    low, high = int(labels_ZYX.min()), int(labels_ZYX.max())
    if low < 0 or high > 65535:
        raise ValueError(f"labels must lie in 0..65535, not {low}..{high}")
    return np.dtype(np.uint8 if high < 256 else np.uint16)
