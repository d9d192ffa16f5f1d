"""Resample a scan and its labels to another spacing for storage."""

from collections.abc import Sequence

import numpy as np

from stunet.imaging.resample import Interpolation, resample
from stunet.imaging.volume import Volume

SPACING_TOLERANCE = 0.01
"""Relative difference below which two spacings count as equal."""


def has_spacing(volume: Volume, spacing: Sequence[float]) -> bool:
    """Whether a scan already has a spacing (Z, Y, X) in mm."""
    return np.allclose(volume.spacing, spacing, rtol=SPACING_TOLERANCE)


def at_spacing(volume: Volume, labels_ZYX: np.ndarray, spacing: Sequence[float]) -> tuple[Volume, np.ndarray]:
    """Resample a scan with cubic splines, and its labels to the nearest voxel.

    The extent stays exactly the same, so the new spacing is as close to the requested one as a whole number of voxels
    allows. nnU-Net resamples in the same way.

    Args:
        volume: integers are rounded to their original type.
        labels_ZYX: (Z, Y, X), on the scan's grid.
        spacing: (Z, Y, X) mm.

    Returns:
        The scan and the labels on the new grid.
    """
    ratios = [has / wanted for has, wanted in zip(volume.spacing, spacing, strict=True)]
    shape = [max(1, round(n * ratio)) for n, ratio in zip(volume.shape, ratios, strict=True)]
    image_CZYX = resample(volume.array, shape, Interpolation(order=3)).numpy()
    new_labels_ZYX = resample(labels_ZYX[None], shape, Interpolation(order=0)).numpy()[0].astype(labels_ZYX.dtype)
    if volume.array.dtype.kind in "iu":
        image_CZYX = np.rint(image_CZYX).astype(volume.array.dtype)
    scan = Volume(image_CZYX, _affine_of_grid(volume, shape), source=volume.source)
    return scan, new_labels_ZYX


def _affine_of_grid(volume: Volume, shape: Sequence[int]) -> np.ndarray:
    """The affine of the new grid: same corner, with voxels scaled by the ratio of the sizes."""
    ratio_xyz = np.array([old / new for old, new in zip(volume.shape, shape, strict=True)])[::-1]
    affine = np.array(volume.affine, dtype=np.float64)
    affine[:3, 3] += affine[:3, :3] @ (ratio_xyz / 2 - 0.5)
    affine[:3, :3] *= ratio_xyz
    return affine
