"""What looks wrong about a structure that was found: cut off, in pieces, or on the wrong side."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from stunet.inference.statistics import StructureStatistics

FEW_VOXELS = 10
"""A structure with fewer voxels is probably noise."""

SMALL_PIECE = 0.05
"""A piece with less than this fraction of its structure's voxels is small."""

NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)
"""Voxels that share a face, an edge or a corner belong to one piece."""

SIDE_TOLERANCE_MM = 5.0
"""The centroid of a left structure may lie this far to the right of its partner's before it is called implausible."""


def structure_warnings(
    labels_ZYX: np.ndarray,
    statistics: Mapping[str, StructureStatistics],
    names: Mapping[int, str],
    members: Mapping[int, Sequence[int]] = MappingProxyType({}),
) -> dict[str, tuple[str, ...]]:
    """Sentences about each structure that somebody should look at.

    Args:
        labels_ZYX: (Z, Y, X) label map.
        statistics: of the same label map, by name (`structure_statistics`).
        names: Label to structure.
        members: Label to all labels that belong to its structure, where that is more than itself (regions).

    Returns:
        Structure to warnings; a structure without a warning is left out.
    """
    found = {}
    for label, name in names.items():
        if name in statistics:
            said = (
                *_border(statistics[name]),
                *_size(statistics[name]),
                *_pieces(labels_ZYX, statistics[name], members.get(label, (label,))),
                *_side(name, statistics),
            )
            if said:
                found[name] = said
    return found


def _border(structure: StructureStatistics) -> Iterator[str]:
    if structure.touches_border:
        yield "Touches the edge of the scan, so part of it may be missing."


def _size(structure: StructureStatistics) -> Iterator[str]:
    if structure.voxels < FEW_VOXELS:
        yield f"Has only {structure.voxels} {'voxel' if structure.voxels == 1 else 'voxels'}."


def _pieces(labels_ZYX: np.ndarray, structure: StructureStatistics, labels: Sequence[int]) -> Iterator[str]:
    """Only the bounding box is searched."""
    from scipy import ndimage  # takes 0.2 s to import, which `stunet batch status` can do without

    box = tuple(slice(first, end) for first, end in reversed(structure.bounding_box))
    pieces, count = ndimage.label(np.isin(labels_ZYX[box], labels), NEIGHBOURS)
    if count < 2:
        return
    sizes = np.bincount(pieces.reshape(-1))[1:]
    small = sizes < SMALL_PIECE * structure.voxels
    if small.any():
        mm3 = float(sizes[small].sum()) * structure.volume_mm3 / structure.voxels
        yield f"Has {small.sum()} small separate {'piece' if small.sum() == 1 else 'pieces'}, {mm3:,.0f} mm³ in total."


def _side(name: str, statistics: Mapping[str, StructureStatistics]) -> Iterator[str]:
    """Left is to the left of right: x grows to the patient's right."""
    for side, other, sign in (("left", "right", 1), ("right", "left", -1)):
        partner = name.replace(side, other).replace(side.title(), other.title())
        if partner != name and partner in statistics:
            to_the_right = statistics[name].centroid_mm[0] - statistics[partner].centroid_mm[0]
            if sign * to_the_right > SIDE_TOLERANCE_MM:
                yield f"Lies to the {other} of {partner}. Left and right may be swapped."
