"""The style of all pictures: sizes, fonts, colours and markers of previews (for screens) and figures (for print)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from cycler import cycler
from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from stunet.files import made_folder, replacing

SCREEN_DPI, PRINT_DPI = 160, 300
"""Dots per inch of previews, and of figures as PNG files."""

TEXT_COLOUR, DIM_COLOUR, REFERENCE_COLOUR = "#e8ebf0", "#8b93a1", "#ffffff"
"""Colours of text and of the reference in previews."""

CAPTION_POINTS, REFERENCE_POINTS = 7.5, 0.9
"""Size of small text and width of the reference's outline in previews."""

ONE_COLUMN, TWO_COLUMNS = 3.5, 7.2
"""Widths of a figure in inches, for one and for both columns of a printed page."""

POINTS, SMALL_POINTS = 7.0, 6.0
"""Font sizes in figures; the larger is for axes and names."""

GREY, INK, STAMP_COLOUR = "#6b6b6b", "#1a1a1a", "#a33c00"
"""Colours of lines and text in figures."""

_TICKS = {"labelsize": SMALL_POINTS, "color": INK, "major.width": 0.6, "major.size": 2.5, "minor.size": 0}

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # included in matplotlib, so figures are the same everywhere
    "font.size": POINTS,
    "axes.labelsize": POINTS,
    "axes.titlesize": POINTS,
    "legend.fontsize": SMALL_POINTS,
    "legend.frameon": False,
    "figure.titlesize": SMALL_POINTS,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,  # embedded TrueType, as publishers require
    "axes.prop_cycle": cycler(color=[INK]),
    **{f"{axis}tick.{key}": value for axis in "xy" for key, value in _TICKS.items()},
}
"""matplotlib's settings for figures."""

# The colour-blind safe colours of Okabe and Ito, without yellow, which is too light for paper.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p")
_LINES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))


@dataclass(frozen=True)
class Look:
    """Colour, marker and line that distinguish systems, with and without colour.

    Attributes:
        colour: red, green and blue as "#rrggbb".
        marker: matplotlib's marker.
        line: matplotlib's line style.
    """

    colour: str
    marker: str
    line: str | tuple[int, tuple[float, ...]]

    @property
    def letters(self) -> tuple[float, float, float]:
        """The colour, darkened so that text is legible."""
        red, green, blue = to_rgb(self.colour)
        return 0.65 * red, 0.65 * green, 0.65 * blue


@dataclass(frozen=True)
class Point:
    """One point in a figure.

    Attributes:
        value: mean of the runs.
        runs: the value of each run, one per seed.
        interval: 95 % bootstrap interval over the cases of a single run; None for several runs or too few cases.
        paper: the paper's value; None if it is not shown.
    """

    value: float
    runs: tuple[float, ...]
    interval: tuple[float, float] | None
    paper: float | None


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """A look for each name, in order of appearance; the first 44 differ in marker or line."""
    kinds = zip(cycle(_COLOURS), cycle(_MARKERS), cycle(_LINES), strict=False)
    return {name: Look(*kind) for name, kind in zip(dict.fromkeys(names), kinds, strict=False)}


def lightened(colour: np.ndarray) -> np.ndarray:
    """Lighten a colour (3,) in 0..1 by a quarter towards white."""
    return colour + 0.25 * (1 - colour)


def tinted(colour: str) -> tuple[float, float, float]:
    """Lighten a colour "#rrggbb" by 65 % towards white; returns red, green and blue in 0..1.

    >>> tinted("#000000")
    (0.65, 0.65, 0.65)
    """
    red, green, blue = (0.65 + 0.35 * part for part in to_rgb(colour))
    return red, green, blue


def hide_frame(axes: Axes) -> None:
    """Remove ticks, grid and frame."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


@contextmanager
def figure_style() -> Iterator[None]:
    """In this context, figures have this style, regardless of matplotlib's current settings."""
    with rc_context(rcParamsDefault), rc_context(STYLE):
        yield


def new_figure(width: float, height: float, stamp: str = "") -> Figure:
    """An empty figure with width and height in inches, and the stamp above it."""
    figure = Figure(figsize=(width, height), layout="constrained")
    if stamp:
        figure.suptitle(stamp, x=0.01, ha="left", color=STAMP_COLOUR, weight="bold", fontsize=SMALL_POINTS)
    return figure


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `name`.pdf, with embedded fonts, and `name`.png; the same figure gives the same bytes.

    Raises:
        UserError: the folder or a file cannot be written.
    """
    paths = [made_folder(folder) / f"{name}.{kind}" for kind in ("pdf", "png")]
    for path, metadata in zip(paths, ({"CreationDate": None}, {}), strict=True):
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=PRINT_DPI, metadata=metadata)
    return paths
