"""Tilted or unevenly spaced slices on a rectangular grid for the network, and labels back on the slices."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from stunet.imaging.formats.dicom.geometry import Stack

NARROW_GAPS = 0.1
"""The step of the grid is this quantile of the gaps, so a few very narrow gaps do not decide it."""

_ON_A_SLICE = 1e-3
"""A plane of the grid this close to a slice, as a fraction of the gap, is that slice."""


@dataclass(frozen=True, eq=False)
class RegularGrid:
    """A rectangular grid around slices that do not lie on one; its first plane is the first slice's.

    Attributes:
        stack: the slices.
        step: mm between its planes, along the normal.
        shape: (Z, Y, X).
        before: rows and columns that it has before the first slice's first pixel.
    """

    stack: Stack
    step: float
    shape: tuple[int, int, int]
    before: tuple[int, int]

    @classmethod
    def around(cls, stack: Stack) -> "RegularGrid":
        """The grid with the slices' pixels, and rows and columns added where slices are shifted."""
        planes, step = len(stack.slices), float(stack.heights[-1]) / (len(stack.slices) - 1)
        if stack.is_uneven:
            step = float(np.quantile(stack.gaps, NARROW_GAPS, method="higher"))
            planes = int(np.ceil(stack.heights[-1] / step - _ON_A_SLICE)) + 1
        shifts = _in_pixels(stack)
        low, high = np.floor(shifts.min(axis=0) + 1e-6), np.ceil(shifts.max(axis=0) - 1e-6)
        rows, columns = (int(n) for n in np.array(stack.slices[0].size) + high - low)
        return cls(stack, step, (planes, rows, columns), (int(-low[0]), int(-low[1])))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """(Z, Y, X) mm."""
        return self.step, *self.stack.slices[0].plane.spacing

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) voxel (x, y, z) to RAS+ mm."""
        plane = self.stack.slices[0].plane
        affine = np.array(self.stack.affine)
        affine[:3, 2] = np.array([-1, -1, 1]) * plane.normal * self.step
        affine[:3, 3] -= self.before[0] * affine[:3, 1] + self.before[1] * affine[:3, 0]
        return affine

    def values(self, pixels_KYX: np.ndarray) -> np.ndarray:
        """The slices' values on the grid, interpolated linearly; outside of the slices, their smallest value.

        Args:
            pixels_KYX: (K, rows, columns) of the slices.

        Returns:
            (Z, Y, X) of the same type.
        """
        fill = pixels_KYX.min()
        whole = pixels_KYX.dtype.kind in "iu"
        values_ZYX = np.empty(self.shape, dtype=pixels_KYX.dtype)
        for plane in range(len(values_ZYX)):
            below, weight = self._neighbours(plane)
            value_YX = self._placed(pixels_KYX, below, fill)
            if weight:
                value_YX = (1 - weight) * value_YX + weight * self._placed(pixels_KYX, below + 1, fill)
            values_ZYX[plane] = np.rint(value_YX) if whole else value_YX
        return values_ZYX

    def labels_on_slices(self, labels_ZYX: np.ndarray) -> np.ndarray:
        """Labels of the grid on the original slices: those of the nearest plane, shifted back by whole pixels.

        Args:
            labels_ZYX: (Z, Y, X) on the grid.

        Returns:
            (K, rows, columns), slice by slice in the order of the stack.
        """
        if labels_ZYX.shape != self.shape:
            raise ValueError(f"labels of shape {labels_ZYX.shape} do not fit the grid {self.shape}")
        planes = np.rint(self.stack.heights / self.step).astype(int)
        first = np.rint(_in_pixels(self.stack)).astype(int) + self.before
        rows, columns = self.stack.slices[0].size
        return np.stack([labels_ZYX[z, y : y + rows, x : x + columns] for z, (y, x) in zip(planes, first, strict=True)])

    def _neighbours(self, plane: int) -> tuple[int, float]:
        """The slice below a plane of the grid, and the weight of the one above it."""
        heights = self.stack.heights
        below = int(np.clip(np.searchsorted(heights, plane * self.step, side="right") - 1, 0, len(heights) - 2))
        weight = float((plane * self.step - heights[below]) / (heights[below + 1] - heights[below]))
        if weight > 1 - _ON_A_SLICE and below + 2 == len(heights):
            return below + 1, 0.0
        return below, 0.0 if weight < _ON_A_SLICE else min(weight, 1.0)

    def _placed(self, pixels_KYX: np.ndarray, index: int, fill: float) -> np.ndarray:
        """One slice on the grid's rows and columns: float32 (Y, X)."""
        shift = _in_pixels(self.stack)[index] + self.before
        whole = np.floor(shift + 1e-6).astype(int)
        canvas_YX = np.full(self.shape[1:], fill, dtype=np.float32)
        pixels_YX = pixels_KYX[index]
        canvas_YX[whole[0] : whole[0] + pixels_YX.shape[0], whole[1] : whole[1] + pixels_YX.shape[1]] = pixels_YX
        rest = shift - whole
        if np.abs(rest).max() < _ON_A_SLICE:
            return canvas_YX
        shifted: np.ndarray = ndimage.shift(canvas_YX, rest, order=1, mode="nearest")
        return shifted


def _in_pixels(stack: Stack) -> np.ndarray:
    """(K, 2) shifts in rows and columns."""
    return stack.shifts / stack.slices[0].plane.spacing
