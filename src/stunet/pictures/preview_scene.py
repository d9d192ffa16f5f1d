"""The scene of a preview: scan and labels in radiological display, and the views."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from stunet.imaging.volume import Volume, reorient
from stunet.pictures.display import DISPLAY_ORIENTATION, colours_of, intensity_window


@dataclass(frozen=True)
class View:
    """A view of the scan: name, viewing axis, and letters at its edges."""

    name: str
    axis: int
    left: str
    right: str
    top: str
    bottom: str

    def cut(self, array_ZYX: np.ndarray, centre: tuple[int, int, int]) -> np.ndarray:
        """The 2D slice through `centre`, with rows from top to bottom."""
        return np.take(array_ZYX, centre[self.axis], axis=self.axis)

    def of(self, values_ZYX: tuple[float, float, float]) -> tuple[float, float]:
        """The values of the axes of rows and columns."""
        rows, columns = (value for axis, value in enumerate(values_ZYX) if axis != self.axis)
        return rows, columns


CORONAL = View("coronal", 1, "R", "L", "S", "I")
SAGITTAL = View("sagittal", 2, "A", "P", "S", "I")
AXIAL = View("axial", 0, "R", "L", "A", "P")
PROJECTION = View("projection", 1, "R", "L", "S", "I")


@dataclass(frozen=True, eq=False)
class Scene:
    """Scan and labels in display orientation.

    Attributes:
        image: first channel (Z, Y, X).
        labels: labels (Z, Y, X).
        reference: labels (Z, Y, X) or None.
        centre: voxel (z, y, x) where the planes intersect.
        extent: size (Z, Y, X) in mm.
        window: intensities shown as black and white.
        colours: label to red, green, blue in 0..1, for labels with a name.
    """

    image: np.ndarray
    labels: np.ndarray
    reference: np.ndarray | None
    centre: tuple[int, int, int]
    extent: tuple[float, float, float]
    window: tuple[float, float]
    colours: Mapping[int, np.ndarray]


def make_scene(
    volume: Volume, labels_ZYX: np.ndarray, reference_ZYX: np.ndarray | None, names: Mapping[int, str]
) -> Scene:
    """Reorient scan and labels to the display orientation, as views without copying.

    The planes intersect at the centre of the labels, or of the reference if there are no labels.
    """
    shown, moves = reorient(replace(volume, array=volume.array[:1]), DISPLAY_ORIENTATION)
    labels = moves.apply(labels_ZYX)
    reference = None if reference_ZYX is None else moves.apply(reference_ZYX)
    z, y, x = (size * spacing for size, spacing in zip(shown.shape, shown.spacing, strict=True))
    return Scene(
        image=shown.array[0],
        labels=labels,
        reference=reference,
        centre=centre_of_mass(labels if reference is None or labels.any() else reference),
        extent=(z, y, x),
        window=intensity_window(shown.array[0]),
        colours=colours_of(names),
    )


def centre_of_mass(labels_ZYX: np.ndarray) -> tuple[int, int, int]:
    """The voxel (z, y, x) nearest to the centre of mass of all nonzero labels, or the grid's centre if all are 0."""
    is_structure = labels_ZYX != 0
    centre = []
    for axis, size in enumerate(labels_ZYX.shape):
        others = tuple(other for other in range(3) if other != axis)
        weights = is_structure.sum(axis=others, dtype=np.float64)
        centre.append(round(np.average(np.arange(size), weights=weights)) if weights.any() else size // 2)
    z, y, x = centre
    return z, y, x
