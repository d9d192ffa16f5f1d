"""How all figures of this room look: sizes for print, letters, colours, marks, and how a figure becomes files."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from cycler import cycler
from matplotlib import rc_context, rcParamsDefault
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stunet.experiments.experiment import MINI_REMARK
from stunet.experiments.results import Results
from stunet.files import made_folder, replacing

ONE_COLUMN, TWO_COLUMNS = 3.5, 7.2
"""Widths of a figure in inches, for one and for both columns of a printed page."""

DOTS_PER_INCH = 300
"""Of the PNG file."""

POINTS, SMALL_POINTS = 7.0, 6.0
"""Sizes of letters, of which the larger is for axes and names."""

GREY, INK = "#6b6b6b", "#1a1a1a"

STAMP_COLOUR = "#a33c00"

STAMPS = {"full": "", "mini": MINI_REMARK.replace(". ", ".\n", 1)}
"""What is written above the figure of a profile; any other is stamped with its name."""

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so the figure is the same everywhere
    "font.size": POINTS,
    "axes.labelsize": POINTS,
    "axes.titlesize": POINTS,
    "xtick.labelsize": SMALL_POINTS,
    "ytick.labelsize": SMALL_POINTS,
    "legend.fontsize": SMALL_POINTS,
    "legend.frameon": False,
    "figure.titlesize": SMALL_POINTS,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,  # TrueType, embedded, as publishers ask for
    "axes.prop_cycle": cycler(color=[INK]),
}


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
        return mixed(self.colour, 0.0, 0.35)


# The colours of Okabe and Ito, told apart by people of every colour vision; their yellow is too light for paper.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p")
_LINES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """A look for each name, by the order in which the names appear; the first 44 differ in marker or line."""
    distinct = list(dict.fromkeys(names))
    kinds = zip(cycle(_COLOURS), cycle(_MARKERS), cycle(_LINES), strict=False)
    return {name: Look(*kind) for name, kind in zip(distinct, kinds, strict=False)}


def mixed(colour: str, other: float, share: float) -> tuple[float, float, float]:
    """A colour "#rrggbb" as red, green and blue in 0..1, of which a share is another grey: 0.0 black, 1.0 white.

    >>> mixed("#000000", 1.0, 0.5)
    (0.5, 0.5, 0.5)
    """
    own = (byte / 255 for byte in bytes.fromhex(colour.removeprefix("#")))
    red, green, blue = (share * other + (1 - share) * part for part in own)
    return red, green, blue


def tinted(colour: str) -> tuple[float, float, float]:
    """A colour "#rrggbb" as red, green and blue in 0..1, much lighter."""
    return mixed(colour, 1.0, 0.65)


@contextmanager
def figure_style() -> Iterator[None]:
    """Inside, figures are made and written in this room's style, whatever has changed matplotlib's settings before."""
    with rc_context(rcParamsDefault), rc_context(STYLE):
        yield


def shows_paper(results: Results) -> bool:
    """Whether the paper's values belong into the figure: not beside results of less data and smaller networks."""
    return results.profile == "full"


def new_figure(results: Results, width: float, height: float) -> Figure:
    """An empty figure of so many inches, stamped with the profile of the results if that is not the full one."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    text = STAMPS.get(results.profile, f"Profile {results.profile}")
    if text:
        figure.suptitle(text, x=0.01, ha="left", color=STAMP_COLOUR, weight="bold", fontsize=SMALL_POINTS)
    return figure


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `name`.pdf, with its letters embedded, and `name`.png; the same figure gives the same bytes.

    Raises:
        UserError: the folder or a file cannot be written.
    """
    made_folder(folder)
    metadata = {"pdf": {"CreationDate": None}, "png": {}}
    paths = []
    for kind, told in metadata.items():
        paths.append(folder / f"{name}.{kind}")
        with replacing(paths[-1]) as temporary:
            figure.savefig(temporary, format=kind, dpi=DOTS_PER_INCH, metadata=told)
    return paths
