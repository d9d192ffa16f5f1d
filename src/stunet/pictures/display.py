"""Display of scans in previews and figures: orientation, brightness, colours, slice and scale bar.

Views are drawn with row 0 at the top. With the orientation "LPI" this is the radiological display (the patient's right
on the left, anterior to the left in sagittal planes) without further flips.
"""

import math
from collections.abc import Mapping

import numpy as np

from stunet.labels.ontology import colour_of

DISPLAY_ORIENTATION = "LPI"

SOFT_TISSUE_HU = (-160.0, 240.0)
"""The usual soft-tissue window of CT: level 40, width 400."""

AIR_AND_TISSUE_HU = (-200.0, 100.0)
"""Intensities from below the first (lung, air) to above the second are treated as Hounsfield units."""

WINDOW_PERCENTILES = (0.5, 99.5)
"""Percentiles shown as black and white in images without units."""

WINDOW_SAMPLES = 1_000_000
"""The approximate number of voxels used to find the window."""


def intensity_window(image_ZYX: np.ndarray) -> tuple[float, float]:
    """The intensities shown as black and white: a soft-tissue window for Hounsfield units, otherwise percentiles."""
    stride = max(1, round((image_ZYX.size / WINDOW_SAMPLES) ** (1 / 3)))
    sample = image_ZYX[::stride, ::stride, ::stride].astype(np.float32)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(sample, WINDOW_PERCENTILES))
    if low <= AIR_AND_TISSUE_HU[0] and high >= AIR_AND_TISSUE_HU[1]:
        return SOFT_TISSUE_HU
    return (low, high) if high > low else (low, low + 1.0)


def finite(image: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Intensities of any shape as float64 in C order; nan becomes black, infinities black or white."""
    low, high = window
    return np.nan_to_num(image.astype(np.float64, order="C"), nan=low, posinf=high, neginf=low)


def brightness(intensities: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Convert finite intensities of any shape to 0 (black) to 1 (white)."""
    low, high = window
    return np.clip((intensities - low) / (high - low), 0, 1)


def colours_of(names: Mapping[int, str]) -> dict[int, np.ndarray]:
    """Label to red, green and blue in 0..1, without the background."""
    return {label: np.array(colour_of(name, label)) / 255 for label, name in names.items() if label}


def fullest_slice(mask_ZYX: np.ndarray) -> int:
    """The slice along Z with the most foreground, or the middle one if there is none.

    >>> fullest_slice(np.array([[[0]], [[0]], [[2]], [[0]]]) > 0), fullest_slice(np.zeros((5, 2, 2)))
    (2, 2)
    """
    counts = mask_ZYX.sum(axis=(1, 2))
    return int(counts.argmax()) if counts.any() else len(mask_ZYX) // 2


def scale_bar_mm(most: float) -> float:
    """The length of a scale bar: the largest of 1, 2, 5, 10, 20, 50, ... that is at most `most` mm.

    >>> scale_bar_mm(34.0)
    20.0
    """
    power = 10.0 ** math.floor(math.log10(most))
    return next(factor * power for factor in (5, 2, 1) if factor * power <= most)
