"""Outlines of masks: closed polygons at level 0.5, halfway between voxels inside and outside."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import numpy as np
from contourpy import FillType, contour_generator
from scipy.spatial import KDTree

LEVEL = 0.5
_ABOVE_ALL = 2.0


def polygons(mask_YX: np.ndarray) -> list[np.ndarray]:
    """Outline a mask.

    Each polygon covers the inside of its outline without its holes. A channel of zero width connects the outline to
    each hole and back, as DICOM requires. The voxel centres inside the polygons are those of the mask.

    Args:
        mask_YX: (Y, X) boolean.

    Returns:
        One array (N, 2) per connected part: points (x, y) in voxels, with the first voxel's centre at 0. The last point
        connects to the first. Only corners are kept.
    """
    padded = np.pad(mask_YX, 1).astype(np.float64)
    generator = contour_generator(z=padded, name="serial", fill_type=FillType.OuterOffset)
    filled = cast(tuple[list[np.ndarray], list[np.ndarray]], generator.filled(LEVEL, _ABOVE_ALL))
    return [_with_holes(_rings(points - 1, starts)) for points, starts in zip(*filled, strict=True)]


def _rings(points: np.ndarray, starts: np.ndarray) -> list[np.ndarray]:
    """The outline and the holes, without the repeated last point and without points on straight lines."""
    return [_corners(points[start : stop - 1]) for start, stop in pairwise(starts)]


def _corners(ring: np.ndarray) -> np.ndarray:
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    return ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def _with_holes(rings: Sequence[np.ndarray]) -> np.ndarray:
    """Combine an outline and its holes into one polygon. Each hole is entered from the nearest point of the outline."""
    outline, *holes = rings
    if not holes:
        return outline
    tree = KDTree(outline)
    detours: dict[int, list[np.ndarray]] = {}
    for hole in holes:
        distances, nearest = tree.query(hole)
        enter = int(np.argmin(distances))
        place = int(nearest[enter])
        channel = _channel(outline[place], hole[enter])
        around = [channel, hole[enter:], hole[: enter + 1], channel[::-1], outline[place : place + 1]]
        detours.setdefault(place, []).append(np.concatenate(around))
    pieces = []
    start = 0
    for place in sorted(detours):
        pieces += [outline[start : place + 1], *detours[place]]
        start = place + 1
    return np.concatenate([*pieces, outline[start:]])


def _channel(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Corners of a path between two points along voxel edges, so that it touches no voxel centre."""
    first, last = np.floor(start) + LEVEL, np.floor(stop) + LEVEL
    return np.stack([first, [last[0], first[1]], last])
