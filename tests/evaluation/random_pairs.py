"""Random label pairs, and an independent computation of their DSC, NSD and HD95.

Surface elements are marked voxel corner by voxel corner with scipy's correlation, their areas are those of the
published table (as MONAI carries it), and distances come from scipy's Euclidean distance transform of the whole grid.
"""

import math
from dataclasses import dataclass

import numpy as np
from monai.metrics.utils import ENCODING_KERNEL, create_table_neighbour_code_to_surface_area
from scipy import ndimage


@dataclass(frozen=True, eq=False)
class Pair:
    """Two masks (Z, Y, X) on a grid of `spacing` mm, and a tolerance in mm."""

    prediction: np.ndarray
    reference: np.ndarray
    spacing: tuple[float, float, float]
    tolerance_mm: float


def random_pair(seed: int) -> Pair:
    """Ragged or smooth, distant or close, dense or sparse; every tenth has an empty prediction, reference or both."""
    random = np.random.default_rng(seed)
    shape = random.integers(3, 15, 3)
    smoothness, share = random.uniform(0, 2.5), random.uniform(0.02, 0.7)
    common = random.normal(size=shape)
    masks = []
    for _ in range(2):
        field = ndimage.gaussian_filter(common + random.uniform(0, 2) * random.normal(size=shape), smoothness)
        masks.append(field > np.quantile(field, 1 - share))
    if seed % 10 == 0:
        kept = seed // 10 % 4
        masks = [mask & bool(kept >> place & 1) for place, mask in enumerate(masks)]
    return Pair(*masks, tuple(random.uniform(0.3, 5, 3)), random.uniform(0.1, 6))


def independent_dice(pair: Pair) -> float:
    """Computed with sets of voxels."""
    predicted, true = ({tuple(place) for place in np.argwhere(mask)} for mask in (pair.prediction, pair.reference))
    return 2 * len(predicted & true) / (len(predicted) + len(true)) if predicted or true else math.nan


def independent_surface(mask, spacing):
    """The voxel corners on the surface, and the area of each."""
    padded = np.pad(mask, 2).astype(int)
    codes = ndimage.correlate(padded, np.array(ENCODING_KERNEL[3]), mode="constant")
    areas = np.asarray(create_table_neighbour_code_to_surface_area(spacing)[0], np.float64)
    return (codes != 0) & (codes != 255), areas[codes]


def independent_distances(pair: Pair):
    """For prediction and reference: the distances of its elements to the other surface, and their areas."""
    surfaces = [independent_surface(mask, pair.spacing) for mask in (pair.prediction, pair.reference)]
    for (is_element, areas), (is_other, _) in (surfaces, surfaces[::-1]):
        to_other = ndimage.distance_transform_edt(~is_other, sampling=pair.spacing)
        distances = to_other if is_other.any() else np.full(is_other.shape, math.inf)
        yield distances[is_element], areas[is_element]


def independent_nsd(pair: Pair) -> float:
    within = total = 0.0
    for distances, areas in independent_distances(pair):
        within += areas[distances <= pair.tolerance_mm].sum()
        total += areas.sum()
    return within / total if total else math.nan


def independent_hausdorff(pair: Pair, percent: float) -> float:
    """Add elements in order of distance until enough of the area is reached."""
    found = []
    for distances, areas in independent_distances(pair):
        wanted, reached = percent / 100 * areas.sum() * (1 - 1e-9), 0.0
        for distance, area in sorted(zip(distances, areas, strict=True)):
            reached += area
            if reached >= wanted:
                found.append(distance)
                break
    if not found:
        return math.nan
    return max(found) if len(found) == 2 else math.inf
