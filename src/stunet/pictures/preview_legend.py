"""Draw the legend of a preview: names, colours, volumes and DSC, the meaning of white outlines, and a scale bar."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from stunet.imaging.label_array import count_labels
from stunet.pictures.display import scale_bar_mm
from stunet.pictures.style import DIM_COLOUR, REFERENCE_COLOUR, REFERENCE_POINTS, TEXT_COLOUR, lightened

LEAST_LINE, MOST_LINE = 0.165, 0.27
"""Minimum and maximum line spacing in inches."""

LETTERS_PER_LINE = 0.62
"""Font size relative to the line spacing."""

LETTER_WIDTH = 0.53
"""Average width of a letter relative to the font size."""

NUMBER_LINES = 3.6
"""Width of a column of numbers relative to the line spacing."""

NAME_LINES = 1.6
"""Width of the swatch and the spaces around a name relative to the line spacing."""

LEAST_NAME_INCHES = 1.55
"""Minimum width for swatch and name in a block, enough for most names."""

MOST_BLOCK_INCHES = 3.6
"""Maximum width of a block, so that numbers stay close to their names."""

BLOCK_GAP = 0.3
"""Inches between blocks."""

LONGEST_BLOCK = 24
"""Maximum number of structures in a block; structures that do not fit into any block are counted."""

LARGEST_IN_MM3 = 20_000.0
"""Volumes are shown in mm³ if none is larger than this, otherwise in ml."""


@dataclass(frozen=True)
class Row:
    """One structure of the legend."""

    label: int
    name: str
    mm3: float
    dsc: float | None


@dataclass(frozen=True)
class Legend:
    """The content of the legend: structures in the order of their labels, and whether to explain white outlines."""

    rows: tuple[Row, ...]
    has_reference: bool

    @property
    def numbers(self) -> list[str]:
        """The headings of the columns of numbers, from right to left."""
        has_scores = any(row.dsc is not None for row in self.rows)
        return [*(["DSC"] if has_scores else []), "mm³" if self.is_in_mm3 else "ml"]

    @property
    def is_in_mm3(self) -> bool:
        """Whether volumes are shown in mm³."""
        return all(row.mm3 <= LARGEST_IN_MM3 for row in self.rows)

    def number(self, row: Row, heading: str) -> str:
        """The text of a cell in a column of numbers."""
        if heading == "DSC":
            return "" if row.dsc is None else f"{row.dsc:.3f}"
        return f"{row.mm3:,.0f}" if self.is_in_mm3 else f"{row.mm3 / 1000:,.1f}"

    def blocks(self, width: float, height: float) -> int:
        """The number of blocks side by side: as few as the height allows, at most as many as fit the width."""
        most = int(
            (width + BLOCK_GAP) // (LEAST_NAME_INCHES + BLOCK_GAP + LEAST_LINE * NUMBER_LINES * len(self.numbers))
        )
        lines = int(height / LEAST_LINE - self._other_lines)
        return max(1, min(most, math.ceil(len(self.rows) / max(lines, 1))))

    def height(self, blocks: int) -> float:
        """The minimum height in inches."""
        return (self.block_length(blocks) + self._other_lines) * LEAST_LINE

    def line_of_whole_names(self, block_width: float) -> float:
        """The largest line spacing at which no name is cut in a block of this width."""
        letters = max((len(row.name) for row in self.rows), default=0)
        return block_width / (NAME_LINES + NUMBER_LINES * len(self.numbers) + letters * LETTERS_PER_LINE * LETTER_WIDTH)

    def block_length(self, blocks: int) -> int:
        """The number of structures in each block; the last may have fewer."""
        return min(math.ceil(len(self.rows) / blocks), LONGEST_BLOCK)

    def shown(self, blocks: int) -> list[Row]:
        """The listed structures: all in their order, or the largest ones if not all fit."""
        room = blocks * LONGEST_BLOCK
        rows = list(self.rows)
        return rows if len(rows) <= room else sorted(rows, key=lambda row: -row.mm3)[:room]

    @property
    def _other_lines(self) -> float:
        """Lines for the heading, the space below it and the foot."""
        return 3.5 + self.has_reference


def make_legend(
    labels_ZYX: np.ndarray,
    names: Mapping[int, str],
    voxel_mm3: float,
    dsc: Mapping[int, float] | None,
    has_reference: bool,
) -> Legend:
    """Create the legend from the structures that are present."""
    counts = count_labels(labels_ZYX, max(names, default=0) + 1)
    rows = (
        Row(label, name.replace("_", " "), float(counts[label]) * voxel_mm3, (dsc or {}).get(label))
        for label, name in sorted(names.items())
        if label and counts[label]
    )
    return Legend(tuple(rows), has_reference)


def draw_legend(
    axes: Axes,
    legend: Legend,
    colours: Mapping[int, np.ndarray],
    size: tuple[float, float],
    blocks: int,
    mm_per_inch: float,
) -> None:
    """Draw the structures from the top, and the meaning of white outlines and a scale bar at the bottom.

    Args:
        axes: Empty; its units become inches.
        legend: What to write.
        colours: Label to red, green, blue in 0..1.
        size: Inches (width, height), at least `legend.height(blocks)` high.
        blocks: Number of blocks side by side.
        mm_per_inch: mm of the patient per inch, for the scale bar.
    """
    width, height = size
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    block_width = min((width + BLOCK_GAP) / blocks - BLOCK_GAP, MOST_BLOCK_INCHES)
    fitting = min(height * LEAST_LINE / legend.height(blocks), legend.line_of_whole_names(block_width))
    pen = _Pen(axes, min(max(fitting, LEAST_LINE), MOST_LINE))
    shown, length = legend.shown(blocks), max(legend.block_length(blocks), 1)
    for number, start in enumerate(range(0, max(len(shown), 1), length)):
        left = number * (block_width + BLOCK_GAP)
        _draw_block(pen, legend, shown[start : start + length], colours, left, block_width)
    _draw_foot(pen, legend, len(legend.rows) - len(shown), size, mm_per_inch)


@dataclass(frozen=True)
class _Pen:
    """Draws the elements of a line, scaled to the line spacing in inches."""

    axes: Axes
    line: float

    @property
    def points(self) -> float:
        """Font size."""
        return self.line * LETTERS_PER_LINE * 72

    def write(self, x: float, y: float, text: str, colour: str, align: str = "left") -> None:
        """Write text, vertically centred on y."""
        self.axes.text(x, y, text, color=colour, size=self.points, ha=align, va="center_baseline", parse_math=False)

    def swatch(self, x: float, y: float, colour: np.ndarray) -> None:
        """Draw a square, vertically centred on y."""
        side = 0.6 * self.line
        corner = (x + 0.15 * self.line, y - side / 2)
        self.axes.add_patch(Rectangle(corner, side, side, facecolor=colour, edgecolor=lightened(colour)))

    def stroke(self, length: float, y: float, points: float) -> None:
        """Draw a white line from the left edge."""
        self.axes.plot([0, length], [y, y], color=REFERENCE_COLOUR, linewidth=points, solid_capstyle="butt")


def _draw_block(
    pen: _Pen, legend: Legend, rows: list[Row], colours: Mapping[int, np.ndarray], left: float, width: float
) -> None:
    """Draw a heading and one line per structure."""
    line = pen.line
    rights = [(left + width - line * NUMBER_LINES * number, heading) for number, heading in enumerate(legend.numbers)]
    room = width - line * (NAME_LINES + NUMBER_LINES * len(rights))
    letters = int(room * 72 / (pen.points * LETTER_WIDTH) + 1e-6)  # where the longest name fits exactly
    pen.write(left, 0.5 * line, "structure" if rows else "no structure was found", DIM_COLOUR)
    for right, heading in rights if rows else ():
        pen.write(right, 0.5 * line, heading, DIM_COLOUR, "right")
    for number, row in enumerate(rows):
        y = (number + 1.6) * line
        pen.swatch(left, y, colours[row.label])
        pen.write(left + 1.3 * line, y, shortened(row.name, letters), TEXT_COLOUR)
        for right, heading in rights:
            pen.write(right, y, legend.number(row, heading), TEXT_COLOUR, "right")


def _draw_foot(pen: _Pen, legend: Legend, left_out: int, size: tuple[float, float], mm_per_inch: float) -> None:
    """Draw the scale bar on the last line, the meaning of outlines above it, and the number of structures left out."""
    width, height = size
    line, last_line = pen.line, height - 0.5 * pen.line
    length = scale_bar_mm(min(0.4 * width, MOST_BLOCK_INCHES / 2) * mm_per_inch)
    pen.stroke(length / mm_per_inch, last_line, 2.0)
    pen.write(length / mm_per_inch + 0.4 * line, last_line, f"{length:g} mm", DIM_COLOUR)
    if legend.has_reference:
        pen.stroke(0.9 * line, last_line - line, REFERENCE_POINTS)
        pen.write(1.3 * line, last_line - line, "outline of the reference", DIM_COLOUR)
    if left_out:
        pen.write(width, last_line, f"and {left_out} more structures", DIM_COLOUR, "right")


def shortened(text: str, longest: int) -> str:
    """Cut a text to at most `longest` characters.

    >>> shortened("gallbladder", 8)
    'gallbla…'
    """
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
