"""Find requested structures in a first pass, so that only the windows near them run in the second.

The first pass (`first_pass.py`) has its windows side by side, and for organs it runs only those along the middle of the
scan and near what it sees. The second runs those windows of the full run that touch a box around what was seen. All
windows over a box are among them, so within the boxes the labels are those of the full run. A part of a structure
can get lost that the first pass missed, more than `MARGIN_MM` away from what it saw; so users can turn the search off.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stunet.imaging.box import Box
from stunet.imaging.preprocess import GridRecord
from stunet.imaging.resample import linear_taps
from stunet.inference.backends.base import Backend
from stunet.inference.first_pass import FirstPass, all_boxes
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
        windows: those of the second pass.
    """

    boxes: Mapping[int, Sequence[Box]]
    first_pass: int
    windows: Windows


def search(
    image: PlaneSource,
    record: GridRecord,
    backend: Backend,
    sliding: Sliding,
    chooser: Chooser,
    asked: Collection[int],
    are_whole: bool,
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
        on_window: called after each window, with the most that both passes can have.

    Returns:
        None if the first pass could have too many windows (`LARGEST_SHARE`).
    """
    shape, size = record.network_shape, sliding.window_size
    everything = Windows(shape, size, sliding.step)
    first = FirstPass(image, record, backend, sliding, chooser)
    most = len(first.windows)
    if most > LARGEST_SHARE * len(everything):
        return None
    told = on_window or (lambda done, total: None)
    first.see(asked, are_whole, lambda: told(first.runs, most + len(everything)))
    return Search(dict(first.boxes), first.runs, Windows(shape, size, sliding.step, all_boxes(first.boxes)))


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
