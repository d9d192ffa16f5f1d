"""Positions of the sliding window, and the weights of its voxels.

Letters in tensor names, in this package: B batch, C input channels, F features, K classes, M voxels in a list, Z Y X
space, in the network's axis order. A *window* is one input of the network.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import reduce
from itertools import product
from math import ceil

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

from stunet.imaging.box import Box

GAUSSIAN_SIGMA_FRACTION = 1 / 8
"""Standard deviation of the weight as a fraction of the window's size: the border weighs e^-8 of the centre."""

GAUSSIAN_PEAK = 10.0
"""Weight of the centre, as in nnU-Net, which needs it to keep small weights above zero in half precision."""

Padding = tuple[tuple[int, int], ...]
"""For each axis, voxels added before and after."""


def window_starts(image_size: Sequence[int], window_size: Sequence[int], step: float = 0.5) -> list[list[int]]:
    """First voxels of the windows along each axis, as in nnU-Net (`compute_steps_for_sliding_window`).

    The first window touches one border and the last the other; those between are evenly spaced, at most `step` of a
    window apart.

    Args:
        image_size: voxels per axis; at least those of the window.
        window_size: voxels per axis.
        step: largest distance between neighbours, as a fraction of the window, above 0 and at most 1.

    Raises:
        ValueError: the image is smaller than the window, or the step is invalid.

    >>> window_starts([110, 64], [64, 64])
    [[0, 23, 46], [0]]
    """
    if not 0 < step <= 1:
        raise ValueError(f"the step must be above 0 and at most 1, not {step}")
    if any(image < window for image, window in zip(image_size, window_size, strict=True)):
        raise ValueError(f"an image of {tuple(image_size)} voxels is smaller than the window {tuple(window_size)}")
    return [_axis_starts(image - window, window * step) for image, window in zip(image_size, window_size, strict=True)]


def _axis_starts(last_start: int, longest_step: float) -> list[int]:
    intervals = ceil(last_start / longest_step)
    if intervals == 0:
        return [0]
    return [round(last_start / intervals * index) for index in range(intervals + 1)]


def touches(start: Sequence[int], size: Sequence[int], boxes: Iterable[Box]) -> bool:
    """Whether a window covers a voxel of a box."""
    return any(
        all(low < begin + length and begin < high for begin, length, (low, high) in zip(start, size, box, strict=True))
        for box in boxes
    )


def gaussian_weight(window_size: Sequence[int]) -> torch.Tensor:
    """The weight of each voxel of a window, highest in the centre (nnU-Net's `compute_gaussian`).

    nnU-Net uses half precision, where the corners round to zero and are then set to the smallest positive weight. Ours
    are float32, rounded and filled in the same way, so that windows blend in the same proportions.

    The result has the window's shape and is above zero everywhere.

    >>> gaussian_weight([4]).tolist()
    [0.0033550262451171875, 1.353515625, 10.0, 1.353515625]
    """
    gaussian = reduce(np.multiply.outer, [_gaussian(size) for size in window_size])
    weight = torch.from_numpy(gaussian / (gaussian.max() / GAUSSIAN_PEAK)).half().float()
    weight[weight == 0] = weight[weight > 0].min()
    return weight


def _gaussian(size: int) -> np.ndarray:
    """The weight along one axis, highest at index size // 2."""
    impulse = np.zeros(size)
    impulse[size // 2] = 1
    return gaussian_filter1d(impulse, size * GAUSSIAN_SIGMA_FRACTION, mode="constant")


def padding_to(image_size: Sequence[int], window_size: Sequence[int]) -> Padding:
    """The padding on each side that enlarges an image to one window; if odd, the larger half goes to the end.

    >>> padding_to([7, 20], [10, 10])
    ((1, 2), (0, 0))
    """
    missing = [max(window - image, 0) for image, window in zip(image_size, window_size, strict=True)]
    return tuple((number // 2, number - number // 2) for number in missing)


class Windows:
    """Which windows run, in the order in which they do.

    Args:
        image_size: voxels (Z, Y, X) of the image.
        window_size: voxels (Z, Y, X).
        step: largest distance between neighbours, as a fraction of the window.
        boxes: only windows that touch one of these boxes of the image run. Default: all windows.

    Attributes:
        padding: the zeros around an image that is smaller than a window, as in nnU-Net.
        size: size (Z, Y, X) of the padded image.
        starts_z: where windows begin along Z, also where none runs.
        left_out: first voxels (Z, Y, X), in the image, of the windows that do not run.
    """

    def __init__(
        self,
        image_size: Sequence[int],
        window_size: tuple[int, int, int],
        step: float = 0.5,
        boxes: Collection[Box] | None = None,
    ):
        self.padding = padding_to(image_size, window_size)
        z, y, x = (n + before + after for n, (before, after) in zip(image_size, self.padding, strict=True))
        self.size = z, y, x
        self.starts_z, rows, columns = window_starts(self.size, window_size, step)
        self._corners: dict[int, list[tuple[int, int]]] = {z: [] for z in self.starts_z}
        self.left_out: list[tuple[int, int, int]] = []
        (above, _), (top, _), (left, _) = self.padding
        for z, y, x in product(self.starts_z, rows, columns):
            start = z - above, y - top, x - left
            if boxes is None or touches(start, window_size, boxes):
                self._corners[z].append((y, x))
            else:
                self.left_out.append(start)

    def corners(self, z: int) -> list[tuple[int, int]]:
        """First rows and columns, in the padded image, of the windows that begin at plane z and run."""
        return self._corners[z]

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """First voxels (Z, Y, X), in the padded image, of the windows that run."""
        return ((z, y, x) for z, corners in self._corners.items() for y, x in corners)

    def __len__(self) -> int:
        return sum(len(corners) for corners in self._corners.values())
