"""What a radiologist asks of every structure: how large, how dense, where, and whether the scan cut it off.

The labels are read once, slice by slice, so that memory does not grow with the scan. Each slice adds to two things:

- profiles: how many voxels of each structure lie at each index of each axis. Size, centroid, bounding box and the
  question of the border all follow from these whole numbers.
- moments: count, mean and sum of squared deviations of the intensities. Slices are merged by the rule of Chan, Golub
  and LeVeque (1983), which keeps all digits where a sum of squares would lose them.

Legend: K structures, Z slice, Y row, X column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain, product
from types import MappingProxyType

import numpy as np

from stunet.imaging.volume import Volume, voxel_to_world

Point = tuple[float, float, float]
VoxelBox = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
WorldBox = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

LABEL_VALUES = 2**16
"""Labels are at most uint16."""


@dataclass(frozen=True)
class StructureStatistics:
    """Size, intensities and place of one structure. World coordinates are RAS+ millimetres.

    Attributes:
        voxels: how many, at least 1.
        volume_mm3: their volume.
        mean: of the scan's first channel inside, in its unit; Hounsfield units for CT.
        std: the standard deviation of all voxels inside (of the population, divided by n), in the same unit.
        centroid_mm: mean place (x, y, z) of the voxels' centres.
        bounding_box: voxel indices ((x0, x1), (y0, y1), (z0, z1)) of the scan's file, each first and one after last.
        bounding_box_mm: the smallest box ((x0, x1), (y0, y1), (z0, z1)) along the patient's axes that contains the
            bounding box up to its voxels' outer faces. On an oblique scan it is larger than the bounding box.
        touches_border: whether a voxel lies in the first or the last slice along any axis of the scan, so that a part
            of the structure may lie outside.
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
    """Describe every structure that is there.

    Args:
        labels_ZYX: (Z, Y, X) uint8 or uint16, on the grid of `volume`; values without a name are passed over.
        volume: The scan, of any real type; intensities are those of its first channel.
        names: Label to structure; 0 is background and not described.
        members: Label to all labels that belong to its structure, where that is more than itself (regions).

    Returns:
        Structure to statistics, in the order of the labels. A structure without a voxel has no mean and no place; it
        is left out.

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
    """Count, mean and sum of squared deviations from it, structure by structure: (K,) each, float64."""

    count: np.ndarray
    mean: np.ndarray
    deviations: np.ndarray

    @classmethod
    def of_values(cls, k: np.ndarray, values: np.ndarray, structures: int) -> "_Moments":
        """The moments of `values` (n,), whose structures are `k` (n,)."""
        count = np.bincount(k, minlength=structures).astype(np.float64)
        mean = np.bincount(k, values, structures) / np.maximum(count, 1)
        return cls(count, mean, np.bincount(k, (values - mean[k]) ** 2, structures))

    def of(self, rows: Sequence[int]) -> "_Moments":
        """The moments of some structures together: (1,) each."""
        each = (_Moments(self.count[[k]], self.mean[[k]], self.deviations[[k]]) for k in rows)
        return reduce(_Moments.merged, each)

    def merged(self, other: "_Moments") -> "_Moments":
        """The moments of both sets of values together."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        shift = other.mean - self.mean
        deviations = self.deviations + other.deviations + shift**2 * self.count * share
        return _Moments(count, self.mean + shift * share, deviations)

    @property
    def std(self) -> np.ndarray:
        """(K,) standard deviations of the population."""
        return np.sqrt(self.deviations / np.maximum(self.count, 1))


def _read(
    labels_ZYX: np.ndarray, image_ZYX: np.ndarray, labels: Sequence[int]
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], _Moments]:
    """Pass once over the scan.

    Returns:
        Profiles along Z, Y and X, each (K, size) int64: voxels of structure k at every index. And the moments.
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
    """How often each pair of structure and index occurs: (K, size)."""
    structures, size = shape
    return np.bincount(k * size + index, minlength=structures * size).reshape(shape)


def _describe(profiles_ZYX: Sequence[np.ndarray], moments: _Moments, affine: np.ndarray) -> StructureStatistics:
    """Turn what was counted of one structure into its statistics; `profiles_ZYX` has one (size,) for each axis."""
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
    """The smallest world box around the outer faces of the voxels of a voxel box."""
    corners = voxel_to_world(affine, np.array(list(product(*box))) - 0.5)
    x, y, z = zip(_point(corners.min(axis=0)), _point(corners.max(axis=0)), strict=True)
    return x, y, z


def _point(values: np.ndarray) -> Point:
    x, y, z = (float(value) for value in values)
    return x, y, z
