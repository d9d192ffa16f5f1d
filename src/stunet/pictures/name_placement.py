"""Place names next to markers so that they cover neither markers nor each other.

The figure's layout must be known: call its `draw_without_rendering` first.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from scipy.optimize import isotonic_regression

from stunet.pictures.style import INK, SMALL_POINTS, Look

Disc = tuple[float, float, float]
"""x and y in data coordinates, and the radius in points."""

LINE_SPACING = 1.25
"""Distance between names at line ends, in letter heights."""

AFTER_LINE = 11.0
"""Distance between the end of a line and its name in points."""

PASSES = 3
"""The number of passes in which each name is moved to a better place, given the others."""

_PLACES = (
    (1, 0, "left", "center"), (-1, 0, "right", "center"), (0, 1, "center", "bottom"), (0, -1, "center", "top"),
    (0.75, 0.75, "left", "bottom"), (-0.75, 0.75, "right", "bottom"),
    (0.75, -0.75, "left", "top"), (-0.75, -0.75, "right", "top"),
)  # fmt: skip
"""Possible places of a name, best first: direction right and up, and alignment of the name."""


def label_line_ends(axes: Axes, ends: Mapping[str, tuple[float, float]], looks: Mapping[str, Look]) -> None:
    """Write each name to the right of its line's end (x, y), moved up or down to avoid overlaps."""
    points_per_pixel = 72 / axes.figure.dpi
    heights = {name: float(axes.transData.transform(end)[1]) * points_per_pixel for name, end in ends.items()}
    for name, height in spread(heights, LINE_SPACING * SMALL_POINTS).items():
        axes.annotate(
            name, ends[name], xytext=(AFTER_LINE, height - heights[name]), textcoords="offset points",
            color=looks[name].letters, size=SMALL_POINTS, va="center", annotation_clip=False,
        )  # fmt: skip


def spread(heights: Mapping[str, float], least: float) -> dict[str, float]:
    """Move heights as little as possible, so that neighbours are at least `least` apart, in the same order.

    >>> spread({"a": 0.0, "b": 1.0, "c": 10.0}, 3.0)
    {'a': -1.0, 'b': 2.0, 'c': 10.0}
    """
    names = sorted(heights, key=lambda name: heights[name])
    distances = least * np.arange(len(names))
    moved = isotonic_regression([heights[name] for name in names] - distances).x + distances
    return dict(zip(names, moved.tolist(), strict=True))


def label_bubbles(axes: Axes, bubbles: Mapping[str, Disc], looks: Mapping[str, Look]) -> None:
    """Write each name next to its bubble, avoiding other names, bubbles and the axes' lines.

    Args:
        axes: axes with final limits.
        bubbles: name to bubble.
        looks: name to the look that gives its colour.
    """
    obstacles = np.concatenate([*_along_lines(axes), *(_around(axes, bubble) for bubble in bubbles.values())])
    candidates = {name: _boxes(axes, name, bubble) for name, bubble in bubbles.items()}
    fixed = {name: _covered(boxes, obstacles) + _outside(boxes, axes) for name, boxes in candidates.items()}
    chosen = dict.fromkeys(bubbles, 0)
    for _ in range(PASSES):
        for name, boxes in candidates.items():
            others = [candidates[other][chosen[other]] for other in bubbles if other != name]
            chosen[name] = int(np.argmin(fixed[name] + _covered(boxes, np.reshape(others, (-1, 4)))))
    for name, bubble in bubbles.items():
        _note(axes, name, bubble, _PLACES[chosen[name]], looks[name].letters)


def _note(axes: Axes, name: str, bubble: Disc, place: tuple[float, float, str, str], colour: object) -> Annotation:
    x, y, radius = bubble
    right, up, ha, va = place
    return axes.annotate(
        name, (x, y), xytext=(right * (radius + 2.5), up * (radius + 2.5)), textcoords="offset points",
        color=colour, size=SMALL_POINTS, ha=ha, va=va, zorder=6,
    )  # fmt: skip


def _boxes(axes: Axes, name: str, bubble: Disc) -> np.ndarray:
    """The box of a name in each place: (places, left bottom right top) in pixels."""
    notes = [_note(axes, name, bubble, place, INK) for place in _PLACES]
    boxes = np.array([note.get_window_extent().extents for note in notes])
    for note in notes:
        note.remove()
    return boxes


def _around(axes: Axes, bubble: Disc) -> np.ndarray:
    """A square that approximates a bubble, (1, left bottom right top) in pixels."""
    x, y, radius = bubble
    centre, half = axes.transData.transform((x, y)), 0.8 * radius * axes.figure.dpi / 72
    return np.concatenate([centre - half, centre + half])[None]


def _along_lines(axes: Axes) -> Iterator[np.ndarray]:
    """Small boxes along the axes' lines, (n, left bottom right top) in pixels for each segment."""
    for line in axes.lines:
        for start, end in pairwise(axes.transData.transform(line.get_xydata())):
            places = np.linspace(start, end, 60)
            yield np.concatenate([places - 2, places + 2], axis=1)


def _covered(boxes: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """The area that each box shares with others; both (n, left bottom right top)."""
    low, high = np.maximum(boxes[:, None, :2], taken[:, :2]), np.minimum(boxes[:, None, 2:], taken[:, 2:])
    return np.clip(high - low, 0, None).prod(axis=2).sum(axis=1)


def _outside(boxes: np.ndarray, axes: Axes) -> np.ndarray:
    """The area of each box outside the axes."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - _covered(boxes, np.array([axes.bbox.extents]))
