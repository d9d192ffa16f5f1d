"""Find requested structures in a first pass, so that only the windows near them run in the second.

The first pass (`first_pass.py`) has windows side by side, and for organs it runs only those along the middle of the
scan and near what it sees. The second runs those windows of the full run that touch a box around what was seen, except
those whose features are known from the first. All windows over a box are among them, so within the boxes the labels are
those of the full run. A part of a structure can get lost that the first pass missed, more than `MARGIN_MM` away from
what it saw; so users can turn the search off.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stunet.imaging.box import Box
from stunet.imaging.preprocess import GridRecord
from stunet.imaging.resample import linear_taps
from stunet.inference.backends.base import Backend
from stunet.inference.first_pass import FirstPass, all_boxes
from stunet.inference.known_features import KnownFeatures
from stunet.inference.labelling import Chooser
from stunet.inference.sliding import OnWindow, PlaneSource, Sliding
from stunet.inference.windows import Windows

LARGEST_SHARE = 0.5
"""If the first pass could have more than this share of the full run's windows, there is none."""


@dataclass(frozen=True)
class Search:
    """What the first pass found, and what the second runs.

    Attributes:
        boxes: label to boxes on the network's grid, with margin; labels that were not seen are missing.
        first_pass: number of windows of the first pass.
        windows: those that the labels come from, also those known from the first pass.
        known: how many of them are known from the first pass.
    """

    boxes: Mapping[int, Sequence[Box]]
    first_pass: int
    windows: Windows
    known: int


def search(
    image: PlaneSource,
    record: GridRecord,
    backend: Backend,
    sliding: Sliding,
    chooser: Chooser,
    asked: Collection[int],
    are_whole: bool,
    known: KnownFeatures,
    on_window: OnWindow | None = None,
) -> Search | None:
    """Find the boxes of the requested structures.

    Args:
        image: the scan on the network's grid.
        record: of that grid.
        backend: runs the network.
        sliding: settings of the full run.
        chooser: chooses among the requested structures.
        asked: their labels.
        are_whole: whether each of them is in one piece, so that it can be followed from window to window.
        known: where the features of the first pass are kept for the second.
        on_window: called after each window, with the number of the full run's: both passes have no more, if there is
            space for all features.

    Returns:
        None if the first pass could have too many windows (`LARGEST_SHARE`).
    """
    shape, size = record.network_shape, sliding.window_size
    first = FirstPass(image, record, backend, sliding, chooser, known)
    most = len(first.windows)
    if len(first.tiles) > LARGEST_SHARE * most:
        return None
    told = on_window or (lambda done, total: None)
    first.see(asked, are_whole, lambda: told(first.runs, most))
    windows = Windows(shape, size, sliding.step, all_boxes(first.boxes))
    return Search(dict(first.boxes), first.runs, windows, sum(start in known for start in windows))


def after_search(on_window: OnWindow | None, before: int) -> OnWindow | None:
    """Report the windows of the second pass together with those that ran before."""
    if on_window is None:
        return None
    return lambda done, total: on_window(before + done, before + total)


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
