"""The style of all pictures: previews are for screens, figures for print. Sizes, letters, colours and marks."""

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
"""Dots per inch of a preview, and of a figure's PNG file."""

TEXT_COLOUR, DIM_COLOUR, REFERENCE_COLOUR = "#e8ebf0", "#8b93a1", "#ffffff"
"""Colours of letters and of the reference in previews."""

CAPTION_POINTS, REFERENCE_POINTS = 7.5, 0.9
"""Height of small letters and width of the reference's outline in previews."""

ONE_COLUMN, TWO_COLUMNS = 3.5, 7.2
"""Widths of a figure in inches, for one and for both columns of a printed page."""

POINTS, SMALL_POINTS = 7.0, 6.0
"""Heights of letters in figures; the larger is for axes and names."""

GREY, INK, STAMP_COLOUR = "#6b6b6b", "#1a1a1a", "#a33c00"
"""Colours of lines and letters in figures."""

_TICKS = {"labelsize": SMALL_POINTS, "color": INK, "major.width": 0.6, "major.size": 2.5, "minor.size": 0}

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so the figure is the same everywhere
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
    "pdf.fonttype": 42,  # TrueType, embedded, as publishers ask for
    "axes.prop_cycle": cycler(color=[INK]),
    **{f"{axis}tick.{key}": value for axis in "xy" for key, value in _TICKS.items()},
}
"""matplotlib's settings for figures."""

# The colours of Okabe and Ito, told apart by people of every colour vision; their yellow is too light for paper.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p")
_LINES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))


@dataclass(frozen=True)
class Look:
    """What tells one system from another, in colour and without it.

    Attributes:
        colour: red, green and blue as "#rrggbb".
        marker: matplotlib's letter for it.
        line: matplotlib's style of a line.
    """

    colour: str
    marker: str
    line: str | tuple[int, tuple[float, ...]]

    @property
    def letters(self) -> tuple[float, float, float]:
        """The colour, dark enough to be read as letters."""
        red, green, blue = to_rgb(self.colour)
        return 0.65 * red, 0.65 * green, 0.65 * blue


@dataclass(frozen=True)
class Point:
    """One place in a figure.

    Attributes:
        value: mean of the runs.
        runs: the value of each run; one for each seed.
        interval: 95 % bootstrap interval over the cases of a single run; None for several runs or too few cases.
        paper: the paper's value; None where it is not shown.
    """

    value: float
    runs: tuple[float, ...]
    interval: tuple[float, float] | None
    paper: float | None


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """A look for each name, by the order in which the names appear; the first 44 differ in marker or line."""
    kinds = zip(cycle(_COLOURS), cycle(_MARKERS), cycle(_LINES), strict=False)
    return {name: Look(*kind) for name, kind in zip(dict.fromkeys(names), kinds, strict=False)}


def lightened(colour: np.ndarray) -> np.ndarray:
    """A colour (3,) in 0..1, a quarter of the way to white."""
    return colour + 0.25 * (1 - colour)


def tinted(colour: str) -> tuple[float, float, float]:
    """A colour "#rrggbb" as red, green and blue in 0..1, 65 % of the way to white.

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
    """Within this context, figures have this style, whatever has changed matplotlib's settings before."""
    with rc_context(rcParamsDefault), rc_context(STYLE):
        yield


def new_figure(width: float, height: float, stamp: str = "") -> Figure:
    """An empty figure; width and height are in inches, and the stamp stands above it."""
    figure = Figure(figsize=(width, height), layout="constrained")
    if stamp:
        figure.suptitle(stamp, x=0.01, ha="left", color=STAMP_COLOUR, weight="bold", fontsize=SMALL_POINTS)
    return figure


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `name`.pdf, with its letters embedded, and `name`.png; the same figure gives the same bytes.

    Raises:
        UserError: the folder or a file cannot be written.
    """
    paths = [made_folder(folder) / f"{name}.{kind}" for kind in ("pdf", "png")]
    for path, metadata in zip(paths, ({"CreationDate": None}, {}), strict=True):
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=PRINT_DPI, metadata=metadata)
    return paths
