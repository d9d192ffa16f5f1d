"""The affine that places voxels in the patient: spacing, orientation, changes of axis order, and what no scan has.

An affine is 4x4 and maps the voxel index (x, y, z, 1) to world millimetres, RAS+ (x to the patient's Right, y to
Anterior, z to Superior). Arrays, spacings and shapes are in (Z, Y, X) order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stunet.errors import FileError

SPACING_LIMITS_MM = (0.01, 100.0)
"""Voxel sizes outside this range indicate a broken header. Clinical and micro-CT scans are well inside."""

SHEAR_TOLERANCE = 0.01
"""Maximum cosine between two voxel axes (0.6 degrees off) that counts as a right angle."""

_AXIS_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))


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


def orientation(affine: np.ndarray) -> str:
    """The directions of the voxel axes x, y, z, as the nearest patient axes.

    Examples:
        >>> orientation(np.diag([-1.5, -1.5, 2.0, 1.0]))
        'LPS'
    """
    nearest, positive = _world_axes(np.asarray(affine, dtype=np.float64))
    return "".join(_AXIS_LETTERS[world][towards] for world, towards in zip(nearest, positive, strict=True))


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


def farthest_corner(affine: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> float:
    """Largest distance between the corners of a grid (Z, Y, X) under two affines, in mm along a single world axis."""
    corners = np.stack(np.meshgrid(*((0, int(size)) for size in reversed(shape))), axis=-1)
    return float(np.abs(voxel_to_world(affine, corners) - voxel_to_world(other, corners)).max())


def as_affine(affine: Any, source: str) -> np.ndarray:
    """A (4, 4) float64 copy of anything that numpy can convert.

    Raises:
        UserError: it is not a 4x4 matrix of numbers. The message names `source`, the file.
    """
    try:
        matrix = np.array(affine, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise FileError(f"{source}: the affine is not a matrix of numbers ({error}).") from error
    if matrix.shape != (4, 4):
        raise FileError(f"{source}: the affine is a 4x4 matrix, not one of shape {matrix.shape}.")
    return matrix


def lps_affine(spacing: Sequence[float], source: str) -> np.ndarray:
    """Affine with voxel axes to the left, back and head, from a spacing (Z, Y, X) in mm.

    Raises:
        UserError: these are not three numbers, or not those of a scan. The message names `source`, the file.
    """
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
