"""Figure 3: image, reference and the systems' answers side by side, a row for each case."""

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

from stunet.errors import UserError
from stunet.experiments.panel_cases import PanelCase
from stunet.experiments.plots_data import distinct
from stunet.experiments.plots_style import SMALL_POINTS, TWO_COLUMNS, new_figure
from stunet.experiments.results import Results
from stunet.imaging.formats.registry import read_labels, read_volume
from stunet.imaging.preview_scene import DISPLAY_ORIENTATION, brightness, finite, intensity_window
from stunet.imaging.volume import Volume, reorient
from stunet.labels.ontology import colour_of

Colour = tuple[float, float, float]
"""Red, green and blue in 0..1."""

FILL_OPACITY = 0.45

OUTLINE_POINTS = 0.7

SCALE_BARS_MM = (5, 10, 20, 50, 100)
"""The longest that is at most a third of the picture's width is drawn."""

SAME_AFFINE_MM = 0.01
"""Two grids are the same if no entry of their affines differs by more."""

WIDEST_PICTURE = 1.5
"""Inches."""

SIDE, ABOVE, ROW_GAP, LEGEND_LINE = 0.25, 0.4, 0.04, 0.13
"""Inches for the rows' titles, for the columns' titles and the stamp, between rows, and for a line of the legend."""

LEGEND_COLUMNS, MOST_NAMES = 4, 16
"""A legend names so many structures at most; more could not be told by their colours."""


@dataclass(frozen=True, eq=False)
class PanelRow:
    """The slices of one case, in radiological display: the patient's right on the left, anterior at the top.

    Attributes:
        title: beside the row.
        image: (rows, columns), 0 black to 1 white.
        labels: column's name to (rows, columns) of labels; "reference" first.
        spacing: mm of a pixel, down and across.
        names: label to structure.
        colours: label to red, green and blue in 0..1.
        dsc: system to the DSC of the whole case, a share.
    """

    title: str
    image: np.ndarray
    labels: Mapping[str, np.ndarray]
    spacing: tuple[float, float]
    names: Mapping[int, str]
    colours: Mapping[int, Colour]
    dsc: Mapping[str, float]

    @property
    def size(self) -> tuple[float, float]:
        """Height and width in mm."""
        rows, columns = self.image.shape
        return rows * self.spacing[0], columns * self.spacing[1]


def draw_panels(results: Results, cases: Sequence[PanelCase]) -> Figure:
    """Figure 3, from the axial slice of each case that holds most of its reference.

    Each picture fills the same width; a bar in the first tells its scale. A system's picture tells the DSC of the case.

    Raises:
        UserError: files that cannot be read, or label files on another grid than their scan.
    """
    rows = [read_row(case, results) for case in cases]
    systems = distinct(system for case in cases for system in case.predictions)
    columns = ["image", "reference", *systems]
    width = min((TWO_COLUMNS - SIDE) / len(columns), WIDEST_PICTURE)
    heights = [width * row.size[0] / row.size[1] for row in rows]
    legend = _legend_of(rows)
    height = sum(heights) + ROW_GAP * len(rows) + ABOVE + LEGEND_LINE * -(-len(legend) // LEGEND_COLUMNS)
    figure = new_figure(results, width * len(columns) + SIDE, height)
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
    """The structures that the pictures show, each name once; none if they are too many to be told by colour."""
    shown = {
        row.names[label]: row.colours[label]
        for row in rows
        for label in row.names
        if any((labels == label).any() for labels in row.labels.values())
    }
    if len(shown) > MOST_NAMES:
        return []
    return [Patch(facecolor=(*c, FILL_OPACITY), edgecolor=c, label=name.replace("_", " ")) for name, c in shown.items()]


def read_row(case: PanelCase, results: Results) -> PanelRow:
    """The slices of a case and what the results say of it.

    Raises:
        UserError: files that cannot be read, or label files on another grid than their scan.
    """
    scan = read_volume(case.image)
    scan = replace(scan, array=scan.array[:1])
    files = {"reference": case.reference, **case.predictions}
    labels = {name: _labels_on(scan, path) for name, path in files.items()}
    shown, moves = reorient(scan, DISPLAY_ORIENTATION)
    turned = {name: moves.apply(array_ZYX) for name, array_ZYX in labels.items()}
    z = fullest_slice(np.isin(turned["reference"], list(case.names)))
    window = intensity_window(shown.array[0])
    return PanelRow(
        title=case.title,
        image=brightness(finite(shown.array[0, z], window), window),
        labels={name: array_ZYX[z] for name, array_ZYX in turned.items()},
        spacing=(shown.spacing[1], shown.spacing[2]),
        names=case.names,
        colours={label: _colour(name, label) for label, name in case.names.items()},
        dsc=_dsc_of(case, results),
    )


def _colour(name: str, label: int) -> Colour:
    red, green, blue = (byte / 255 for byte in colour_of(name, label))
    return red, green, blue


def _labels_on(scan: Volume, path: Path) -> np.ndarray:
    labels = read_labels(path)
    if labels.shape != scan.shape or np.abs(labels.affine - scan.affine).max() > SAME_AFFINE_MM:
        raise UserError(f"{path} does not lie on the grid of {scan.source}, so they cannot be shown together.")
    return labels.array[0]


def fullest_slice(mask_ZYX: np.ndarray) -> int:
    """The slice along Z with most foreground; the middle one where there is none."""
    counts = mask_ZYX.sum(axis=(1, 2))
    return int(counts.argmax()) if counts.any() else len(mask_ZYX) // 2


def _dsc_of(case: PanelCase, results: Results) -> dict[str, float]:
    """System to the DSC of one case: of its target, or the mean over the targets that the results hold."""
    values: dict[str, list[float]] = {}
    for measurement in results.measurements:
        value = measurement.cases.get(case.case)
        is_meant = measurement.metric == "DSC" and case.target in (None, measurement.target)
        if is_meant and value is not None:
            values.setdefault(measurement.system, []).append(value)
    return {system: sum(found) / len(found) for system, found in values.items()}


def _draw_picture(axes: Axes, row: PanelRow, name: str) -> None:
    height, width = row.size
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    extent = (0.0, width, height, 0.0)
    if name != "image" and name not in row.labels:
        axes.set_facecolor("none")
        return
    axes.imshow(row.image, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="bilinear", zorder=0)
    if name in row.labels:
        _draw_structures(axes, row.labels[name], row.colours, extent)
    axes.set(xlim=(0, width), ylim=(height, 0))
    if name in row.dsc:
        _write(axes, f"DSC {100 * row.dsc[name]:.1f}")


def _draw_structures(
    axes: Axes,
    labels: np.ndarray,
    colours: Mapping[int, Colour],
    extent: tuple[float, float, float, float],
) -> None:
    """A transparent fill of each structure, and an outline along the edges of its pixels."""
    fill = np.zeros((*labels.shape, 4))
    _, width, height, _ = extent
    scale = np.array([width / labels.shape[1], height / labels.shape[0]])  # mm of a pixel: across, down
    for label in np.unique(labels).tolist():
        if label in colours:
            fill[labels == label] = (*colours[label], FILL_OPACITY)
            lines = edges_of(labels == label) * scale
            outline = LineCollection(list(lines), colors=[colours[label]], linewidths=OUTLINE_POINTS, zorder=2)
            outline.set_capstyle("round")
            axes.add_collection(outline, autolim=False)
    axes.imshow(fill, extent=extent, interpolation="nearest", zorder=1)


def edges_of(mask: np.ndarray) -> np.ndarray:
    """Where a mask (rows, columns) ends: straight lines (n, 2 ends, x and y) along the edges of its pixels.

    >>> edges_of(np.array([[True, True]])).tolist()
    [[[0, 0], [2, 0]], [[0, 1], [2, 1]], [[0, 0], [0, 1]], [[2, 0], [2, 1]]]
    """
    across = _runs(np.diff(np.pad(mask, 1).astype(np.int8), axis=0)[:, 1:-1])
    down = _runs(np.diff(np.pad(mask, 1).astype(np.int8), axis=1)[1:-1].T)
    flat = [((start, level), (end, level)) for level, start, end in across]
    upright = [((level, start), (level, end)) for level, start, end in down]
    return np.array(flat + upright).reshape(-1, 2, 2)


def _runs(steps: np.ndarray) -> list[tuple[int, int, int]]:
    """Row, first and end column of each stretch of equal values that are not 0."""
    padded = np.pad(steps, ((0, 0), (1, 1)))
    changes = np.diff(padded, axis=1)
    found = []
    for row in np.flatnonzero(changes.any(axis=1)).tolist():
        places = np.flatnonzero(changes[row]).tolist()
        found += [(row, a, b) for a, b in pairwise(places) if padded[row, a + 1]]
    return found


def _write(axes: Axes, text: str) -> None:
    axes.annotate(
        text, (0, 1), xycoords="axes fraction", xytext=(2, -2), textcoords="offset points", ha="left", va="top",
        color="white", size=SMALL_POINTS - 0.5, path_effects=[withStroke(linewidth=1.2, foreground="black")],
    )  # fmt: skip


def _add_scale_bar(axes: Axes, size: tuple[float, float]) -> None:
    height, width = size
    longest = max((mm for mm in SCALE_BARS_MM if mm <= width / 3), default=SCALE_BARS_MM[0])
    halo = [withStroke(linewidth=2.2, foreground="black")]
    left, level = 0.05 * width, 0.95 * height
    axes.plot([left, left + longest], [level, level], color="white", lw=1.4, solid_capstyle="butt", path_effects=halo)
    axes.annotate(
        f"{longest} mm", (left, level), xytext=(0, 2.5), textcoords="offset points", ha="left", va="bottom",
        color="white", size=SMALL_POINTS - 0.5, path_effects=[withStroke(linewidth=1.2, foreground="black")],
    )  # fmt: skip
