"""The geometry of a series: order, gaps, tilt and shifts of its slices, and whether they form one scan."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stunet.imaging.affine import SHEAR_TOLERANCE
from stunet.imaging.formats.dicom.slices import Slice

GAP_TOLERANCE = 0.1
"""Slice distances may differ by this fraction of the usual one; positions are decimal strings, often rounded."""

SAME_POSITION_MM = 1e-3
"""Slices closer together than this have the same position."""

SHIFT_TOLERANCE = 0.5
"""Slices may deviate this far, in pixels, from the straight line through the first and the last."""

MISSING_GAP = 2.5
"""A gap above this multiple of the usual one is a missing slice, unless the slice numbers have no hole."""

LONE_GAP = 3.0
"""Two slices alone are refused if their gap is above this multiple of their stated thickness."""

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Stack:
    """Parallel slices of one size, in order of their height.

    Attributes:
        slices: from the lowest along the normal to the highest.
        heights: (K,) mm along the normal, above the first slice.
        shifts: (K, 2) mm down a column and along a row, against the first slice.
    """

    slices: tuple[Slice, ...]
    heights: np.ndarray
    shifts: np.ndarray

    @classmethod
    def of(cls, slices: Sequence[Slice]) -> "Stack":
        """The stack that parallel slices of one size make, given in any order."""
        plane = slices[0].plane
        positions = np.array([one.plane.position for one in slices])
        order = np.argsort(positions @ plane.normal, kind="stable")
        relative = positions[order] - positions[order[0]]
        shifts = np.stack([relative @ plane.column, relative @ plane.row], axis=1)
        return cls(tuple(slices[index] for index in order), relative @ plane.normal, shifts)

    @property
    def size(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        return len(self.slices), *self.slices[0].size

    @property
    def spacing(self) -> tuple[float, float, float]:
        """(Z, Y, X) mm: the mean distance of neighbouring slices, and that of pixels."""
        step = float(np.linalg.norm(self._step)) if len(self.slices) > 1 else 0.0
        return step, *self.slices[0].plane.spacing

    @cached_property
    def gaps(self) -> np.ndarray:
        """(K - 1,) mm between neighbours, along the normal."""
        return np.diff(self.heights)

    @property
    def usual_gap(self) -> float:
        """mm; the median."""
        return float(np.median(self.gaps))

    @property
    def repeats(self) -> bool:
        """Whether two slices have the same position."""
        return bool((self.gaps < SAME_POSITION_MM).any())

    @property
    def is_uneven(self) -> bool:
        """Whether a gap differs from the usual one."""
        return bool((np.abs(self.gaps - self.usual_gap) > GAP_TOLERANCE * self.usual_gap).any())

    @property
    def is_mixed(self) -> bool:
        """Whether a gap is not a whole multiple of the usual one. If all are, slices are missing or were left out."""
        steps = self.gaps / self.usual_gap
        return bool((np.abs(steps - np.rint(steps)) > GAP_TOLERANCE).any())

    @property
    def tilt(self) -> float:
        """Radians between the line through the first pixels of the first and last slice, and the normal."""
        along, beside = float(self.heights[-1]), float(np.linalg.norm(self.shifts[-1]))
        return float(np.arctan2(beside, along))

    @property
    def is_tilted(self) -> bool:
        """Whether the slices do not lie straight above each other."""
        return self.tilt > SHEAR_TOLERANCE

    @property
    def is_regular(self) -> bool:
        """Whether the pixels form a rectangular grid."""
        return not self.is_tilted and not self.is_uneven

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) voxel (x, y, z) to RAS+ mm of a regular stack; x runs along a row, y down a column."""
        first = self.slices[0].plane
        row_mm, column_mm = first.spacing
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1], affine[:3, 2] = first.row * column_mm, first.column * row_mm, self._step
        affine[:3, 3] = first.position
        return _LPS_TO_RAS @ affine

    @property
    def _step(self) -> np.ndarray:
        """(3,) mean way from one slice to the next, LPS mm."""
        first, last = self.slices[0].plane.position, self.slices[-1].plane.position
        step: np.ndarray = (last - first) / (len(self.slices) - 1)
        return step

    def height_of(self, index: int) -> float:
        """Height of a slice above the patient's origin, in mm along the normal."""
        return float(self.slices[0].plane.position @ self.slices[0].plane.normal + self.heights[index])


def refusal(stack: Stack, strict: bool) -> str:
    """Why slices do not form a scan, as the end of a sentence that names the folder; empty if they do.

    Args:
        stack: of slices of one volume.
        strict: also refuse slices that would be resampled.
    """
    if len(stack.slices) < 2:
        return f"holds a single slice ({stack.slices[0].name}), but a 3D scan is needed."
    if stack.repeats:
        return _doubled(stack)
    missing = _missing(stack)
    if missing:
        return missing
    shifted = _shifted(stack)
    if shifted or not strict:
        return shifted
    if stack.is_uneven:
        worst = _worst_gap(stack)
        return (
            f"slices are unevenly spaced: {_gap(stack, worst)}, but {stack.usual_gap:.2f} mm elsewhere; leave "
            "--strict-geometry out to have them resampled."
        )
    if stack.is_tilted:
        return (
            f"the gantry was tilted by {np.degrees(stack.tilt):.1f} degrees, so the slices do not lie straight above "
            "each other; leave --strict-geometry out to have them resampled."
        )
    return ""


def remarks(stack: Stack) -> tuple[str, ...]:
    """What a user should know about the slices of a scan: tilt and uneven gaps."""
    if len(stack.slices) < 2 or stack.repeats:
        return ()
    tilted = (f"tilted by {np.degrees(stack.tilt):.1f} degrees",) if stack.is_tilted else ()
    uneven = (f"gaps of {stack.gaps.min():.2f} to {stack.gaps.max():.2f} mm",) if stack.is_uneven else ()
    return tilted + uneven


def _doubled(stack: Stack) -> str:
    narrowest = int(np.argmin(stack.gaps))
    if np.ptp(stack.heights) < SAME_POSITION_MM:
        return (
            f"all {len(stack.slices)} images lie at the same position ({stack.height_of(0):.2f} mm), as in a time "
            "series of one slice; a scan needs slices at different positions."
        )
    return (
        f"{stack.slices[narrowest].name} and {stack.slices[narrowest + 1].name} lie at the same position "
        f"({stack.height_of(narrowest):.2f} mm), and the headers do not distinguish them; remove the duplicate, or "
        "the other time points of a dynamic scan."
    )


def _missing(stack: Stack) -> str:
    """Gaps in which a slice is missing: by the numbers of the slices or, without numbers, by the width of the gap."""
    wide = stack.gaps > (1 + GAP_TOLERANCE) * stack.usual_gap
    jumps = _number_steps(stack)
    usual_jumps = np.unique(jumps[~wide]) if jumps is not None else np.empty(0)
    if jumps is not None and len(usual_jumps) == 1:
        is_missing = wide & (jumps > usual_jumps[0])
    else:
        is_missing = stack.gaps > MISSING_GAP * stack.usual_gap
    if len(stack.slices) == 2:
        thickness = max(one.thickness for one in stack.slices)
        is_missing = stack.gaps > LONE_GAP * thickness if thickness else np.array([False])
    if not is_missing.any():
        return ""
    worst = int(np.argmax(np.where(is_missing, stack.gaps, 0)))
    usual = f"{stack.usual_gap:.2f} mm elsewhere" if len(stack.slices) > 2 else f"slices are {thickness:.2f} mm thick"
    return f"slices are missing: {_gap(stack, worst)}, but {usual}; copy or export the whole series again."


def _number_steps(stack: Stack) -> np.ndarray | None:
    """(K - 1,) by how much InstanceNumber changes between neighbours; None if a slice has none."""
    numbers = [one.instance for one in stack.slices]
    if None in numbers:
        return None
    return np.abs(np.diff(np.array(numbers, dtype=np.int64)))


def _worst_gap(stack: Stack) -> int:
    return int(np.argmax(np.abs(stack.gaps - stack.usual_gap)))


def _gap(stack: Stack, index: int) -> str:
    low, high = stack.slices[index], stack.slices[index + 1]
    return (
        f"{stack.gaps[index]:.2f} mm between {low.name} ({stack.height_of(index):.2f} mm) and {high.name} "
        f"({stack.height_of(index + 1):.2f} mm)"
    )


def _shifted(stack: Stack) -> str:
    """The slice that deviates from the line through the first and the last."""
    line = np.outer(stack.heights / stack.heights[-1], stack.shifts[-1])
    beside = np.linalg.norm(stack.shifts - line, axis=1)
    worst = int(np.argmax(beside))
    if beside[worst] <= SHIFT_TOLERANCE * max(stack.slices[0].plane.spacing):
        return ""
    return (
        f"{stack.slices[worst].name} is shifted by {beside[worst]:.2f} mm against the other slices, within its plane, "
        "so they do not form a rectangular grid; resample the series first."
    )
