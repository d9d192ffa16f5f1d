"""The surface of a structure as small elements with position and area.

There is an element at each voxel corner where some of the eight voxels around it are inside and some are outside.
Between the voxels' centres, the surface passes through the midpoints of the edges from inside to outside, as in
marching cubes. Areas and positions are those of the published normalised surface distance (Nikolov et al. 2018,
arXiv:1809.04430, figure 10, and their package `surface-distance`, which has a table of them; here they are computed
from the geometry).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from scipy import ndimage
from scipy.linalg import null_space

CORNERS = tuple(product((0, 1), repeat=3))
"""Corners (z, y, x) of a cube of eight voxel centres; corner i is bit i of the cube's code."""

INSIDE = 255
"""The code of a cube with all corners inside."""

MOST_TRIANGLES = 4
"""The most triangles in one cube."""


@dataclass(frozen=True, eq=False)
class SurfaceElements:
    """Elements of one surface.

    Attributes:
        points: (N, 3) positions (Z, Y, X) in mm from the centre of the first voxel.
        areas: (N,) mm².
    """

    points: np.ndarray
    areas: np.ndarray


def surface_elements(mask_ZYX: np.ndarray, spacing: Sequence[float]) -> SurfaceElements:
    """The elements of a mask's surface, which is closed where the mask touches the array's edge.

    Args:
        mask_ZYX: booleans (Z, Y, X).
        spacing: mm (Z, Y, X).
    """
    padded = np.pad(mask_ZYX, 1).astype(np.uint8)
    z, y, x = (size + 1 for size in mask_ZYX.shape)
    codes = np.zeros((z, y, x), np.uint8)
    for bit, (dz, dy, dx) in enumerate(CORNERS):
        codes |= padded[dz : dz + z, dy : dy + y, dx : dx + x] << np.uint8(bit)
    places = np.nonzero((codes != 0) & (codes != INSIDE))
    points = (np.stack(places, axis=1) - 0.5) * np.asarray(spacing, np.float64)
    return SurfaceElements(points, element_areas(spacing)[codes[places]])


def element_areas(spacing: Sequence[float]) -> np.ndarray:
    """The area in mm² of each of the 256 codes, for voxels of `spacing` (Z, Y, X) mm."""
    z, y, x = spacing
    return np.linalg.norm(_area_vectors() * (y * x, z * x, z * y), axis=-1).sum(axis=-1)


@cache
def _area_vectors() -> np.ndarray:
    """(256, triangles, 3): normals (Z, Y, X) in a unit cube, as long as the triangle's area; unused entries are 0."""
    vectors = np.zeros((INSIDE + 1, MOST_TRIANGLES, 3))
    for code in range(INSIDE + 1):
        triangles = [triangle for patch in _patches(code) for triangle in _triangles(patch)]
        vectors[code, : len(triangles)] = np.reshape(triangles, (-1, 3))
    return vectors


def _patches(code: int) -> Iterator[np.ndarray]:
    """The polygons (corners, 3) of a cube; each separates one connected group of corners from the others.

    The groups are those inside, or those outside if these have fewer corners.
    """
    is_inside = np.array([code >> bit & 1 for bit in range(8)]).reshape(2, 2, 2)
    groups, count = ndimage.label(is_inside if is_inside.sum() <= 4 else 1 - is_inside)
    for group in range(1, count + 1):
        yield _polygon(groups == group)


def _polygon(is_in_group: np.ndarray) -> np.ndarray:
    """The midpoints of the edges that leave a group of corners, in order around it."""
    corners = np.argwhere(is_in_group)
    across = [(corner, np.abs(corner - axis)) for corner in corners for axis in np.eye(3, dtype=int)]
    midpoints = np.array([(corner + other) / 2 for corner, other in across if not is_in_group[tuple(other)]])
    outwards = midpoints.mean(axis=0) - corners.mean(axis=0)
    seen_from_outside = (midpoints - midpoints.mean(axis=0)) @ null_space(outwards[None])
    return midpoints[np.argsort(np.arctan2(*seen_from_outside.T))]


def _triangles(polygon: np.ndarray) -> np.ndarray:
    """Area vectors of the triangles of a polygon: the fan from one of its corners with the largest area.

    The choice of corner matters for the two polygons that are not flat; the published table makes the same choice.
    """
    fans = []
    for start in range(len(polygon)):
        from_start = np.roll(polygon, -start, axis=0)[1:] - polygon[start]
        fans.append(np.cross(from_start[:-1], from_start[1:]) / 2)
    return max(fans, key=lambda vectors: np.linalg.norm(vectors, axis=-1).sum())
