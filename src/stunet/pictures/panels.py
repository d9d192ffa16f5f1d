"""Draw Figure 3: image, reference and the systems' predictions side by side, one row per case."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from stunet.imaging.formats.registry import read_labels, read_volume
from stunet.imaging.volume import check_same_grid, reorient
from stunet.pictures.display import (
    DISPLAY_ORIENTATION,
    brightness,
    colours_of,
    finite,
    fullest_slice,
    intensity_window,
    scale_bar_mm,
)
from stunet.pictures.style import SMALL_POINTS, TWO_COLUMNS, hide_frame, new_figure

FILL_OPACITY, OUTLINE_POINTS = 0.45, 0.7

REFERENCE = "reference"
"""The column of the experts' labels."""

WIDEST_PICTURE = 1.5
"""Inches."""

SIDE, ABOVE, ROW_GAP, LEGEND_LINE = 0.25, 0.4, 0.04, 0.13
"""Inches for row titles, for column titles and stamp, between rows, and per line of the legend."""

LEGEND_COLUMNS, MOST_NAMES = 4, 16
"""The legend lists at most `MOST_NAMES` structures, because more colours could not be distinguished."""


@dataclass(frozen=True, eq=False)
class PanelRow:
    """The slices of one case, in radiological display: the patient's right on the left, anterior at the top.

    Attributes:
        title: title next to the row.
        image: (rows, columns), 0 black to 1 white.
        labels: `REFERENCE` and systems to labels (rows, columns).
        spacing: height and width of a pixel in mm.
        names: label to structure; other labels are not drawn.
        dsc: system to the DSC of the whole case, 0 to 1.
    """

    title: str
    image: np.ndarray
    labels: Mapping[str, np.ndarray]
    spacing: tuple[float, float]
    names: Mapping[int, str]
    dsc: Mapping[str, float]

    @property
    def size(self) -> tuple[float, float]:
        """Height and width in mm."""
        rows, columns = self.image.shape
        return rows * self.spacing[0], columns * self.spacing[1]


def read_row(
    title: str, image: Path, labels: Mapping[str, Path], names: Mapping[int, str], dsc: Mapping[str, float]
) -> PanelRow:
    """Read the axial slice of a case with most voxels of the named structures in the reference.

    Args:
        title: title next to the row.
        image: the scan; its first channel is shown.
        labels: `REFERENCE` and systems to label files.
        names: label to structure.
        dsc: system to the DSC of the whole case, 0 to 1.

    Raises:
        UserError: a file cannot be read, or a label file is not on the scan's grid.
    """
    scan = read_volume(image)
    shown, moves = reorient(replace(scan, array=scan.array[:1]), DISPLAY_ORIENTATION)
    turned = {}
    for name, path in labels.items():
        volume = read_labels(path)
        check_same_grid(scan, volume)
        turned[name] = moves.apply(volume.array[0])
    z = fullest_slice(np.isin(turned[REFERENCE], list(names)))
    window = intensity_window(shown.array[0])
    return PanelRow(
        title=title,
        image=brightness(finite(shown.array[0, z], window), window),
        labels={name: array_ZYX[z] for name, array_ZYX in turned.items()},
        spacing=shown.spacing[1:],
        names=names,
        dsc=dsc,
    )


def draw_panels(rows: Sequence[PanelRow], stamp: str = "") -> Figure:
    """Draw Figure 3: columns for the image, the reference and each system, one row per case.

    All pictures have the same width; a bar in the first picture of a row shows its scale. A system's picture shows the
    DSC of the case. The stamp is written above the figure.
    """
    columns = list(dict.fromkeys(["image", *(name for row in rows for name in row.labels)]))
    width = min((TWO_COLUMNS - SIDE) / len(columns), WIDEST_PICTURE)
    heights = [width * row.size[0] / row.size[1] for row in rows]
    legend = _legend_of(rows)
    height = sum(heights) + ROW_GAP * len(rows) + ABOVE + LEGEND_LINE * -(-len(legend) // LEGEND_COLUMNS)
    figure = new_figure(width * len(columns) + SIDE, height, stamp)
    grid = figure.subplots(len(rows), len(columns), squeeze=False, height_ratios=heights)
    figure.set_layout_engine("compressed", w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)
    for row, line in zip(rows, grid, strict=True):
        line[0].set_ylabel(row.title)
        for name, axes in zip(columns, line, strict=True):
            _draw_picture(axes, row, name)
        _add_scale_bar(line[0], row.size)
    for name, axes in zip(columns, grid[0], strict=True):
        axes.set_title(name, pad=3)
    if legend:
        figure.legend(handles=legend, loc="outside lower center", ncols=LEGEND_COLUMNS, handlelength=1, borderpad=0.1)
    return figure


def _legend_of(rows: Sequence[PanelRow]) -> list[Patch]:
    """The structures in the pictures, each name once; empty if there are too many to distinguish by colour."""
    shown = {
        row.names[label]: colour
        for row in rows
        for label, colour in colours_of(row.names).items()
        if any((labels == label).any() for labels in row.labels.values())
    }
    if len(shown) > MOST_NAMES:
        return []
    return [
        Patch(facecolor=(*c, FILL_OPACITY), edgecolor=(*c, 1), label=name.replace("_", " "))
        for name, c in shown.items()
    ]


def _draw_picture(axes: Axes, row: PanelRow, name: str) -> None:
    height, width = row.size
    hide_frame(axes)
    extent = (0.0, width, height, 0.0)
    if name != "image" and name not in row.labels:
        axes.set_facecolor("none")
        return
    axes.imshow(row.image, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="bilinear", zorder=0)
    if name in row.labels:
        _draw_structures(axes, row, row.labels[name])
    axes.set(xlim=(0, width), ylim=(height, 0))
    if name in row.dsc:
        _write(axes, f"DSC {100 * row.dsc[name]:.1f}", (0, 0), (2, -2), "top")


def _draw_structures(axes: Axes, row: PanelRow, labels: np.ndarray) -> None:
    """A transparent fill of each structure, and an outline along the edges of its pixels."""
    height, width = row.size
    fill = np.zeros((*labels.shape, 4))
    for label, colour in sorted(colours_of(row.names).items()):
        is_structure = labels == label
        if is_structure.any():
            fill[is_structure] = (*colour, FILL_OPACITY)
            lines = edges_of(is_structure) * row.spacing[::-1]
            outline = LineCollection(list(lines), colors=[colour], linewidths=OUTLINE_POINTS, zorder=2)
            outline.set_capstyle("round")
            axes.add_collection(outline, autolim=False)
    axes.imshow(fill, extent=(0, width, height, 0), interpolation="nearest", zorder=1)


def edges_of(mask: np.ndarray) -> np.ndarray:
    """The outline of a mask (rows, columns): straight lines (n, 2 ends, x and y) along its pixels' edges.

    >>> edges_of(np.array([[True, True]])).tolist()
    [[[0, 0], [2, 0]], [[0, 1], [2, 1]], [[0, 0], [0, 1]], [[2, 0], [2, 1]]]
    """
    across = _runs(np.diff(np.pad(mask, 1).astype(np.int8), axis=0)[:, 1:-1])
    down = _runs(np.diff(np.pad(mask, 1).astype(np.int8), axis=1)[1:-1].T)
    flat = [((start, level), (end, level)) for level, start, end in across]
    upright = [((level, start), (level, end)) for level, start, end in down]
    return np.array(flat + upright).reshape(-1, 2, 2)


def _runs(steps: np.ndarray) -> list[tuple[int, int, int]]:
    """Row, first and end column of each run of equal nonzero values."""
    padded = np.pad(steps, ((0, 0), (1, 1)))
    changes = np.diff(padded, axis=1)
    found = []
    for row in np.flatnonzero(changes.any(axis=1)).tolist():
        places = np.flatnonzero(changes[row]).tolist()
        found += [(row, a, b) for a, b in pairwise(places) if padded[row, a + 1]]
    return found


def _write(axes: Axes, text: str, place: tuple[float, float], shift: tuple[float, float], va: str) -> None:
    """Write text next to a position in mm, shifted by a few points."""
    axes.annotate(
        text, place, xytext=shift, textcoords="offset points", ha="left", va=va, annotation_clip=False,
        color="white", size=SMALL_POINTS - 0.5, path_effects=[withStroke(linewidth=1.2, foreground="black")],
    )  # fmt: skip


def _add_scale_bar(axes: Axes, size: tuple[float, float]) -> None:
    height, width = size
    length = scale_bar_mm(width / 3)
    halo = [withStroke(linewidth=2.2, foreground="black")]
    left, level = 0.05 * width, 0.95 * height
    axes.plot([left, left + length], [level, level], color="white", lw=1.4, solid_capstyle="butt", path_effects=halo)
    _write(axes, f"{length:g} mm", (left, level), (0, 2.5), "bottom")
