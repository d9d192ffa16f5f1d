"""Where the sliding window stands, and how much each of its voxels counts.

Letters in tensor names, here and in the whole room: B batch, C input channels, F features, K classes, M voxels in a
list, Z Y X space, in the network's axis order. A *window* is what the network sees at once.
"""

from collections.abc import Sequence
from functools import reduce
from math import ceil

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

GAUSSIAN_SIGMA_FRACTION = 1 / 8
"""Standard deviation of the weight as a fraction of the window's size: the border counts e^-8 of the centre."""

GAUSSIAN_PEAK = 10.0
"""Weight of the centre. nnU-Net needs it to keep small weights above zero in half precision; they are equal to ours."""

Padding = tuple[tuple[int, int], ...]
"""For each axis, voxels added before and after."""


def window_starts(image_size: Sequence[int], window_size: Sequence[int], step: float = 0.5) -> list[list[int]]:
    """First voxels of the windows along each axis, as nnU-Net places them (`compute_steps_for_sliding_window`).

    The first window touches one border and the last the other; between them they stand evenly, at most `step` of a
    window apart.

    Args:
        image_size: voxels per axis; at least the window's.
        window_size: voxels per axis.
        step: largest distance between neighbours, as a fraction of the window, above 0 and at most 1.

    Raises:
        ValueError: an image smaller than the window, or an impossible step.

    >>> window_starts([110, 64], [64, 64])
    [[0, 23, 46], [0]]
    """
    if not 0 < step <= 1:
        raise ValueError(f"the step is above 0 and at most 1, not {step}")
    if any(image < window for image, window in zip(image_size, window_size, strict=True)):
        raise ValueError(f"an image of {tuple(image_size)} voxels is smaller than the window {tuple(window_size)}")
    return [_axis_starts(image - window, window * step) for image, window in zip(image_size, window_size, strict=True)]


def _axis_starts(last_start: int, longest_step: float) -> list[int]:
    intervals = ceil(last_start / longest_step)
    if intervals == 0:
        return [0]
    return [round(last_start / intervals * index) for index in range(intervals + 1)]


def gaussian_weight(window_size: Sequence[int]) -> torch.Tensor:
    """How much each voxel of a window counts: most in the middle (nnU-Net's `compute_gaussian`).

    nnU-Net keeps the weights in half precision, where the corners round to zero and are then given the smallest weight
    that is left. Ours are float32, rounded and filled likewise, so that windows blend in the same proportions.

    It has the window's shape and is above zero everywhere.

    >>> gaussian_weight([4]).tolist()
    [0.0033550262451171875, 1.353515625, 10.0, 1.353515625]
    """
    gaussian = reduce(np.multiply.outer, [_gaussian(size) for size in window_size])
    weight = torch.from_numpy(gaussian / (gaussian.max() / GAUSSIAN_PEAK)).half().float()
    weight[weight == 0] = weight[weight > 0].min()
    return weight


def _gaussian(size: int) -> np.ndarray:
    """Along one axis, highest at index size // 2."""
    impulse = np.zeros(size)
    impulse[size // 2] = 1
    return gaussian_filter1d(impulse, size * GAUSSIAN_SIGMA_FRACTION, mode="constant")


def padding_to(image_size: Sequence[int], window_size: Sequence[int]) -> Padding:
    """What an image needs on each side to hold one window; of an odd number the larger half goes behind.

    >>> padding_to([7, 20], [10, 10])
    ((1, 2), (0, 0))
    """
    missing = [max(window - image, 0) for image, window in zip(image_size, window_size, strict=True)]
    return tuple((number // 2, number - number // 2) for number in missing)
