"""Find requested structures in a first pass, so that only the windows near them run in the second.

The first pass has its windows side by side (step 1): in long scans about a third of those of step 0.5. The second pass
runs those windows of the full run that touch a box around a structure. All windows over a box are among them, so within
the boxes the labels are those of the full run. What can get lost is a part of a structure that the first pass missed,
more than `MARGIN_MM` away from what it saw; so users can turn the search off.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from stunet.imaging.box import Box, nonzero_box
from stunet.imaging.preprocess import GridRecord
from stunet.imaging.resample import linear_taps
from stunet.inference.backends.base import Backend
from stunet.inference.labelling import Chooser, output_slices
from stunet.inference.sliding import OnWindow, PlaneSource, Sliding, feature_planes
from stunet.inference.windows import Windows

MARGIN_MM = 20.0
"""Margin around what the first pass saw of a structure; a window sees least at its border."""

LARGEST_SHARE = 0.5
"""If the first pass had more than this share of the full run's windows, there is none."""


@dataclass(frozen=True)
class Search:
    """What the first pass found, and what the second runs.

    Attributes:
        boxes: label to its box on the network's grid, with margin; labels that were not seen are missing.
        first_pass: number of windows of the first pass.
        windows: those of the second pass.
    """

    boxes: Mapping[int, Box]
    first_pass: int
    windows: Windows


def search(
    image: PlaneSource,
    record: GridRecord,
    backend: Backend,
    sliding: Sliding,
    chooser: Chooser,
    on_window: OnWindow | None = None,
) -> Search | None:
    """Find the boxes of the requested structures.

    Args:
        image: the scan on the network's grid.
        record: of that grid.
        backend: runs the network.
        sliding: settings of the full run.
        chooser: chooses among the requested structures.
        on_window: called after each window.

    Returns:
        None if the first pass would have too many windows (`LARGEST_SHARE`).
    """
    shape, size = record.network_shape, sliding.window_size
    first, everything = Windows(shape, size, 1.0), Windows(shape, size, sliding.step)
    if len(first) > LARGEST_SHARE * len(everything):
        return None
    side_by_side = replace(sliding, step=1.0, mirror_axes=())
    told = within_both(on_window, 0, len(everything))
    planes = feature_planes(image, backend, side_by_side, told, first)
    found = _BoxesOfLabels()
    for number, output_slice in enumerate(output_slices(planes, chooser.head, shape, shape, (1, 1, 1))):
        found.add(number, output_slice.labels(chooser).cpu().numpy())
    boxes = {label: _enlarged(box, record) for label, box in found.boxes.items()}
    return Search(boxes, len(first), Windows(shape, size, sliding.step, boxes.values()))


def within_both(on_window: OnWindow | None, before: int, after: int) -> OnWindow | None:
    """Report the windows of one pass as part of both.

    Args:
        on_window: gets the numbers for both passes.
        before, after: windows of the pass before, and of the pass after.
    """
    if on_window is None:
        return None
    return lambda done, total: on_window(before + done, before + total + after)


class _BoxesOfLabels:
    """Grows a box for each label, from planes that arrive first to last.

    Attributes:
        boxes: label to box.
    """

    def __init__(self) -> None:
        self.boxes: dict[int, Box] = {}

    def add(self, number: int, labels_YX: np.ndarray) -> None:
        """Take the labels of the next plane."""
        for label in np.flatnonzero(np.bincount(labels_YX.ravel())[1:]) + 1:
            _, rows, columns = nonzero_box((labels_YX == label)[None, None])
            box = (number, number + 1), rows, columns
            known = self.boxes.get(int(label), box)
            z, y, x = ((min(a, c), max(b, d)) for (a, b), (c, d) in zip(known, box, strict=True))
            self.boxes[int(label)] = z, y, x


def _enlarged(box: Box, record: GridRecord) -> Box:
    """A box with `MARGIN_MM` on each side, within the grid."""
    sizes = zip(box, record.network_shape, record.cropped_shape, record.cropped_spacing, strict=True)
    margins = [(ranges, size, ceil(MARGIN_MM / (mm * voxels / size))) for ranges, size, voxels, mm in sizes]
    z, y, x = ((max(0, start - margin), min(size, stop + margin)) for (start, stop), size, margin in margins)
    return z, y, x


class OutputMask:
    """The voxels of the scan's grid whose neighbours on the network's grid all lie in one of the boxes.

    Args:
        boxes: on the network's grid.
        record: relates the grids.
    """

    def __init__(self, boxes: Collection[Box], record: GridRecord):
        shapes = zip(record.network_shape, record.cropped_shape, strict=True)
        taps = [linear_taps(n_in, n_out) for n_in, n_out in shapes]
        self._inside = [
            [(lower >= start) & (upper < stop) for (lower, upper, _), (start, stop) in zip(taps, box, strict=True)]
            for box in boxes
        ]

    def of_slice(self, number: int) -> np.ndarray:
        """The mask of one slice: (Y, X), or (1, 1) if no box reaches it."""
        mask = np.zeros((1, 1), dtype=bool)
        for along_z, along_y, along_x in self._inside:
            if along_z[number]:
                mask = mask | np.outer(along_y, along_x)
        return mask
