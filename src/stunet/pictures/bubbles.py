"""Draw Figure 1: DSC against computation, as bubbles whose area is the number of parameters (Table 3)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, log10

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnchoredOffsetbox, DrawingArea, TextArea, VPacker
from matplotlib.patches import Circle
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from stunet.pictures.name_placement import label_bubbles
from stunet.pictures.style import GREY, INK, SMALL_POINTS, TWO_COLUMNS, Point, looks_of, new_figure, tinted

HEIGHT = 3.4
"""Inches."""

LARGEST_RADIUS = 24.0
"""Radius of the largest bubble in points; the areas of the others are proportional."""

CORNERS = {"lower right": (1, 0), "lower left": (0, 0), "upper right": (1, 1), "upper left": (0, 1)}
"""Possible corners for the legend of areas, in axes coordinates."""

_SIZE = re.compile(r",?[- ](tiny|small|base|large|huge|XS|S|B|L|H)\b.*$")


@dataclass(frozen=True)
class Bubble:
    """One system.

    Attributes:
        parameters: parameters in millions.
        mult_adds: multiply-adds in T, counted as by torchinfo and the paper's "FLOPs".
        dsc: DSC in per cent.
    """

    parameters: float
    mult_adds: float
    dsc: Point


def draw_bubbles(bubbles: Mapping[str, Bubble], stamp: str = "") -> Figure:
    """Draw Figure 1; a line joins the systems of a family, in order of computation.

    Args:
        bubbles: system to bubble.
        stamp: text above the figure.
    """
    look_of_family = looks_of(map(family_of, bubbles))
    looks = {system: look_of_family[family_of(system)] for system in bubbles}
    radii = {system: radius_of(bubble.parameters, bubbles) for system, bubble in bubbles.items()}
    figure = new_figure(TWO_COLUMNS, HEIGHT, stamp)
    axes = figure.subplots()
    _set_axes(axes, bubbles)
    for family, look in look_of_family.items():
        own = sorted((b for s, b in bubbles.items() if looks[s] == look), key=lambda b: b.mult_adds)
        x, y = [b.mult_adds for b in own], [b.dsc.value for b in own]
        axes.plot(x, y, color=look.colour, ls=look.line, lw=0.9, marker=look.marker, ms=3, label=family, zorder=4)
    for system in sorted(bubbles, key=lambda system: -bubbles[system].parameters):
        _draw_bubble(axes, bubbles[system], looks[system].colour, radii[system])
    _add_sizes(axes, bubbles)
    places = {system: (b.mult_adds, b.dsc.value, radii[system]) for system, b in bubbles.items()}
    figure.draw_without_rendering()
    label_bubbles(axes, places, looks)
    _draw_paper(axes, bubbles)
    return figure


def family_of(system: str) -> str:
    """The name without the size.

    >>> family_of("SwinUNETR-B"), family_of("STU-Net, tiny"), family_of("nnU-Net*"), family_of("nnFormer")
    ('SwinUNETR', 'STU-Net', 'nnU-Net', 'nnFormer')
    """
    return _SIZE.sub("", system).rstrip("*")


def radius_of(parameters: float, bubbles: Mapping[str, Bubble]) -> float:
    """Radius in points of the bubble for this number of parameters, relative to the largest."""
    most = max(bubble.parameters for bubble in bubbles.values())
    return LARGEST_RADIUS * (parameters / most) ** 0.5


def _draw_bubble(axes: Axes, bubble: Bubble, colour: str, radius: float) -> None:
    at = (bubble.mult_adds, bubble.dsc.value)
    area = (2 * radius) ** 2  # matplotlib's measure: the square around the disc
    axes.scatter(*at, s=area, color=[tinted(colour)], edgecolors=colour, linewidths=0.7, alpha=0.75, zorder=3)
    if bubble.dsc.interval:
        axes.vlines(bubble.mult_adds, *bubble.dsc.interval, color=colour, lw=0.8, zorder=5)
    if len(bubble.dsc.runs) > 1:
        axes.scatter([bubble.mult_adds] * len(bubble.dsc.runs), bubble.dsc.runs, s=5, color=INK, lw=0, zorder=6)


def _draw_paper(axes: Axes, bubbles: Mapping[str, Bubble]) -> None:
    """A dash at each DSC from the paper, with a legend."""
    printed = [(b.mult_adds, b.dsc.paper) for b in bubbles.values() if b.dsc.paper is not None]
    if printed:
        x, y = zip(*printed, strict=True)
        dashes = axes.plot(x, y, ls="", marker="_", ms=7, mew=0.9, color=INK, label="paper", zorder=6)
        axes.legend(handles=dashes, loc="upper left")


def _set_axes(axes: Axes, bubbles: Mapping[str, Bubble]) -> None:
    """Set limits that contain all bubbles, scales and titles."""
    x = [bubble.mult_adds for bubble in bubbles.values()]
    y = [value for b in bubbles.values() for value in (*b.dsc.runs, *(b.dsc.interval or ()))]
    y += [b.dsc.paper for b in bubbles.values() if b.dsc.paper is not None]
    room = max(0.2 * (max(y) - min(y)), 0.5)
    axes.set_xscale("log")
    axes.set_xlim(min(x) / 1.7, max(x) * 2.2)
    axes.set_ylim(min(y) - room, max(y) + room)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("FLOPs, as the paper counts them (T multiply-adds in a forward pass)")
    axes.set_ylabel("DSC (%)")


def _add_sizes(axes: Axes, bubbles: Mapping[str, Bubble]) -> None:
    """A legend of the areas: three powers of ten as discs on one baseline, largest first."""
    most = max(bubble.parameters for bubble in bubbles.values())
    largest = 10.0 ** floor(log10(most))
    steps = [largest, largest / 10, largest / 100]
    drawing = DrawingArea(2 * LARGEST_RADIUS + 70, 2 * LARGEST_RADIUS + 10)
    left = 1.0
    for parameters in steps:
        radius = radius_of(parameters, bubbles)
        slot = max(radius, 10.0)  # room for the letters below
        drawing.add_artist(Circle((left + slot, 10 + radius), radius, fill=False, edgecolor=GREY, lw=0.7))
        drawing.add_artist(Text(left + slot, 6, f"{parameters:g} M", ha="center", va="top", fontsize=SMALL_POINTS))
        left += 2 * slot + 4
    title = TextArea("Parameters", textprops={"fontsize": SMALL_POINTS})
    box = VPacker(children=[title, drawing], align="center", pad=0, sep=3)
    corner = _free_corner(axes, bubbles)
    axes.add_artist(AnchoredOffsetbox(corner, child=box, frameon=False, pad=0.2, borderpad=0.5))


def _free_corner(axes: Axes, bubbles: Mapping[str, Bubble]) -> str:
    """The corner whose nearest bubble is farthest away."""
    centres = axes.transData.transform([(bubble.mult_adds, bubble.dsc.value) for bubble in bubbles.values()])
    places = axes.transAxes.inverted().transform(centres)
    return max(CORNERS, key=lambda name: np.linalg.norm(places - CORNERS[name], axis=1).min())
