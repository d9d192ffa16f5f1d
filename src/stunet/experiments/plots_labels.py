"""Names beside marks, placed so that they cover neither marks nor each other."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from stunet.experiments.plots_style import INK, SMALL_POINTS

LINE_SPACING = 1.25
"""Heights of a letter between the names at the ends of lines."""

AFTER_LINE = 11.0
"""Points between the end of a line and its name."""

PASSES = 3
"""How often each name looks for a better place, once the others have theirs."""

_PLACES = ((1, 0), (-1, 0), (0, 1), (0, -1), (0.75, 0.75), (-0.75, 0.75), (0.75, -0.75), (-0.75, -0.75))
"""Directions from a mark in which its name may stand, the dearest first."""


def label_line_ends(axes: Axes, ends: Mapping[str, tuple[float, float]], colours: Mapping[str, object]) -> None:
    """Write each name right of the end (x, y) of its line, moved up or down where names would overlap."""
    figure = _figure_of(axes)
    figure.draw_without_rendering()  # the layout is known from here on
    points_per_pixel = 72 / figure.dpi
    heights = {name: float(axes.transData.transform(end)[1]) * points_per_pixel for name, end in ends.items()}
    for name, height in spread(heights, LINE_SPACING * SMALL_POINTS).items():
        axes.annotate(
            name, ends[name], xytext=(AFTER_LINE, height - heights[name]), textcoords="offset points",
            color=colours[name], size=SMALL_POINTS, va="center", annotation_clip=False,
        )  # fmt: skip


def spread(heights: Mapping[str, float], least: float) -> dict[str, float]:
    """Heights moved as little as possible so that neighbours are at least so far apart, their order kept.

    >>> spread({"a": 0.0, "b": 1.0, "c": 10.0}, 3.0)
    {'a': -1.0, 'b': 2.0, 'c': 10.0}
    """
    blocks: list[tuple[list[str], float]] = []  # names, lowest first, and the height of their middle
    for name in sorted(heights, key=lambda name: heights[name]):
        names, middle = [name], heights[name]
        while blocks and middle - blocks[-1][1] < least * (len(names) + len(blocks[-1][0])) / 2:
            lower, lower_middle = blocks.pop()
            middle = (lower_middle * len(lower) + middle * len(names)) / (len(lower) + len(names))
            names = lower + names
        blocks.append((names, middle))
    return {
        name: middle + least * (place - (len(names) - 1) / 2)
        for names, middle in blocks
        for place, name in enumerate(names)
    }


def label_bubbles(axes: Axes, bubbles: Mapping[str, tuple[float, float, float]], colours: Mapping[str, object]) -> None:
    """Write each name beside its bubble, off other names, bubbles and the lines of the axes.

    Args:
        axes: whose limits do not change any more.
        bubbles: name to x, y and radius in points.
        colours: name to the colour of its letters.
    """
    figure = _figure_of(axes)
    figure.draw_without_rendering()
    obstacles = [*_along_lines(axes), *(_disc(axes, bubble) for bubble in bubbles.values())]
    candidates = {name: _boxes(axes, name, bubble) for name, bubble in bubbles.items()}
    chosen = dict.fromkeys(bubbles, 0)
    for _ in range(PASSES):
        for name, boxes in candidates.items():
            taken = [*obstacles, *(candidates[other][chosen[other]] for other in bubbles if other != name)]
            costs = [_covered(box, taken) + _outside(box, axes.bbox) for box in boxes]
            chosen[name] = costs.index(min(costs))
    for name, (x, y, radius) in bubbles.items():
        _note(axes, name, (x, y), radius, _PLACES[chosen[name]], colours[name])


def _note(
    axes: Axes, name: str, at: tuple[float, float], radius: float, place: tuple[float, float], colour: object
) -> Annotation:
    right, up = (direction * (radius + 2.5) for direction in place)
    return axes.annotate(
        name, at, xytext=(right, up), textcoords="offset points", color=colour, size=SMALL_POINTS,
        ha=_side(right, "left", "right"), va=_side(up, "bottom", "top"), zorder=6,
    )  # fmt: skip


def _boxes(axes: Axes, name: str, bubble: tuple[float, float, float]) -> list[Bbox]:
    """What a name would fill in each place, in pixels."""
    x, y, radius = bubble
    boxes = []
    for place in _PLACES:
        note = _note(axes, name, (x, y), radius, place, INK)
        boxes.append(note.get_window_extent())
        note.remove()
    return boxes


def _disc(axes: Axes, bubble: tuple[float, float, float]) -> Bbox:
    """A square that stands for a bubble, in pixels."""
    x, y, radius = bubble
    centre, half = axes.transData.transform((x, y)), 0.8 * radius * _figure_of(axes).dpi / 72
    return Bbox([centre - half, centre + half])


def _figure_of(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("axes without a figure")
    return figure


def _along_lines(axes: Axes) -> list[Bbox]:
    """Small boxes, in pixels, along all lines of the axes."""
    boxes = []
    for line in axes.lines:
        places = axes.transData.transform(line.get_xydata())
        for start, end in pairwise(places):
            for share in np.linspace(0, 1, 60):
                place = start + share * (end - start)
                boxes.append(Bbox([place - 2, place + 2]))
    return boxes


def _side(direction: float, positive: str, negative: str) -> str:
    return "center" if direction == 0 else positive if direction > 0 else negative


def _covered(box: Bbox, taken: Sequence[Bbox]) -> float:
    """Area that a box shares with others."""
    shared = (Bbox.intersection(box, other) for other in taken)
    return sum(part.width * part.height for part in shared if part is not None)


def _outside(box: Bbox, frame: Bbox) -> float:
    """Area of a box that is not within a frame."""
    inside = Bbox.intersection(box, frame)
    return float(np.prod(box.size)) - (0.0 if inside is None else float(np.prod(inside.size)))
