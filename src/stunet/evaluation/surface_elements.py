"""The surface of a structure as small elements, each with a place and an area in mm.

An element lies at each corner of voxels where some of the eight voxels around it are inside and some are not. Between
their centres the surface runs through the midpoints of the edges that join inside and outside, as marching cubes has
it. Areas and places are those of the published normalised surface distance (Nikolov et al. 2018, arXiv:1809.04430,
figure 10, and their `surface-distance`, which has a table of them; here they follow from the geometry).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from scipy import ndimage
from scipy.linalg import null_space

CORNERS = tuple(product((0, 1), repeat=3))
"""Of a cube of eight voxel centres, (z, y, x); corner i is bit i of the cube's code."""

INSIDE = 255
"""The code of a cube whose corners are all inside."""

MOST_TRIANGLES = 4
"""In one cube."""


@dataclass(frozen=True, eq=False)
class SurfaceElements:
    """Elements of one surface.

    Attributes:
        points: (N, 3) places (Z, Y, X) in mm from the centre of the first voxel.
        areas: (N,) in mm².
    """

    points: np.ndarray
    areas: np.ndarray


def surface_elements(mask_ZYX: np.ndarray, spacing: Sequence[float]) -> SurfaceElements:
    """The elements of a mask's surface; where the mask touches the array's edge, it is closed there.

    Args:
        mask_ZYX: (Z, Y, X) booleans.
        spacing: (Z, Y, X) in mm.
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
    """The area in mm² for each of the 256 codes, for voxels of `spacing` (Z, Y, X) mm."""
    z, y, x = spacing
    return np.linalg.norm(_area_vectors() * (y * x, z * x, z * y), axis=-1).sum(axis=-1)


@cache
def _area_vectors() -> np.ndarray:
    """(256, triangles, 3): normals (Z, Y, X) in a cube of side 1, as long as the triangle's area; the rest is 0."""
    vectors = np.zeros((INSIDE + 1, MOST_TRIANGLES, 3))
    for code in range(INSIDE + 1):
        triangles = [triangle for patch in _patches(code) for triangle in _triangles(patch)]
        vectors[code, : len(triangles)] = np.reshape(triangles, (-1, 3))
    return vectors


def _patches(code: int) -> Iterator[np.ndarray]:
    """The polygons (corners, 3) of a cube: each group of corners joined by edges is cut off from the others by one.

    The groups are those inside, or those outside where these are fewer.
    """
    is_inside = np.array([code >> bit & 1 for bit in range(8)]).reshape(2, 2, 2)
    groups, count = ndimage.label(is_inside if is_inside.sum() <= 4 else 1 - is_inside)
    for group in range(1, count + 1):
        yield _polygon(groups == group)


def _polygon(is_in_group: np.ndarray) -> np.ndarray:
    """The midpoints of the edges that leave a group of corners, in the order in which they surround it."""
    corners = np.argwhere(is_in_group)
    across = [(corner, np.abs(corner - axis)) for corner in corners for axis in np.eye(3, dtype=int)]
    midpoints = np.array([(corner + other) / 2 for corner, other in across if not is_in_group[tuple(other)]])
    outwards = midpoints.mean(axis=0) - corners.mean(axis=0)
    seen_from_outside = (midpoints - midpoints.mean(axis=0)) @ null_space(outwards[None])
    return midpoints[np.argsort(np.arctan2(*seen_from_outside.T))]


def _triangles(polygon: np.ndarray) -> np.ndarray:
    """Area vectors of the triangles that a polygon is cut into: of all fans from one of its corners the largest.

    It matters for the two polygons that are not flat, and is how the published table folds them.
    """
    fans = []
    for start in range(len(polygon)):
        from_start = np.roll(polygon, -start, axis=0)[1:] - polygon[start]
        fans.append(np.cross(from_start[:-1], from_start[1:]) / 2)
    return max(fans, key=lambda vectors: np.linalg.norm(vectors, axis=-1).sum())
