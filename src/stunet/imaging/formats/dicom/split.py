"""Split the slices of one SeriesInstanceUID into volumes, such as phases, echoes, acquisitions or orientations."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from stunet.imaging.formats.dicom.geometry import SAME_POSITION_MM, Stack
from stunet.imaging.formats.dicom.slices import Phase, Slice

ORIENTATION_TOLERANCE = 2e-3
"""Direction cosines of one volume may differ by this much between slices."""

SPACING_TOLERANCE = 1e-4
"""Pixel spacings of one volume may differ by this fraction."""

_NAMES = {"image_type": "image type", "time_point": "time point", "b_value": "b", "frame_time": "frame time"}
_NUMBERED = {
    **{"acquired": "pass", "made": "image pass", "frame_time": "frame", "direction": "direction"},
    "dimensions": "volume",
}
"""Times of day are not shown, nor directions; these passes are counted instead."""


_TIMES = ("acquired", "made")
"""Slices of one volume may have several times of day, so only groups of one size are volumes."""


@dataclass(frozen=True, eq=False)
class Part:
    """Slices that may be one volume.

    Attributes:
        slices: in any order.
        name: what distinguishes it from the other parts of its series; empty if it is alone.
        stray: a slice of it, and one of its series that lies otherwise and is alone: one of them is wrong here.
    """

    slices: Sequence[Slice]
    name: str = ""
    stray: tuple[Slice, Slice] | None = None


def split(slices: Sequence[Slice]) -> list[Part]:
    """The volumes in the slices of one series.

    Slices of another size, spacing or orientation are another volume. Parallel slices are split only if they
    do not form one stack: by the first field of `Phase` whose values have ranges of height that overlap; else by
    their files, if each is a whole multi-frame volume; else by the order of the images, if it is that of volumes.
    """
    alike = _alike(slices)
    largest = max(alike, key=len)
    parts = []
    for group in alike:
        other = next((one[0] for one in alike if len(one) == 1 and len(group) > 2), None)
        name = _place_name(group) if len(alike) > 1 else ""
        stray = (group[0], other) if other is not None and group is largest else None
        parts += [Part(part.slices, _joined(name, part.name), stray) for part in _split_by_phase(group)]
    return parts


def _joined(*names: str) -> str:
    return ", ".join(name for name in names if name)


def _place_name(slices: Sequence[Slice]) -> str:
    """A name for slices of one orientation and size."""
    normal = np.abs(slices[0].plane.normal)
    plane = ("sagittal", "coronal", "axial")[int(np.argmax(normal))]
    rows, columns = slices[0].size
    return f"{plane} {columns}x{rows}"


def _alike(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Slices by size, spacing and orientation."""
    directions = np.array([[*one.plane.row, *one.plane.column] for one in slices])
    spacings = np.array([one.plane.spacing for one in slices])
    sizes = np.array([one.size for one in slices])
    left = np.arange(len(slices))
    groups = []
    while len(left):
        first = left[0]
        same = (np.abs(directions[left] - directions[first]) <= ORIENTATION_TOLERANCE).all(axis=1)
        same &= (np.abs(spacings[left] - spacings[first]) <= SPACING_TOLERANCE * spacings[first]).all(axis=1)
        same &= (sizes[left] == sizes[first]).all(axis=1)
        same[0] = True
        groups.append([slices[index] for index in left[same]])
        left = left[~same]
    return groups


def _split_by_phase(slices: Sequence[Slice]) -> list[Part]:
    """Parallel slices, split if they do not form one stack."""
    stack = Stack.of(slices)
    if not _may_be_several(stack):
        return [Part(slices)]
    for one in fields(Phase):
        groups = _by(slices, one.name)
        if _are_volumes(stack, groups, one.name):
            return [
                Part(part.slices, _joined(_phase_name(one.name, value, number), part.name))
                for number, (value, group) in enumerate(groups.items(), 1)
                for part in _split_by_phase(group)
            ]
    volumes = _by_file(stack) or _by_order(stack)
    return [Part(volume, f"volume {number}") for number, volume in enumerate(volumes, 1)] or [Part(slices)]


def _may_be_several(stack: Stack) -> bool:
    """Whether slices form no single stack, although each of them can be read."""
    if len(stack.slices) < 2 or any(one.problem for one in stack.slices):
        return False
    return stack.repeats or stack.is_mixed


def _by_file(stack: Stack) -> list[list[Slice]]:
    """The volumes in multi-frame files that cover the same places, one frame each; none if they do not."""
    places = np.cumsum(_first_of_each_place(stack)) - 1
    files: dict[int, list[int]] = {}
    for index, one in enumerate(stack.slices):
        files.setdefault(id(one.source), []).append(index)
    all_places = np.arange(places[-1] + 1)
    if len(all_places) < 2 or not all(np.array_equal(places[indices], all_places) for indices in files.values()):
        return []
    volumes = [[stack.slices[index] for index in indices] for indices in files.values()]
    return sorted(volumes, key=lambda volume: (volume[0].order or 0, volume[0].source.name))


def _first_of_each_place(stack: Stack) -> np.ndarray:
    """(slices,) whether a slice lies higher than the one before it."""
    return np.diff(stack.heights, prepend=-np.inf) >= SAME_POSITION_MM


def _by_order(stack: Stack) -> list[list[Slice]]:
    """The volumes of a time series, by the order of its images; none if the order is not clear.

    Each place must have as many images as the others, and the images must follow each other volume by volume, or place
    by place.
    """
    starts = np.flatnonzero(_first_of_each_place(stack))
    counts = np.diff(starts, append=len(stack.slices))
    orders = np.array([one.order or 0 for one in stack.slices], dtype=np.int64)
    if len(starts) < 2 or (counts != counts[0]).any() or not orders.all():
        return []
    table = orders.reshape(len(starts), counts[0])
    ranks = np.argsort(table, axis=1)
    if not _are_ordered(np.take_along_axis(table, ranks, axis=1)):
        return []
    return [[stack.slices[index] for index in starts + rank] for rank in ranks.T]


def _are_ordered(table: np.ndarray) -> bool:
    """Whether numbers (places, volumes) differ at each place, and go volume by volume or place by place."""
    return bool((np.diff(table, axis=1) > 0).all()) and (_follow(table) or _follow(table.T))


def _follow(table: np.ndarray) -> bool:
    """Whether the ranges of a table's columns lie one after another, in any order."""
    order = np.argsort(table[0])
    return bool((table.max(axis=0)[order[:-1]] < table.min(axis=0)[order[1:]]).all())


def _by(slices: Sequence[Slice], field: str) -> dict[str, list[Slice]]:
    groups: dict[str, list[Slice]] = {}
    for one in slices:
        groups.setdefault(getattr(one.phase, field), []).append(one)
    return dict(sorted(groups.items(), key=lambda item: _by_value(item[0])))


def _by_value(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return 0.0, value


def _are_volumes(stack: Stack, groups: dict[str, list[Slice]], field: str) -> bool:
    """Whether groups are passes over the same part of the patient, and not single slices or parts one after another."""
    if len(groups) < 2 or 2 * len(groups) > len(stack.slices):
        return False
    if field in _TIMES and len(set(map(len, groups.values()))) > 1:
        return False
    return _overlap(stack, groups)


def _overlap(stack: Stack, groups: dict[str, list[Slice]]) -> bool:
    """Whether the heights of two groups overlap."""
    height = {id(one): float(mm) for one, mm in zip(stack.slices, stack.heights, strict=True)}
    ranges = sorted((min(height[id(s)] for s in group), max(height[id(s)] for s in group)) for group in groups.values())
    return any(low <= high for (_, high), (low, _) in pairwise(ranges))


def _phase_name(field: str, value: str, number: int) -> str:
    if field in _NUMBERED:
        return f"{_NUMBERED[field]} {number}"
    name = _NAMES.get(field, field)
    try:
        return f"{name} {float(value):g}"
    except ValueError:
        return f"{name} {value}" if value else f"no {name}"
