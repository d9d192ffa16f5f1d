"""Surface metrics: the normalised surface distance (NSD) and the 95th percentile of distances (HD95), in mm.

Distances are from each element of one surface to the nearest element of the other (scipy's k-d tree, exact). Elements
are weighted by area, so that anisotropic voxels do not distort the result.

Empty cases: if a structure is absent from both, all metrics are nan; if it is absent from one, distances are infinite
and NSD is 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from stunet.evaluation.surface_elements import SurfaceElements, surface_elements

ROUNDING_MM = 1e-6
"""Distances on a grid often equal the tolerance, so rounding errors must not decide."""


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """The distances of the elements of each of two surfaces to the other.

    Attributes:
        distances: mm, of the prediction's and of the reference's elements; infinite if the other has none.
        areas: mm², of the same elements.
    """

    distances: tuple[np.ndarray, np.ndarray]
    areas: tuple[np.ndarray, np.ndarray]

    @property
    def is_empty(self) -> bool:
        """Whether the structure is absent from both."""
        return not any(len(areas) for areas in self.areas)


def surface_distances(
    prediction_ZYX: np.ndarray, reference_ZYX: np.ndarray, spacing: Sequence[float]
) -> SurfaceDistances:
    """Compare the surfaces of two masks.

    Memory depends on the size of the arrays and the surfaces, so crop the masks to the box around both first.

    Args:
        prediction_ZYX: booleans.
        reference_ZYX: booleans of the same shape.
        spacing: mm (Z, Y, X).

    Raises:
            ValueError: the shapes differ.
    """
    if prediction_ZYX.shape != reference_ZYX.shape:
        raise ValueError(f"prediction has shape {prediction_ZYX.shape}, reference {reference_ZYX.shape}")
    ours, theirs = (surface_elements(mask, spacing) for mask in (prediction_ZYX, reference_ZYX))
    return SurfaceDistances((_to_nearest(ours, theirs), _to_nearest(theirs, ours)), (ours.areas, theirs.areas))


def _to_nearest(start: SurfaceElements, goal: SurfaceElements) -> np.ndarray:
    if not len(goal.points):
        return np.full(len(start.points), math.inf)
    distances, _ = cKDTree(goal.points).query(start.points)
    return np.asarray(distances)


def normalised_surface_distance(surfaces: SurfaceDistances, tolerance_mm: float) -> float:
    """The share of both surfaces within the tolerance of the other: 0 to 1, or nan if there is no surface.

    It equals `compute_surface_dice_at_tolerance` of Nikolov et al. (2018), who call it surface Dice.

    >>> square = np.zeros((6, 6, 6), bool)
    >>> square[1:5, 1:5, 1:5] = True
    >>> shifted = surface_distances(square, np.roll(square, 1, axis=0), (1.5, 1.0, 1.0))
    >>> normalised_surface_distance(shifted, 1.5), hausdorff_distance(shifted, 95)
    (1.0, 1.5)
    """
    if surfaces.is_empty:
        return math.nan
    near = [
        areas[distances <= tolerance_mm + ROUNDING_MM].sum()
        for distances, areas in zip(surfaces.distances, surfaces.areas, strict=True)
    ]
    return float(sum(near) / sum(areas.sum() for areas in surfaces.areas))


def hausdorff_distance(surfaces: SurfaceDistances, percent: float) -> float:
    """The percentile in mm of the area-weighted distances of each surface to the other; the larger of the two.

    100 gives the Hausdorff distance and 95 gives HD95. Infinite if one is absent, nan if both are. It equals
    `compute_robust_hausdorff` of Nikolov et al. (2018).
    """
    if surfaces.is_empty:
        return math.nan
    if not all(len(areas) for areas in surfaces.areas):
        return math.inf
    return max(
        _weighted_percentile(distances, areas, percent)
        for distances, areas in zip(surfaces.distances, surfaces.areas, strict=True)
    )


def _weighted_percentile(values: np.ndarray, weights: np.ndarray, percent: float) -> float:
    """The smallest value such that all values up to it have `percent` of the weight."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    wanted = percent / 100 * reached[-1]
    return float(values[order[min(np.searchsorted(reached, wanted), len(order) - 1)]])
