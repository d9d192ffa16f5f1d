"""From a mask to its surface, as 3D printers and viewers take it.

The surface runs halfway between the centres of voxels inside and outside (marching cubes), and is not smoothed: it
shows the steps of the voxels, and small structures keep their size.
"""

from dataclasses import dataclass

import numpy as np

from stunet.extras import from_extra
from stunet.imaging.affine import voxel_to_world


@dataclass(frozen=True, eq=False)
class Mesh:
    """A closed surface.

    Attributes:
        name: of the structure.
        colour: red, green and blue, 0 to 255.
        vertices: (V, 3) float32, RAS+ millimetres.
        faces: (F, 3) uint32, indices of vertices, counterclockwise where seen from outside.
    """

    name: str
    colour: tuple[int, int, int]
    vertices: np.ndarray
    faces: np.ndarray


def surface_mesh(mask_ZYX: np.ndarray, affine: np.ndarray, name: str, colour: tuple[int, int, int]) -> Mesh:
    """The surface of a mask with at least one voxel; closed also where it touches the border of the scan.

    Args:
        mask_ZYX: (Z, Y, X) booleans.
        affine: (4, 4) voxel index (x, y, z, 1) to RAS+ mm.
        name: of the structure.
        colour: of the structure.

    Raises:
        MissingPackageError: scikit-image is not installed.
    """
    with from_extra("serve"):
        from skimage.measure import marching_cubes
    places = np.nonzero(mask_ZYX)
    start = np.array([axis.min() for axis in places])
    stop = np.array([axis.max() + 1 for axis in places])
    z, y, x = (slice(low, high) for low, high in zip(start, stop, strict=True))
    padded = np.pad(mask_ZYX[z, y, x], 1).astype(np.float32)
    points_zyx, faces, _, _ = marching_cubes(padded, 0.5, allow_degenerate=False)
    vertices = voxel_to_world(affine, (points_zyx + start - 1)[:, ::-1])
    # taken relative to the middle: float32 products of large coordinates would lose the sign of a thin structure
    if signed_volume(vertices - vertices.mean(axis=0), faces) < 0:
        faces = faces[:, ::-1]
    return Mesh(name, colour, vertices.astype(np.float32), np.ascontiguousarray(faces, dtype=np.uint32))


def signed_volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """The volume inside a closed surface, negative where its faces look inwards.

    Args:
        vertices: (V, 3).
        faces: (F, 3).
    """
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)
