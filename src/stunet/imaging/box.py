"""The relevant part of a scan: its nonzero voxels, or the body in a CT."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from scipy import ndimage

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Half-open ranges along three axes."""

BODY_HU = -500.0
"""Voxels above this are body (or table, or clothes). The lungs are below it, but lie inside the body."""

COARSE_MM = 4.0
"""Spacing at which the body is searched."""

SMALLEST_SHARE = 0.05
"""Regions at least this large, as a fraction of the largest, are kept: legs and arms are, instruments are not."""

MARGIN_MM = 20.0
"""Margin around the body: nearby air may affect the skin's labels, and some skin may be removed with the table."""


def nonzero_box(array_CZYX: np.ndarray) -> Box:
    """The smallest box around all voxels that are nonzero in any channel; the whole image if there are none."""
    ranges: list[tuple[int, int]] = []
    for axis in (1, 2, 3):
        planes = np.moveaxis(array_CZYX, axis, 0)
        start = next((index for index in range(len(planes)) if planes[index].any()), 0)
        stop = next((index for index in range(len(planes), start, -1) if planes[index - 1].any()), len(planes))
        ranges.append((start, stop))
        array_CZYX = np.moveaxis(planes[start:stop], 0, axis)
    return ranges[0], ranges[1], ranges[2]


def body_box(array_CZYX: np.ndarray, spacing: Sequence[float]) -> Box:
    """The box around the body in a CT, with `MARGIN_MM` of air.

    The search uses every few voxels. It takes what is denser than `BODY_HU`, removes anything thinner than three of
    these voxels (the table's shell, a blanket), and drops small regions. If nothing remains, the box is the whole scan.

    Args:
        array_CZYX: intensities in HU, in the first channel.
        spacing: (Z, Y, X) in mm.
    """
    steps = [max(1, round(COARSE_MM / mm)) for mm in spacing]
    coarse_ZYX = array_CZYX[0][tuple(slice(None, None, step) for step in steps)]
    inside = ndimage.binary_opening(np.pad(coarse_ZYX > BODY_HU, 1, mode="edge"), np.ones((3, 3, 3)))[1:-1, 1:-1, 1:-1]
    regions, count = ndimage.label(inside)
    sizes = np.bincount(regions.ravel(), minlength=count + 1)[1:]
    if not count:
        return (0, array_CZYX.shape[1]), (0, array_CZYX.shape[2]), (0, array_CZYX.shape[3])
    large = np.isin(regions, 1 + np.flatnonzero(sizes >= SMALLEST_SHARE * sizes.max()))
    ranges = [
        (max(0, start * step - ceil(MARGIN_MM / mm)), min(size, stop * step + ceil(MARGIN_MM / mm)))
        for (start, stop), step, mm, size in zip(
            nonzero_box(large[None]), steps, spacing, array_CZYX.shape[1:], strict=True
        )
    ]
    return ranges[0], ranges[1], ranges[2]
