"""Statistics of every structure: volume, intensity, position, and whether the scan cuts it off.

The labels are read once, slice by slice, so memory does not grow with the scan. Each slice updates two things:

- profiles: the number of voxels of each structure at each index of each axis. These integers give size, centroid,
  bounding box and contact with the border.
- moments: count, mean and sum of squared deviations of the intensities. Slices are merged by the rule of Chan, Golub
  and LeVeque (1983), which avoids the loss of digits of a sum of squares.

Legend: K structures, Z slice, Y row, X column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain, product
from types import MappingProxyType

import numpy as np

from stunet.imaging.affine import voxel_to_world
from stunet.imaging.volume import Volume

Point = tuple[float, float, float]
VoxelBox = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
WorldBox = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

LABEL_VALUES = 2**16
"""Labels are at most uint16."""


@dataclass(frozen=True)
class StructureStatistics:
    """Size, intensities and position of one structure. World coordinates are RAS+ millimetres.

    Attributes:
        voxels: number of voxels, at least 1.
        volume_mm3: volume.
        mean: mean intensity of the scan's first channel, in its unit; Hounsfield units for CT.
        std: population standard deviation (divided by n), in the same unit.
        centroid_mm: mean position (x, y, z) of the voxels' centres.
        bounding_box: voxel indices ((x0, x1), (y0, y1), (z0, z1)) of the scan's file, from the first to one after the
            last.
        bounding_box_mm: the smallest box ((x0, x1), (y0, y1), (z0, z1)) along the patient's axes that contains the
            bounding box including its voxels' outer faces. In an oblique scan it is larger than the bounding box.
        touches_border: whether a voxel is in the first or last slice along any axis of the scan, so that part of the
            structure may be outside.
    """

    voxels: int
    volume_mm3: float
    mean: float
    std: float
    centroid_mm: Point
    bounding_box: VoxelBox
    bounding_box_mm: WorldBox
    touches_border: bool


def structure_statistics(
    labels_ZYX: np.ndarray,
    volume: Volume,
    names: Mapping[int, str],
    members: Mapping[int, Sequence[int]] = MappingProxyType({}),
) -> dict[str, StructureStatistics]:
    """Compute the statistics of every structure that is present.

    Args:
        labels_ZYX: (Z, Y, X) uint8 or uint16, on the grid of `volume`; values without a name are ignored.
        volume: The scan, of any real type; intensities are those of its first channel.
        names: Label to structure; 0 is background and ignored.
        members: Label to all labels that belong to its structure, if there is more than one (regions).

    Returns:
        Structure to statistics, in the order of the labels. Structures without voxels are left out, because they have
            no mean and no position.

    Raises:
        ValueError: If the labels do not fit the scan.
    """
    if labels_ZYX.shape != volume.shape:
        raise ValueError(f"labels of shape {labels_ZYX.shape} do not fit a scan of shape {volume.shape}")
    labels_of = {label: members.get(label, (label,)) for label in sorted(names.keys() - {0})}
    read = sorted(set(chain.from_iterable(labels_of.values())))
    profiles, moments = _read(labels_ZYX, volume.array[0], read)
    rows_of = {label: [read.index(one) for one in several] for label, several in labels_of.items()}
    return {
        names[label]: _describe([profile[rows].sum(axis=0) for profile in profiles], moments.of(rows), volume.affine)
        for label, rows in rows_of.items()
        if moments.count[rows].any()
    }


@dataclass(frozen=True, eq=False)
class _Moments:
    """Count, mean and sum of squared deviations of each structure: (K,) each, float64."""

    count: np.ndarray
    mean: np.ndarray
    deviations: np.ndarray

    @classmethod
    def of_values(cls, k: np.ndarray, values: np.ndarray, structures: int) -> "_Moments":
        """The moments of `values` (n,) with structures `k` (n,)."""
        count = np.bincount(k, minlength=structures).astype(np.float64)
        mean = np.bincount(k, values, structures) / np.maximum(count, 1)
        return cls(count, mean, np.bincount(k, (values - mean[k]) ** 2, structures))

    def of(self, rows: Sequence[int]) -> "_Moments":
        """The joint moments of some structures: (1,) each."""
        each = (_Moments(self.count[[k]], self.mean[[k]], self.deviations[[k]]) for k in rows)
        return reduce(_Moments.merged, each)

    def merged(self, other: "_Moments") -> "_Moments":
        """The moments of the union of both sets of values."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        shift = other.mean - self.mean
        deviations = self.deviations + other.deviations + shift**2 * self.count * share
        return _Moments(count, self.mean + shift * share, deviations)

    @property
    def std(self) -> np.ndarray:
        """Population standard deviations (K,)."""
        return np.sqrt(self.deviations / np.maximum(self.count, 1))


def _read(
    labels_ZYX: np.ndarray, image_ZYX: np.ndarray, labels: Sequence[int]
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], _Moments]:
    """Read the scan once.

    Returns:
        Profiles along Z, Y and X, each (K, size) int64: voxels of structure k at every index; and the moments.
    """
    structures = len(labels)
    index_of = np.full(LABEL_VALUES, -1)
    index_of[list(labels)] = np.arange(structures)
    along_z, along_y, along_x = (np.zeros((structures, size), dtype=np.int64) for size in labels_ZYX.shape)
    moments = _Moments(*np.zeros((3, structures)))
    for z, labels_YX in enumerate(labels_ZYX):
        k_YX = index_of[labels_YX]
        y, x = np.nonzero(k_YX >= 0)
        k = k_YX[y, x]
        of_slice = _Moments.of_values(k, image_ZYX[z][y, x].astype(np.float64), structures)
        moments = moments.merged(of_slice)
        along_z[:, z] = of_slice.count
        along_y += _profile(k, y, along_y.shape)
        along_x += _profile(k, x, along_x.shape)
    return (along_z, along_y, along_x), moments


def _profile(k: np.ndarray, index: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The number of occurrences of each pair of structure and index: (K, size)."""
    structures, size = shape
    return np.bincount(k * size + index, minlength=structures * size).reshape(shape)


def _describe(profiles_ZYX: Sequence[np.ndarray], moments: _Moments, affine: np.ndarray) -> StructureStatistics:
    """The statistics of one structure from its counts; `profiles_ZYX` has one array (size,) per axis."""
    profiles_xyz = profiles_ZYX[::-1]
    voxels = int(profiles_xyz[0].sum())
    centre = [float(profile @ np.arange(profile.size)) / voxels for profile in profiles_xyz]
    places = [np.flatnonzero(profile) for profile in profiles_xyz]
    x, y, z = ((int(place[0]), int(place[-1]) + 1) for place in places)
    return StructureStatistics(
        voxels=voxels,
        volume_mm3=float(voxels * abs(np.linalg.det(affine[:3, :3]))),
        mean=float(moments.mean[0]),
        std=float(moments.std[0]),
        centroid_mm=_point(voxel_to_world(affine, centre)),
        bounding_box=(x, y, z),
        bounding_box_mm=_box_mm((x, y, z), affine),
        touches_border=any(bool(profile[0] or profile[-1]) for profile in profiles_xyz),
    )


def _box_mm(box: VoxelBox, affine: np.ndarray) -> WorldBox:
    """The smallest world box around the outer faces of a box of voxels."""
    corners = voxel_to_world(affine, np.array(list(product(*box))) - 0.5)
    x, y, z = zip(_point(corners.min(axis=0)), _point(corners.max(axis=0)), strict=True)
    return x, y, z


def _point(values: np.ndarray) -> Point:
    x, y, z = (float(value) for value in values)
    return x, y, z
